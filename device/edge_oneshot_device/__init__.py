"""One-shot recognition on the device: open a bundle, enrol from one image, verify, identify."""

from typing import TYPE_CHECKING

from edge_oneshot_device.errors import DeviceError, InputError, IntegrityError, MachineError
from edge_oneshot_device.lazy import attribute_of

if TYPE_CHECKING:
    __version__: str
    from edge_oneshot_device.bundle.bundle import Bundle
    from edge_oneshot_device.encoder import Encoder
    from edge_oneshot_device.gallery.people import Person
    from edge_oneshot_device.matching.decision import Decision
    from edge_oneshot_device.recognition.recognizer import Recognizer

__all__ = [
    "Bundle",
    "Decision",
    "DeviceError",
    "Encoder",
    "InputError",
    "IntegrityError",
    "MachineError",
    "Person",
    "Recognizer",
]

_attribute = attribute_of(
    __name__,
    {
        "Bundle": "bundle.bundle",
        "Decision": "matching.decision",
        "Encoder": "encoder",
        "Person": "gallery.people",
        "Recognizer": "recognition.recognizer",
    },
)


def __getattr__(name: str) -> object:
    if name == "__version__":  # reading package metadata takes its time
        from importlib.metadata import version

        return version("edge-oneshot-device")
    return _attribute(name)
