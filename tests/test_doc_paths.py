"""The pages of docs name modules, their contents and other pages that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
MODULE = re.compile(r"`((?:router|protocol|tests|conformance)/[\w/]+\.py)`")
BARE = re.compile(r"`(\w+\.py)`")
# Files of the reader, not of this repository: made by a page's sample, or an example of a user's module.
SAMPLE = re.compile(r"<!-- sample: file (\S+) -->")
EXAMPLES = {"router.py"}
FILES = {
    path.name for top in ("router", "protocol", "tests", "conformance") for path in (ROOT / top).rglob("*.py")
}
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")
SELECTED = re.compile(r"pytest (\S+\.py) -k (\w+)")
NAME = re.compile(r"`(\w+)`")
HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)


def names(page: Path, pattern: re.Pattern[str]) -> list[str]:
    return pattern.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_in_a_page_exist(page):
    assert [name for name in names(page, MODULE) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_without_a_path_exist(page):
    assert set(names(page, BARE)) <= FILES | EXAMPLES | set(names(page, SAMPLE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files(page):
    local = [link for link in names(page, LINK) if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_select_tests(page):
    for path, word in SELECTED.findall(page.read_text()):
        assert re.search(rf"def test_\w*{word}", (ROOT / path).read_text()), f"{path} has no test of {word}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in HEADING.findall(page.read_text()):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_of_a_page_lead_to_headings(page):
    wrong = []
    for link, anchor in ANCHOR.findall(page.read_text()):
        target = page.parent / link if link else page
        if "://" not in link and target.suffix == ".md" and anchor not in anchors(target):
            wrong.append(f"{link}#{anchor}")
    assert wrong == []


def behaviours() -> list[str]:
    """The rows of the table of behaviours."""
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.partition("## Where a behaviour is\n")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if MODULE.search(line)]


@pytest.mark.parametrize("row", behaviours(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_the_names_of_a_behaviour_are_defined_in_its_modules(row):
    text = "".join((ROOT / module).read_text() for module in MODULE.findall(row))
    names = NAME.findall(row.split("|")[3])
    assert names
    assert [name for name in names if not re.search(rf"^ *(?:def|class) {name}\b", text, re.MULTILINE)] == []


def test_there_are_behaviours():
    assert len(behaviours()) > 20
