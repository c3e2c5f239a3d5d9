"""``python -m leveret``, for where the ``leveret`` command is not on the path."""

from leveret.router.cli import main

main(prog_name="leveret")
