"""Words of log events, error texts and docstrings: the terms of the field, and no people."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import ROOT, modules

FORBIDDEN = re.compile(
    r"\b(told|nobody|somebody|whoever|whom|at hand|whose business|no business of)\b", re.IGNORECASE
)
RIDDLES = re.compile(r"(What|How|Whether|Who|Where)\b")  # as the first word of a module's docstring
LOG_METHODS = {"debug", "info", "warning", "error", "critical", "exception"}
# Packages, or modules in them, whose words are still to be revised. Remove one when it is done.
EXCEPTIONS: tuple[str, ...] = ()
PATHS = [path for _, path in modules()]


def texts_of(node: ast.AST) -> Iterator[str]:
    """Yield the string literals in an expression, including those of f-strings."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def is_raised(node: ast.Call) -> bool:
    """Return True for a call of an exception class, recognized by its name."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name.endswith(("Error", "Refused", "Found", "Failed", "Locked", "Invalid", "NotAllowed"))


def shown_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of log events and error messages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from ((node.lineno, text) for text in texts_of(node.exc))
        elif isinstance(node, ast.Call):
            is_log = isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS
            if is_log or is_raised(node):
                yield from ((node.lineno, text) for text in texts_of(node))


def first_lines(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line number and the first line of each docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text.partition("\n")[0]


def wrong_words(path: Path) -> list[str]:
    tree = ast.parse(path.read_bytes())
    firsts = list(first_lines(tree))
    found = [(line, text) for line, text in [*shown_texts(tree), *firsts] if FORBIDDEN.search(text)]
    found += [(line, text) for line, text in firsts if line == 1 and RIDDLES.match(text)]
    return [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in sorted(set(found))]


def is_excepted(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == each or name.startswith(f"{each}/") for each in EXCEPTIONS)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_use_plain_terms(path):
    if not is_excepted(path):
        assert wrong_words(path) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""What is told."""', 1),
        ('"""How it is done."""', 1),
        ('def f():\n    """Read for whom it is."""', 1),
        ('log.error("nobody reads", user=1)', 1),
        ('raise ValueError(f"{name} is whoever\'s")', 1),
        ('return NotFound("at hand")', 1),
        ('x = "told"\n# told\n"""Read the tolding."""', 0),
    ],
)
def test_words_are_found_where_people_read_them(source, count):
    tree = ast.parse(source)
    firsts = list(first_lines(tree))
    found = {text for _, text in [*shown_texts(tree), *firsts] if FORBIDDEN.search(text)}
    found |= {text for line, text in firsts if line == 1 and RIDDLES.match(text)}
    assert len(found) == count
