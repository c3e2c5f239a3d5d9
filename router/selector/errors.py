"""The error of the selector language."""

SHOWN = 24  # characters of a selector's part that an error text shows


class SelectorError(Exception):
    """A selector that cannot be compiled.

    ``message`` names the fault; ``column`` is its position, in characters of the whole text from 1, line
    breaks included. ``str(error)`` ends with the column, and is short enough for an AMQP reply text.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} at column {column}")
        self.message = message
        self.column = column


def shown(piece: str) -> str:
    """Return the beginning of a part of a selector, printable, in quotes unless it begins with a quote."""
    short = piece if len(piece) <= SHOWN else f"{piece[:SHOWN]}..."
    printable = "".join(one if one.isprintable() else "?" for one in short)
    return printable if printable.startswith(("'", '"')) else f"'{printable}'"
