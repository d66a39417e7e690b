r"""What a door keeps in memory: frames at full speed through the whole loop, and its resident memory on the way.

    python -m tests.campaigns.door_memory faces.oneshot --frames 864000 --out benchmarks/results/door-memory.json

864,000 frames are 24 hours at 10 frames a second. A scene of two minutes, in which the demo's two people come and go
before a room, is played again and again; the clock of the loop goes with the frames. The file is written some 200 times
on the way, so that a run that is broken off leaves what it saw.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from edge_oneshot.demo.door_scenes import Visit, plain_room, play
from edge_oneshot.faces.packages import ASTRONAUT, HOPPER, read_package_file
from edge_oneshot_device import Bundle, Recognizer
from edge_oneshot_device.door.approach import Approaches
from edge_oneshot_device.door.camera import Frame
from edge_oneshot_device.door.configuration import DoorConfig, SecondFactorSection
from edge_oneshot_device.door.guard import Guard
from edge_oneshot_device.door.journal import Journal
from edge_oneshot_device.door.loop import Door, Parts
from edge_oneshot_device.encoder import open_faces
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import PHOTO_SIDE
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests.scenes import portrait_of

RATE: Final = 10.0
SCENE: Final = 120.0  # seconds
WARM: Final = 0.1  # share of the frames that warm up
SAMPLES: Final = 200


class Reel:
    """A camera that plays the same frames again and again, as fast as they are taken; they are kept as JPEG."""

    fault, ended = None, False

    def __init__(self, pictures: Iterable[NDArray[np.uint8]]) -> None:
        self._pictures = []
        for picture in pictures:
            kept = io.BytesIO()
            Image.fromarray(picture).save(kept, "JPEG", quality=92)
            self._pictures.append(kept.getvalue())
        self.number = 0

    @property
    def now(self) -> float:
        """Seconds of the last frame."""
        return self.number / RATE

    def newest(self, _timeout: float) -> Frame:
        """The next frame."""
        self.number += 1
        with Image.open(io.BytesIO(self._pictures[self.number % len(self._pictures)])) as picture:
            return Frame(picture.convert("RGB"), self.now, self.number)


def resident() -> int:
    """Bytes of resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(bundle: Path, frames: int, seen: Callable[[dict[str, Any]], None]) -> None:
    """Play so many frames; what was seen so far is told some 200 times."""
    finder = open_faces(Bundle.open(bundle))
    assert finder is not None
    photos = [read_package_file(file) for file in (ASTRONAUT, HOPPER)]
    known, stranger = (portrait_of(load_photo(photo, PHOTO_SIDE), finder) for photo in photos)
    assert known is not None
    assert stranger is not None
    visits = [
        Visit(one, start, 6.0, near=near, seed=number)
        for number, (one, start, near) in enumerate(
            [(known, 10.0, 80.0), (stranger, 30.0, 70.0), (known, 60.0, 100.0), (stranger, 90.0, 60.0)]
        )
    ]
    scene = play(visits, plain_room(700, 525), SCENE, frames_per_second=RATE)
    reel = Reel(frame for _, frame in scene)
    config, told = DoorConfig(second_factor=SecondFactorSection(mode="off")), [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        state, key = Path(folder) / "state", Path(folder) / "key"
        install(bundle, state, InstallOptions(), key=key)
        with Recognizer.open(state, key=key) as recognizer, Guard(config) as guard:
            recognizer.enrol("somebody", photos[0])
            approaches = Approaches(recognizer.encoder, config.approach, recognizer.least_score)

            def tell(one: Any) -> None:
                told[0] += one.change is not None and one.change.after == "unlocked"
                told[1] += one.change is not None and one.change.after == "refused"

            parts = Parts(recognizer, Journal(recognizer.gallery), reel, approaches, guard, list, None, tell)  # type: ignore[arg-type]
            door = Door(config, parts, clock=lambda: reel.now)
            memory = []
            with Progress(console=Console(stderr=True)) as bar:
                for number in bar.track(range(frames)):
                    door.turn()
                    if (number + 1) % max(1, frames // SAMPLES) == 0:
                        memory.append(resident())
                        seen(figures(number + 1, told, memory))


def figures(frames: int, told: list[int], memory: list[int]) -> dict[str, Any]:
    """What was seen in so many frames."""
    warm = memory[int(WARM * len(memory)) :]
    return {
        "frames": frames,
        "unlocked": told[0],
        "refused": told[1],
        "resident MB": {
            "after warm-up": round(warm[0] / 1e6, 1),
            "at the end": round(warm[-1] / 1e6, 1),
            "least": round(min(warm) / 1e6, 1),
            "most": round(max(warm) / 1e6, 1),
        },
        "growth": round(warm[-1] / warm[0] - 1.0, 4),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=864_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)

    def keep(found: dict[str, Any]) -> None:
        if options.out is not None:
            write_atomically(options.out, (json.dumps(found, indent=1) + "\n").encode())
        elif found["frames"] >= options.frames:
            print(json.dumps(found, indent=1))

    measure(options.bundle, options.frames, keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
