"""Have any function of the store raise. All are found by looking through its modules, new ones too."""

import importlib
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from unittest.mock import patch

import leveret.router.store

NOT_AT_WORK = {  # modules that read a directory before a broker serves anybody, or without a broker
    "journal.recovery", "lock", "message_restore", "metadata.bad_rows", "metadata.restore",
    "metadata.topology_restore", "opening", "salvage",
}  # fmt: skip
PREFIX = "leveret.router.store."
PREFIX = "leveret.router.store."
PREFIX = "leveret.router.store."
JUDGES = {"failure"}  # what decides what becomes of an exception


class Injected(Exception):
    """What a function raises on purpose."""


def modules() -> list[ModuleType]:
    """The modules that are at work between gathering and fdatasync."""
    found = pkgutil.walk_packages(leveret.router.store.__path__, PREFIX)
    names = [each.name.removeprefix(PREFIX) for each in found if not each.ispkg]
    names = [name for name in names if name not in NOT_AT_WORK | JUDGES]
    names = [name for name in names if not name.startswith("offline.")]
    return [importlib.import_module(f"{PREFIX}{name}") for name in names]


def module_of(name: str) -> str:
    """The module of a function of the store, below the package, as in ``journal.records``."""
    return next(part for part in MODULES if name.startswith(f"{PREFIX}{part}."))


def functions(module: ModuleType) -> Iterator[tuple[str, object, str, FunctionType]]:
    """All functions and methods that a module defines: name, owner, attribute there, and the function."""
    for name, value in list(vars(module).items()):
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield f"{module.__name__}.{name}", module, name, value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for attribute, method in list(vars(value).items()):
                if isinstance(method, FunctionType) and method.__code__.co_filename == module.__file__:
                    yield f"{module.__name__}.{name}.{attribute}", value, attribute, method


MODULES = [module.__name__.removeprefix(PREFIX) for module in modules()]


MODULES = [module.__name__.removeprefix(PREFIX) for module in modules()]


MODULES = [module.__name__.removeprefix(PREFIX) for module in modules()]


class Raising:
    """Wraps functions while it is entered. The one named ``target`` raises at its ``at``-th call, ``always``
    at each later one too; with ``after`` it has done its work by then. ``calls`` are all calls by name.
    ``among`` are the modules of these functions, those of the store if there are none.
    """

    def __init__(
        self,
        target: str = "",
        at: int = 1,
        *,
        always: bool = False,
        after: bool = False,
        among: Sequence[ModuleType] = (),
    ) -> None:
        self.target = target
        self.at = at
        self.always = always
        self.after = after
        self.among = among or modules()
        self.armed = True
        self.calls: Counter[str] = Counter()
        self.raised = 0

    @contextmanager
    def entered(self) -> Iterator["Raising"]:
        with ExitStack() as stack:
            for module in self.among:
                for name, owner, attribute, function in functions(module):
                    if self.target in ("", name):
                        self._wrap(stack, name, owner, attribute, function)
            yield self

    def _wrap(
        self, stack: ExitStack, name: str, owner: object, attribute: str, function: FunctionType
    ) -> None:
        wrapped = self._wrapper(name, function)
        stack.enter_context(patch.object(owner, attribute, wrapped))
        if isinstance(owner, ModuleType):  # and wherever it was imported to
            for other in list(sys.modules.values()):
                if getattr(other, "__name__", "").startswith("leveret.router.") and other is not owner:
                    for alias, value in list(vars(other).items()):
                        if value is function:
                            stack.enter_context(patch.object(other, alias, wrapped))

    def _wrapper(self, name: str, function: FunctionType) -> Callable[..., object]:
        def wrapper(*args: object, **options: object) -> object:
            self._call(name, after=False)
            result = function(*args, **options)
            self._call(name, after=True)
            return result

        # It counts as code of the module that it stands for, as the function does whose exception this is.
        return FunctionType(
            wrapper.__code__, {**globals(), "__name__": function.__module__}, name, None, wrapper.__closure__
        )

    def _call(self, name: str, *, after: bool) -> None:
        if not self.armed or after is not self.after:
            return
        self.calls[name] += 1
        if name == self.target and (
            self.calls[name] == self.at or (self.always and self.calls[name] > self.at)
        ):
            self.raised += 1
            raise Injected(f"{name}, call {self.calls[name]}")
