"""Errors of subcommands, with their exit statuses."""

import sys
from typing import IO, Any

import click


class Failure(click.ClickException):
    """Ends the command with status 1, and a line on standard error for each line of the message."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message; click calls this. Parts of it may come from a broker, or from its clients."""
        from leveret.router.cli.terminal import printable  # a broker needs it for nothing else

        for line in self.message.splitlines():
            print(f"leveret: {printable(line)}", file=file or sys.stderr)


class WrongUsage(Failure):
    """Invalid arguments or options: status 2, like click's own errors about flags."""

    exit_code = 2
