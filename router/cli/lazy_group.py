"""Click group whose subcommands are imported on demand."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group of subcommands; ``lazy`` maps them to ``module:name``, in the order of the help.

    ``aliases`` maps other names of subcommands to their names; help and completion leave aliases out.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, str], aliases: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands; click calls this."""
        return [*self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the subcommand of this name or alias; click calls this."""
        place = self._lazy.get(self._aliases.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand as click does; a misspelt name is answered with the right one."""
        known = self._lazy.keys() | self._aliases.keys()
        if args and args[0] not in known and not args[0].startswith("-"):
            import difflib  # every start of a command would wait for it

            near = difflib.get_close_matches(args[0], self._lazy, n=1)
            if near:
                ctx.fail(f"No such command {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)
