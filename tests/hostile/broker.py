"""``python -m tests.hostile.broker serve``: the ``leveret`` command, which logs each turn of 5 ms or more."""

from leveret.router.turns import turn_times

turn_times.SLOW = 0.005
turn_times.PAUSE = 0

if __name__ == "__main__":
    from leveret.router.cli import main  # not before: modules import the names

    main(prog_name="leveret")
