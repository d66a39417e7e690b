"""One-shot recognition on the device: open a bundle, enrol from one image, verify, identify."""

from typing import TYPE_CHECKING

from edge_oneshot_device.errors import DeviceError
from edge_oneshot_device.lazy import attribute_of

if TYPE_CHECKING:
    from edge_oneshot_device.bundle.bundle import Bundle
    from edge_oneshot_device.encoding.encoder import Encoder
    from edge_oneshot_device.gallery.people import Person
    from edge_oneshot_device.matching.decision import Decision
    from edge_oneshot_device.recognition.recognizer import Recognizer

__all__ = ["Bundle", "Decision", "DeviceError", "Encoder", "Person", "Recognizer"]

__getattr__ = attribute_of(
    __name__,
    {
        "Bundle": "bundle.bundle",
        "Decision": "matching.decision",
        "Encoder": "encoding.encoder",
        "Person": "gallery.people",
        "Recognizer": "recognition.recognizer",
    },
)
