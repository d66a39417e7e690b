"""Skips what needs the packages of the extra `faces` where they are not installed."""

from importlib import util

import pytest

from edge_oneshot.faces.packages import ASTRONAUT, MESH, SFACE


@pytest.fixture(scope="session")
def faces_extra() -> None:
    if any(util.find_spec(file.package) is None for file in (SFACE.stored, MESH, ASTRONAUT)):
        pytest.skip("the extra faces is not installed")
