"""docs/reference/security.md: each line of its tables names tests, and they exist."""

import re

import pytest

from tests import ROOT

PAGE = ROOT / "docs" / "reference" / "security.md"
COLUMNS = ["attacker", "capability", "what holds", "what does not", "tests"]


def rows() -> list[list[str]]:
    """The lines of all tables with these columns."""
    found, inside = [], False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells == COLUMNS)
        if inside and cells != COLUMNS and not set(line) <= set("|-"):
            found.append(cells)
    return found


@pytest.fixture(scope="module")
def there() -> set[str]:
    """Every test, as file::name."""
    return {
        f"{path.name}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def test_every_line_has_an_attacker_what_holds_what_does_not_and_tests_that_exist(there):
    assert len(rows()) > 20
    for cells in rows():
        assert len(cells) == len(COLUMNS), cells
        assert all(cells), cells
        named = re.findall(r"`(test_\w+\.py::test_\w+)`", cells[-1])
        assert named, cells[1]
        assert [one for one in named if one not in there] == [], cells[1]


def test_no_line_waits_for_somebody():
    assert "TODO" not in PAGE.read_text()
