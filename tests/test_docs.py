"""The pages of docs/: every link, file and import that they name is there, and the index lists every page."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from edge_oneshot_device.faces.finding import FACE_FAULTS
from edge_oneshot_device.liveness.watcher import FAILURES
from tools import door_reference

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
    made = set(re.findall(r"--out (\S+)|^--- (\S+) \(new\)", page.read_text(), re.MULTILINE))
    outputs = {path for pair in made for path in pair}
    assert [path for path in sorted(named - outputs) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_s_python_imports_is_there(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = importlib.import_module(node.module)
                assert [one.name for one in node.names if not hasattr(module, one.name)] == [], node.module


def test_every_step_of_the_design_s_walks_names_files_that_are_there():
    walks = (ROOT / "docs" / "design.md").read_text().partition("## Three walks")[2]
    base, steps = ROOT, 0
    for line in walks.splitlines():
        below = re.search(r"below `([\w/]+)`", line)
        base = ROOT / below[1] if below else base
        if line.startswith("|") and not set(line) <= set("|-") and not line.startswith("| step"):
            files = re.findall(r"`([^`]+\.py)`", line.strip("| ").split(" | ")[-1])
            assert files, line
            assert [file for file in files if not (base / file).exists()] == [], line
            steps += 1
    assert steps > 15


def test_every_page_that_the_code_names_is_there():
    folders = ("benchmarks", "device", "edge_oneshot", "export", "tests")
    code = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    named = {page for path in code for page in re.findall(r"(?<![\w/.])(docs/[\w/-]+\.\w+)", path.read_text())}
    assert named
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_the_guide_of_a_door_says_what_to_do_about_every_refusal_of_a_face_and_of_a_challenge():
    section = (ROOT / "docs" / "guides" / "door.md").read_text().partition("## What each refusal means\n")[2]
    rows = [line.split("|")[1] for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    named = set(re.findall(r"`(\w+)`", "".join(rows)))
    assert set(FACE_FAULTS) | set(FAILURES) <= named
    assert {"below_threshold", "ambiguous", "outside_hours", "rate_limited", "wrong_pin", "audit_unavailable"} <= named


def test_each_worked_example_is_short_and_touches_at_most_three_files_of_the_product():
    page = (ROOT / "docs" / "contributing.md").read_text().partition("## Worked examples\n")[2]
    examples = [example.strip().splitlines() for example in page.split("### ")[1:]]
    assert [lines[0] for lines in examples] == [
        f"Add {what}" for what in ("a training option", "a variant", "a runtime", "a dataset", "an objective")
    ]
    for title, *lines in examples:
        files = [line for line in lines if line.startswith("--- ")]
        assert len(lines) <= 40, title
        assert 1 <= len(files) <= 3, title
        assert not any("tests/" in file for file in files), title


def test_the_page_of_the_door_is_what_the_code_declares():
    assert (ROOT / "docs/reference/door.md").read_text() == door_reference.page(), "run make schema"
