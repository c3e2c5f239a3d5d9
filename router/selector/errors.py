"""The one error of the selector language."""

SHOWN = 24  # characters of a piece of a selector


class SelectorError(Exception):
    """A selector that cannot be compiled: what is wrong, and where.

    ``column`` counts the characters of the whole text from 1, line breaks included. ``str(error)`` ends with
    it, and is short enough for an AMQP reply text.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} at column {column}")
        self.message = message
        self.column = column


def shown(piece: str) -> str:
    """The beginning of a piece of a selector, printable, in quotes unless it has some."""
    short = piece if len(piece) <= SHOWN else f"{piece[:SHOWN]}..."
    printable = "".join(one if one.isprintable() else "?" for one in short)
    return printable if printable.startswith(("'", '"')) else f"'{printable}'"
