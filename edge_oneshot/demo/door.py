"""The demo of a door: a bundle for faces, one person enrolled, and a video in place of the camera.

Two portraits of installed packages are composed to a scene, see `edge_oneshot.demo.door_scenes`: one person is
enrolled, the other is a stranger. The loop that plays it is the device's own, `edge-oneshot-device run`.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_oneshot.demo.door_scenes import Portrait, Visit, plain_room, play, write_video
from edge_oneshot.demo.folder import MARKER, clear_state
from edge_oneshot.errors import TrainingError
from edge_oneshot.faces.packages import ASTRONAUT, HOPPER, read_package_file
from edge_oneshot_device import Bundle, Recognizer
from edge_oneshot_device.encoder import open_faces
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_export.options import ExportOptions

ENROLLED: Final = "Eileen Collins"
BUNDLE: Final = "faces.oneshot"
SECONDS: Final = 20.0
VARIANT: Final = "dynamic"

_RATE: Final = 15.0  # frames a second
_CONFIG: Final = """\
# The door of the demo. Its camera is a video; nothing is connected that could open.
name = "Demo"

[camera]
source = {source}

# the face alone opens here, because a face in a composed scene cannot do what the challenge asks for; whoever is
# enrolled walks up with the very photo, so that the demo shows the loop and says nothing of accuracy
[second_factor]
mode = "off"
"""


@dataclass(frozen=True, slots=True)
class DoorFiles:
    """What the demo of a door made.

    Attributes:
        bundle, state, key, video, config: Paths.
    """

    bundle: Path
    state: Path
    key: Path
    video: Path
    config: Path

    @property
    def command(self) -> list[str]:
        """The device's command that runs the door, without its output's form."""
        place = ["--state", str(self.state), "--key", str(self.key)]
        return [sys.executable, "-m", "edge_oneshot_device", "run", "--config", str(self.config), *place]


def has_bundle(folder: Path) -> bool:
    """Whether the bundle of an earlier demo is there and intact; else `prepare_door` makes one, with TensorFlow.

    Args:
        folder: As of `prepare_door`.
    """
    bundle = folder / BUNDLE
    try:
        return bundle.exists() and Bundle.open(bundle).manifest.input.face is not None
    except IntegrityError:
        return False


def prepare_door(folder: Path, progress: Callable[[str], None]) -> DoorFiles:
    """Make all that the demo of a door needs; a bundle that is there from before is used again.

    Args:
        folder: Where to; it is made if it does not exist.
        progress: Called with the name of each step as it begins.

    Raises:
        TrainingError: Reason ``not_a_demo``: the folder holds files, and no demo made it.
        DataError: Reason ``extra_missing`` or ``wrong_file``: a package with a net or a portrait is missing or another.
        MachineError: The disk does not allow it.
    """
    _make_room(folder)
    files = DoorFiles(*(folder / name for name in (BUNDLE, "state", "key", "door.avi", "door.toml")))
    photos = [read_package_file(file) for file in (ASTRONAUT, HOPPER)]
    if not has_bundle(folder):
        from edge_oneshot.faces.face_export import export_faces

        export_faces(files.bundle, ExportOptions(variants=(VARIANT,)), progress=progress)
    progress(f"enrolling {ENROLLED} from one photo")
    clear_state(files.state, files.key)
    install(files.bundle, files.state, InstallOptions(), key=files.key)
    with Recognizer.open(files.state, key=files.key) as recognizer:
        recognizer.enrol(ENROLLED, photos[0])
    progress("composing the scene")
    faces = open_faces(Bundle.open(files.bundle))
    assert faces is not None
    known, stranger = (_portrait(photo, faces) for photo in photos)
    visits = [
        Visit(known, start=1.0, seconds=4.5, near=90.0, seed=1),
        Visit(stranger, start=7.0, seconds=4.5, near=80.0, seed=2),
        Visit(stranger, start=13.5, seconds=3.5, near=55.0, aside=0.27, seed=3),
        Visit(known, start=13.0, seconds=5.0, near=80.0, aside=-0.14, seed=4),
    ]
    scene = play(visits, plain_room(700, 525), SECONDS, frames_per_second=_RATE)
    write_video(files.video, (frame for _, frame in scene), _RATE)
    write_atomically(files.config, _CONFIG.format(source=json.dumps(str(files.video.absolute()))).encode())
    return files


def _make_room(folder: Path) -> None:
    marker = folder / MARKER
    try:
        if folder.exists() and not marker.exists() and any(folder.iterdir()):
            message = f"{folder} exists, and no demo made it; name another folder with --out"
            raise TrainingError(message, reason="not_a_demo")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, b"'edge-oneshot demo --door' made this folder and may replace its files\n")
    except OSError as error:
        raise MachineError(f"cannot write in {folder}: {error.strerror}", reason="cannot_write") from error


def _portrait(photo: bytes, finder: FaceFinder) -> Portrait:
    image = load_photo(photo, PHOTO_SIDE)
    face = max(finder.find(image), key=lambda face: face.detection.size)
    return Portrait(np.asarray(image), face.detection.points[:2])
