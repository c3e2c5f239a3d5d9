"""The dependency rule: protocol knows nothing of the router, whose modules import downwards only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Bottom to top; modules on one line may import each other. A new one gets its place as low as possible.
LAYERS = (
    ("bench",),
    ("settings",),
    ("configuration", "logging"),
    ("values",),
    ("turns",),
    ("arguments",),
    ("deduplication",),
    ("selector",),
    ("exchange",),
    ("queue",),
    ("stream",),
    ("persistence",),
    ("vhost",),
    ("auth",),
    ("broker",),
    ("definitions",),
    ("web",),
    ("session",),
    ("cluster",),
    ("amqp", "stomp"),
    ("management",),
    ("store",),
    ("transactional_outbox",),
    ("core_bench",),
    ("postgresql",),
    ("server",),
    ("client",),
    ("cli",),
)
HEIGHT = {f"leveret.router.{name}": height for height, names in enumerate(LAYERS) for name in names}
SHORT_NAME = re.compile(r"^\s*(?:import|from) .*(?<![\w.])(?:router|protocol)\b", re.MULTILINE)
MAY_IMPORT_TRIO = {"leveret.router.server", "leveret.router.client", "leveret.router.cli"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*ROOT.glob("protocol/**/*.py"), *ROOT.glob("router/**/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield f"leveret.{name}", path


def imported(module: str, path: Path) -> Iterator[str]:
    """The full names of what a module imports, wherever in it."""
    parent = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parent.split(".")[: len(parent.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def package(name: str) -> str:
    """``leveret.router.queue`` belongs to ``leveret.router``."""
    return ".".join(name.split(".")[:2])


def part(name: str) -> str:
    """``leveret.router.queue.fifo`` belongs to ``leveret.router.queue``."""
    return ".".join(name.split(".")[:3])


@pytest.mark.parametrize(
    ("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_point_down(module, path):
    top = package(module)
    for name in imported(module, path):
        if name.split(".")[0] == "trio":
            assert part(module) in MAY_IMPORT_TRIO, f"{module} imports {name}"
        if package(name) == "leveret.router":
            assert top == "leveret.router", f"{module} imports {name}"
            assert HEIGHT[part(name)] <= HEIGHT[part(module)], f"{module} imports {name}"


def test_router_and_protocol_are_imported_by_their_full_names():
    """An installed leveret has no short names, and in a checkout they load a second copy of a module."""
    for top in ("router", "protocol", "tests", "conformance", ".import"):
        for path in ROOT.glob(f"{top}/**/*.py"):
            if SHORT_NAME.search(path.read_text()) is None:
                continue  # without parsing it
            short = {name for name in imported(top, path) if name.split(".")[0] in {"router", "protocol"}}
            assert not short, f"{path} imports {short}"


def test_every_part_of_the_router_has_its_place():
    parts = {part(module) for module, _path in modules() if module.startswith("leveret.router.")}
    assert parts == HEIGHT.keys()


def test_the_architecture_page_lists_the_same_layers():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.partition("## Layers")[2].split("```")[1].partition("router/\n")[2]
    names = [re.split(r"\s{2,}", line.strip())[0] for line in drawn.splitlines()]
    assert tuple(tuple(line.split(", ")) for line in names) == LAYERS


def test_imports_are_seen_wherever_they_stand(tmp_path):
    path = tmp_path / "b.py"
    path.write_text(
        "import trio.abc\nfrom . import x\ndef f():\n    from ..y import z\n    from leveret.web import q\n"
    )
    assert list(imported("leveret.router.a.b", path)) == [
        "trio.abc",
        "leveret.router.a.x",
        "leveret.router.y.z",
        "leveret.web.q",
    ]
