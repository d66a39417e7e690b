"""The device's program with a runtime that hangs while a file is there: the path that DOOR_HANGS names."""

import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.cli import main
from edge_oneshot_device.encoder import Encoder

_HANGS = Path(os.environ["DOOR_HANGS"])
_embed = Encoder.embed


def _hang(self: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    if _HANGS.exists():
        _HANGS.with_suffix(".begun").touch()
    while _HANGS.exists():
        time.sleep(0.01)
    return _embed(self, pixels)


if __name__ == "__main__":
    Encoder.embed = _hang  # type: ignore[method-assign]
    sys.exit(main())
