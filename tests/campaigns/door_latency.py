r"""How soon a door opens, and what it asks of the processor: in real time, through the camera and the whole loop.

    python -m tests.campaigns.door_latency faces.oneshot --data lfw-half.zip --out benchmarks/results/door-latency.json

People of a zip of Labeled Faces in the Wild walk up one after the other, as `tests.scenes` composes them, to a door
that has each of them enrolled from another photo. Seconds are from the first frame that the quality gate takes to the
command to the lock. The share of the processor is that of all threads of the loop's process, by what is in view. Run
it while nothing else runs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.demo.door_scenes import Light, Portrait, Visit, play, write_video
from edge_oneshot_device import Bundle, Recognizer
from edge_oneshot_device.door.camera import Frame
from edge_oneshot_device.door.configuration import CameraSection, DoorConfig, SecondFactorSection
from edge_oneshot_device.door.loop import Door, Told
from edge_oneshot_device.door.running import run_door
from edge_oneshot_device.encoder import open_faces
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests.campaigns.rendering.rooms import Rooms
from tests.scenes import ROOM, people

RATE: Final = 15.0  # frames a second
EMPTY: Final = 10.0  # seconds of an empty room at the beginning
VISIT: Final = 4.0
APART: Final = 6.0  # from one visit to the next: a pulse of 3 s is over by then


class Watched:
    """What a door told, and what it asked of the processor."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.stages: dict[str, list[float]] = {}
        self.shares: dict[bool, list[float]] = {True: [], False: []}
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def show(self, door: Door, frame: Frame | None) -> None:
        """Note the stages of a turn, and the processor's time since the last one by whether somebody is in view."""
        if frame is None or door.sight is None:
            return
        cpu, wall = time.process_time(), time.monotonic()
        self.shares[door.sight.box is not None].append((cpu - self._cpu) / (wall - self._wall))
        self._cpu, self._wall = cpu, wall
        for stage, seconds in door.sight.stages.items():
            self.stages.setdefault(stage, []).append(1e3 * seconds)


def film(path: Path, portraits: list[Portrait], seed: int) -> None:
    """Write the video: an empty room, and then one person after the other."""
    rng = np.random.default_rng(seed)
    room = Rooms().draw(*ROOM, rng)
    visits = [
        Visit(one, EMPTY + APART * place, VISIT, near=float(rng.uniform(60, 110)), seed=int(rng.integers(1e9)))
        for place, one in enumerate(portraits)
    ]
    scene = play(
        visits, room, EMPTY + APART * len(portraits), frames_per_second=RATE, light=Light(1.0, swing=0.1, noise=2.0)
    )

    def frames() -> Iterator[NDArray[np.uint8]]:
        yield from (frame for _, frame in scene)

    write_video(path, frames(), RATE)


def measure(bundle: Path, data: Path, count: int, seed: int) -> dict[str, Any]:
    """Let so many people walk up; returns the figures."""
    finder = open_faces(Bundle.open(bundle))
    assert finder is not None
    with tempfile.TemporaryDirectory() as folder:
        state, key, video = (Path(folder) / name for name in ("state", "key", "door.avi"))
        install(bundle, state, InstallOptions(), key=key)
        walking: list[Portrait] = []
        with Recognizer.open(state, key=key) as recognizer:
            for name, (enrolled, other) in people(data, finder, 2, seed=seed):
                try:
                    recognizer.enrol(name, enrolled.picture)
                except InputError:
                    continue
                walking.append(other)
                if len(walking) == count:
                    break
        film(video, walking, seed)
        config = DoorConfig(
            camera=CameraSection(source=str(video), frames_per_second=RATE),
            second_factor=SecondFactorSection(mode="off"),
        )
        watched = Watched()
        run_door(config, threading.Event(), state=state, key=key, tell=watched.told.append, show=watched.show)
    return figures(watched, count)


def figures(watched: Watched, count: int) -> dict[str, Any]:
    """What was seen, in figures."""
    opened = sorted(
        told.seconds
        for told in watched.told
        if told.change is not None and told.change.after == "unlocked" and told.seconds is not None
    )
    refused = [told.reason for told in watched.told if told.change is not None and told.change.after == "refused"]
    return {
        "people": count,
        "opened": len(opened),
        "refused": refused,
        "seconds": {
            "median": round(statistics.median(opened), 3),
            "p95": round(float(np.quantile(opened, 0.95)), 3),
            "longest": round(opened[-1], 3),
        },
        "median_ms": {stage: round(statistics.median(spent), 1) for stage, spent in watched.stages.items()},
        "processor": {
            "nobody in view": round(statistics.mean(watched.shares[False]), 3),
            "somebody in view": round(statistics.mean(watched.shares[True]), 3),
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="zip or folder of Labeled Faces in the Wild")
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    found = measure(options.bundle, options.data, options.people, options.seed)
    print(json.dumps(found, indent=1))
    if options.out is not None:
        write_atomically(options.out, (json.dumps(found, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
