"""The sizes of files and classes, and the names of classes: what keeps the code readable in small pieces."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATHS = sorted([*ROOT.glob("protocol/**/*.py"), *ROOT.glob("router/**/*.py")])
MOST_LINES, MOST_METHODS = 400, 28
LONG_FILES = {
    "protocol/amqp/methods.py": "a table of all methods of AMQP",
    "router/settings.py": "a table of all settings",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def classes() -> dict[str, list[tuple[Path, ast.ClassDef]]]:
    """The classes of the broker by name."""
    found = defaultdict(list)
    for path in PATHS:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append((path, node))
    return found


def test_files_are_short():
    long = {name_of(path) for path in PATHS if len(path.read_text().splitlines()) > MOST_LINES}
    assert long <= LONG_FILES.keys(), "cut it by responsibility"


def test_classes_are_small():
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    large = {
        name
        for name, found in classes().items()
        for _, node in found
        if sum(isinstance(member, functions) for member in node.body) > MOST_METHODS
    }
    assert large == set()


def test_a_name_of_a_class_is_given_once():
    """A traceback names a class without its module."""
    twice = {
        name: [name_of(path) for path, _ in found] for name, found in classes().items() if len(found) > 1
    }
    assert twice == {}


@pytest.mark.parametrize("path", [path for path in PATHS if path.name != "__init__.py"], ids=name_of)
def test_modules_say_what_they_are_for(path):
    assert ast.get_docstring(ast.parse(path.read_bytes()))
