"""``python -m router.cli``, for where the ``leveret`` command is not on the path."""

from router.cli import main

main(prog_name="leveret")
