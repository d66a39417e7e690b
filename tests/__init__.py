"""The tests, and the campaigns and samples that they share: a package, so that each imports the others by name."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
MODELS: Final = ROOT / "tests" / "device" / "data"
"""Tiny models, and files that former versions wrote."""
