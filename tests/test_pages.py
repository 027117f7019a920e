"""What README and docs point at is there: other pages and their parts, modules, files, scripts."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_a_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    broken = []
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert not broken


@every_page
def test_a_file_of_the_repository_that_is_named_is_there(page):
    names = re.findall(
        r"(?<![\w/.-])(?:pyro_sws|scripts|models|tests|docs)/[\w/.-]*\w", page.read_text()
    )
    assert not [name for name in set(names) if not (ROOT / name).exists()]


@every_page
def test_a_module_that_is_named_can_be_imported(page):
    for name in set(re.findall(r"\bpyro_sws(?:\.[A-Za-z_]\w*)+", page.read_text())):
        if not found(name):
            pytest.fail(f"there is no {name}")


def found(name: str) -> bool:
    """A module, or what lies in one."""
    try:
        importlib.import_module(name)
        return True
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
