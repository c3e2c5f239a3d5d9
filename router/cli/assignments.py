"""Parsing of options that name a value: ``NAME=TEXT`` and ``NAME:=JSON``."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from leveret.router.cli.failure import WrongUsage


def parse_assignments(
    given: Sequence[str], option: str = "--argument", convert: Callable[[Any], Any] = lambda value: value
) -> dict[str, Any]:
    """Return the values by name; ``convert`` changes those that were JSON. Raises WrongUsage."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.removesuffix(":"):
            raise WrongUsage(f"{option} wants NAME=TEXT or NAME:=JSON, not {text!r}")
        if not name.endswith(":"):
            found[name] = value
            continue
        try:
            found[name[:-1]] = convert(json.loads(value))
        except ValueError as error:
            raise WrongUsage(f"{option} {text}: {error}; for plain text write {name[:-1]}={value}") from None
    return found
