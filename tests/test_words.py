"""Words of log events, error texts, docstrings, comments, test names and pages: no riddles, and no people.

The patterns find only what has no good use. A text that passes may still have to be rewritten.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import ROOT, modules

FORBIDDEN = re.compile(
    r"\b(told|nobody|somebody|whoever|whom|at hand|whose business|no business of|is to be \w+ then)\b",
    re.IGNORECASE,
)
# As the first words of a docstring: a question, or a reference to another docstring.
RIDDLES = re.compile(r"(What|How|Whether|Who|Whom|Where|When|The same|It|Its|They|That|Those)\b")
# In test names, where words are parted by underscores.
FORBIDDEN_NAME = re.compile(r"(?<![a-z])(told|nobody|somebody|whoever|whom)(?![a-z])")
LOG_METHODS = {"debug", "info", "warning", "error", "critical", "exception"}
# Packages, or modules in them, whose words are still to be revised. Remove one when it is done.
EXCEPTIONS: tuple[str, ...] = ()
PATHS = [path for _, path in modules()]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


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


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def wrong_texts(source: str) -> list[tuple[int, str]]:
    """Return the line and the text of each log event, error, docstring and comment with wrong words."""
    tree = ast.parse(source)
    docs = list(docstrings(tree))
    texts = [*shown_texts(tree), *docs, *comments(source)]
    found = [(line, text) for line, text in texts if FORBIDDEN.search(text)]
    found += [(line, text) for line, text in docs if RIDDLES.match(text)]
    return sorted(set(found))


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page in Markdown that are not part of a sample."""
    in_sample = False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            in_sample = not in_sample
        elif not in_sample:
            yield number, re.sub(r"`[^`]*`", "", line)


def is_excepted(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == each or name.startswith(f"{each}/") for each in EXCEPTIONS)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_use_plain_terms(path):
    if not is_excepted(path):
        assert wrong_texts(path.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_use_plain_terms(page):
    assert [(number, line) for number, line in prose(page.read_text()) if FORBIDDEN.search(line)] == []


@pytest.mark.parametrize("folder", ["tests", "conformance"])
def test_names_of_tests_use_plain_terms(folder):
    names = {
        name
        for path in (ROOT / folder).rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert names
    assert sorted(filter(FORBIDDEN_NAME.search, names)) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""What is told."""', 1),
        ('"""How it is done."""', 1),
        ('def f():\n    """Read for whom it is."""', 1),
        ('log.error("nobody reads", user=1)', 1),
        ('raise ValueError(f"{name} is whoever\'s")', 1),
        ('return NotFound("at hand")', 1),
        ('"""Read.\n\nThe end is to be called then."""', 1),
        ("x = 1  # as it was told", 1),
        ('x = "told"\n"""Read the tolding."""', 0),
    ],
)
def test_words_are_found_where_people_read_them(source, count):
    assert len(wrong_texts(source)) == count


def test_samples_of_a_page_are_not_prose():
    page = "One `told` word.\n```python\n# nobody\n```\nTwo.\n"
    assert list(prose(page)) == [(1, "One  word."), (5, "Two.")]
