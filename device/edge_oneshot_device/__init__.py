"""One-shot recognition on the device: open a bundle, enrol from one image, verify, identify."""

import importlib
from typing import TYPE_CHECKING

from edge_oneshot_device.errors import DeviceError

if TYPE_CHECKING:
    from edge_oneshot_device.bundle import Bundle
    from edge_oneshot_device.encoder import Encoder
    from edge_oneshot_device.gallery import Person
    from edge_oneshot_device.matching import Decision
    from edge_oneshot_device.recognizer import Recognizer

__all__ = ["Bundle", "Decision", "DeviceError", "Encoder", "Person", "Recognizer"]

_HOMES = {
    "Bundle": "bundle",
    "Decision": "matching",
    "Encoder": "encoder",
    "Person": "gallery",
    "Recognizer": "recognizer",
}


def __getattr__(name: str) -> object:
    # numpy, Pillow and the rest are imported by what uses them, so that --help stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
