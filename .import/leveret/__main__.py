"""Entry point of the ``leveret`` command, and of ``python -m leveret``."""

import gc

gc.disable()  # loading modules makes many objects and no garbage; ``main`` enables it again

from leveret.router.cli import main  # noqa: E402


def run() -> None:
    """Run the command."""
    main(prog_name="leveret")


if __name__ == "__main__":
    run()
