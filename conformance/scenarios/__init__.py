"""The scenarios: one file for each feature area, each with an ``AREA``."""

import importlib
import pkgutil

from conformance.differential.play import Scenario


def every() -> list[Scenario]:
    """All scenarios, in the order of the areas' names."""
    found: list[Scenario] = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        found += importlib.import_module(f"{__name__}.{info.name}").AREA.scenarios
    return found
