"""The option ``--format`` for the output format of a command; ``--json`` is a hidden alias of one value."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

Command = Callable[..., None]


def format_option(forms: Sequence[str], text: str) -> Callable[[Command], Command]:
    """Add ``--format`` with the help ``text``; the command gets ``form``, by default the first of
    ``forms``.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*args: Any, form: str, as_json: bool, **kwargs: Any) -> None:
            command(*args, form="json" if as_json else form, **kwargs)

        hidden = click.option("--json", "as_json", is_flag=True, hidden=True)(run)
        return click.option(
            "--format", "form", type=click.Choice(forms), default=forms[0], show_default=True, help=text
        )(hidden)

    return decorate
