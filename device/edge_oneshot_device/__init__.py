"""One-shot recognition on the device: open a bundle, enrol from one image, verify, identify."""

from typing import TYPE_CHECKING

from edge_oneshot_device.errors import DeviceError
from edge_oneshot_device.lazy import attribute_of

if TYPE_CHECKING:
    from edge_oneshot_device.bundle import Bundle
    from edge_oneshot_device.encoder import Encoder
    from edge_oneshot_device.gallery.people import Person
    from edge_oneshot_device.matching import Decision
    from edge_oneshot_device.recognizer import Recognizer

__all__ = ["Bundle", "Decision", "DeviceError", "Encoder", "Person", "Recognizer"]

__getattr__ = attribute_of(
    __name__,
    {
        "Bundle": "bundle",
        "Decision": "matching",
        "Encoder": "encoder",
        "Person": "gallery.people",
        "Recognizer": "recognizer",
    },
)
