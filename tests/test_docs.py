"""The pages of docs/: every link leads somewhere, and the index lists every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs" / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "device" / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that headings get on GitHub."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            path = (page.parent / target).resolve() if target else page
            assert path.exists(), link
            assert not anchor or anchor in anchors(path), link


def test_the_index_lists_every_page_once():
    listed = [link for link in re.findall(r"\]\(([^)\s:#]+\.md)\)", INDEX.read_text()) if not link.startswith("..")]
    pages = [path.relative_to(INDEX.parent) for path in ROOT.glob("docs/**/*.md") if path != INDEX]
    assert sorted(listed) == sorted(map(str, pages))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_the_repository_that_a_page_names_is_there(page):
    folders = "benchmarks|device|docs|edge_oneshot|examples|export|tests|tools"
    named = set(re.findall(rf"(?<![\w/.~-])((?:{folders})/[\w./-]*\w)", page.read_text()))
    outputs = set(re.findall(r"--out (\S+)", page.read_text()))
    assert [path for path in sorted(named - outputs) if not (ROOT / path).exists()] == []
