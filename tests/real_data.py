"""Real data that is no part of the repository: the folder that EDGE_ONESHOT_TEST_DATA names."""

import os
from pathlib import Path
from typing import Final

import pytest

from tests import ROOT

ENVIRONMENT: Final = "EDGE_ONESHOT_TEST_DATA"


def real_data(name: str) -> Path:
    """A path in that folder; one that does not exist where the variable is not set."""
    folder = os.environ.get(ENVIRONMENT)
    return Path(folder).absolute() / name if folder else ROOT / f"{ENVIRONMENT} is not set" / name


def needs(path: Path) -> pytest.MarkDecorator:
    """Skip a test where this file or folder does not exist."""
    return pytest.mark.skipif(
        not path.exists(), reason=f"needs {path.name}: set {ENVIRONMENT} to the folder of real data"
    )


CORAL: Final = real_data("coral")
CASES: Final = real_data("cases")
LFW: Final = real_data("lfw/lfw-half.zip")
OLIVETTI: Final = real_data("olivetti/olivetti.zip")
OMNIGLOT: Final = Path(os.environ.get("EDGE_ONESHOT_DATA") or real_data("omniglot"))
"""EDGE_ONESHOT_DATA, as the program takes it, comes first."""
