r"""Let strangers and enrolled people walk up to doors, and count who is let in.

    python -m tests.campaigns.door faces.oneshot --data lfw-half.zip --approaches 500 --galleries 10,100 \
        --out benchmarks/results/door-approaches.json

People are those of a zip of Labeled Faces in the Wild, each for one approach alone, so that approaches are independent
trials. Whoever is enrolled has two photos: one is enrolled, the other walks up. Strangers have one. Each approach is
composed (`tests.scenes`), written as a video of 640 x 480 pixels, played by the door's camera, followed, and its probe
decided as at the door: among every size of gallery and for every target FAR. Beside it, the first frame that the gate
takes is decided alone. An approach that makes no probe counts as rejected. An interrupted run resumes where its --out
ends.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from scipy.stats import binomtest

from edge_oneshot.demo.door_scenes import Light, Portrait, Visit, play, write_video
from edge_oneshot_device import Bundle, Encoder, Recognizer
from edge_oneshot_device.door.approach import Approaches
from edge_oneshot_device.door.camera import Camera, Frame
from edge_oneshot_device.door.configuration import ApproachSection, CameraSection
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from tests.campaigns.rendering.rooms import Rooms
from tests.scenes import ROOM, people

RATE: Final = 10.0  # frames a second
SECONDS: Final = 3.0  # of an approach
NEAR: Final = (50.0, 110.0)  # pixels between the eyes before the door
GAIN: Final = (0.6, 1.3)
NOISE: Final = (1.0, 5.0)
KINDS: Final = ("enrolled", "stranger")
WAYS: Final = ("approach", "frame")

Trial = dict[str, Any]
Probe = tuple[NDArray[np.float32], int]
"""A probe and the number of frames that it is joined from."""


def film(path: Path, portrait: Portrait, rooms: Rooms, rng: np.random.Generator) -> dict[str, float]:
    """Write the video of an approach; returns what was drawn of it."""
    near, gain, noise = (round(float(rng.uniform(*ends)), 2) for ends in (NEAR, GAIN, NOISE))
    visit = Visit(portrait, 0.0, SECONDS, near=near, aside=float(rng.uniform(-0.15, 0.15)), seed=int(rng.integers(1e9)))
    light = Light(gain, swing=float(rng.uniform(0.0, 0.15)), noise=noise)
    scene = play(
        [visit], rooms.draw(*ROOM, rng), SECONDS, frames_per_second=RATE, light=light, seed=int(rng.integers(1e9))
    )
    write_video(path, (frame for _, frame in scene), RATE)
    return {"near": near, "gain": gain, "noise": noise}


def frames_of(path: Path) -> Iterator[Frame]:
    """The frames of a video, as the door's camera gives them, one after the other."""
    with Camera(CameraSection(source=str(path), frames_per_second=60.0), paced=False) as camera:
        while not camera.ended:
            if (frame := camera.newest(10.0)) is not None:
                yield frame


def probes_of(path: Path, encoder: Encoder, least_score: float) -> tuple[dict[str, Probe | None], str | None]:
    """The probe of the approach in a video, that of its first usable frame, and why there is none, if there is none."""
    approaches = Approaches(encoder, ApproachSection(), least_score)
    single: Probe | None = None
    faults: Counter[str] = Counter()
    for frame in frames_of(path):
        if single is None:
            try:
                single = encoder.embed_image(frame.image), 1
            except InputError as error:
                faults[error.reason] += 1
        sight = approaches.see(frame)
        if sight.probe is not None:
            return {"approach": (sight.probe, sight.frames), "frame": single}, None
        if sight.reason is not None:
            faults[sight.reason] += 1
    return {"approach": None, "frame": single}, faults.most_common(1)[0][0] if faults else "no_face"


def decide(recognizer: Recognizer, probe: Probe | None, person: str) -> dict[str, Any]:
    """What the door decides about a probe: whom it lets in (``self``, ``other`` or nobody), and why."""
    if probe is None:
        return {"let in": None, "reason": "no_probe"}
    decision = recognizer.identify_probe(*probe)
    let_in = None if not decision.accepted else "self" if decision.person == person else "other"
    score = None if decision.score is None else round(decision.score, 4)
    return {"let in": let_in, "reason": decision.reason, "score": score, "kept": decision.kept_far}


class Doors:
    """The galleries of an approach: people are enrolled so many at a time, in their order.

    Args:
        bundle, encoder: What they are enrolled with.
        doors: The sizes of galleries, and the target FARs.
        folder: Where the galleries lie, each until the next of its size.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, doors: tuple[list[int], list[float]], folder: Path) -> None:
        self._manifest, self._encoder, self._folder = bundle.manifest, encoder, folder
        self._sizes, self._targets = doors
        self._open: dict[int, tuple[int, Gallery]] = {}
        create_key(folder / "key")

    def at(self, number: int, enrolled: list[tuple[str, list[Portrait]]]) -> dict[str, Recognizer]:
        """The recognizers for an approach, by ``size/target``; all of those enrolled are those of all galleries."""
        found = {}
        for size in self._sizes:
            block = number // size
            if self._open.get(size, (-1,))[0] != block:
                self._fill(size, block, enrolled[block * size : (block + 1) * size])
            for target in self._targets:
                found[f"{size}/{target:g}"] = self._recognizer(self._open[size][1], target)
        return found

    def _recognizer(self, gallery: Gallery, target: float | None = None) -> Recognizer:
        return Recognizer(self._encoder, self._manifest, gallery, target, limits=None)

    def _fill(self, size: int, block: int, own: list[tuple[str, list[Portrait]]]) -> None:
        if size in self._open:
            self._open.pop(size)[1].close()
        gallery = Gallery.open(
            self._folder / f"{size}-{block}.db",
            self._encoder.fingerprint,
            self._encoder.embedding.size,
            KeySource(self._folder / "key"),
            create=True,
        )
        self._open[size] = block, gallery
        recognizer = self._recognizer(gallery)
        for name, (photo, *_) in own:
            recognizer.enrol(name, photo.picture, even_if_alike=True)

    def close(self) -> None:
        """Close the galleries."""
        for _, gallery in self._open.values():
            gallery.close()


def settings_of(arguments: argparse.Namespace) -> str:
    """What the trials depend on, as it stands in the command."""
    galleries, targets = (",".join(f"{one:g}" for one in many) for many in (arguments.galleries, arguments.targets))
    return f"--galleries {galleries} --targets {targets} --seed {arguments.seed}"


def kept(log: Path, beginning: Trial) -> list[Trial]:
    """The trials of a run that was broken off, which began with the same line; a new file begins with it."""
    if not log.exists():
        log.write_text(json.dumps(beginning) + "\n")
    first, *trials = (json.loads(line) for line in log.read_text().splitlines())
    if first != beginning:
        raise SystemExit(f"{log} is of another run, {first}; remove it, or name another --out")
    return trials


def run(arguments: argparse.Namespace, log: Path) -> tuple[list[Trial], str]:
    """All trials, each by its own seed, and the encoder's fingerprint; trials of a broken-off run are kept."""
    bundle, count, seed = Bundle.open(arguments.bundle), arguments.approaches, arguments.seed
    encoder, rooms = Encoder.open(bundle), Rooms()
    assert encoder.faces is not None
    done = kept(log, {"settings": settings_of(arguments), "fingerprint": encoder.fingerprint})
    ready = {(trial["kind"], trial["number"]) for trial in done}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        columns = *Progress.get_default_columns(), MofNCompleteColumn()
        bar = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        reading = bar.add_task("people", total=len(KINDS) * count)
        drawn = {"enrolled": people(arguments.data, encoder.faces, 2, seed=seed)}
        drawn["stranger"] = people(arguments.data, encoder.faces, 1, most=1, seed=seed)
        shown = {kind: list(bar.track(islice(drawn[kind], count), task_id=reading)) for kind in KINDS}
        doors = Doors(bundle, encoder, (arguments.galleries, arguments.targets), folder)
        stack.callback(doors.close)
        lines = stack.enter_context(log.open("a"))
        going = bar.add_task("approaches", total=len(KINDS) * count, completed=len(ready))
        for number in range(count):
            for kind in (kind for kind in KINDS if (kind, number) not in ready and number < len(shown[kind])):
                name, portraits = shown[kind][number]
                rng = np.random.default_rng((seed, number, KINDS.index(kind)))
                drawn_as = film(folder / "door.avi", portraits[-1], rooms, rng)
                recognizers = doors.at(number, shown["enrolled"])
                least_score = next(iter(recognizers.values())).least_score
                probes, fault = probes_of(folder / "door.avi", encoder, least_score)
                decided = {
                    door: {way: decide(recognizer, probes[way], name) for way in WAYS}
                    for door, recognizer in recognizers.items()
                }
                trial = {"kind": kind, "number": number, **drawn_as, "fault": fault, "decided": decided}
                done.append(trial)
                lines.write(json.dumps(trial) + "\n")
                lines.flush()
                bar.advance(going)
    return done, encoder.fingerprint


def rate(errors: int, trials: int) -> dict[str, Any]:
    """A rate with its 95 % interval (Clopper and Pearson 1934); each trial is another person."""
    if not trials:
        return {"errors": 0, "of": 0}
    low, high = binomtest(errors, trials).proportion_ci(0.95, "exact")
    return {"errors": errors, "of": trials, "rate": errors / trials, "interval": [round(low, 5), round(high, 5)]}


def summary(trials: list[Trial], door: str, way: str) -> dict[str, Any]:
    """What happened at a door: false accepts of strangers, false rejects, and people taken for somebody else."""
    decided = {kind: [trial["decided"][door][way] for trial in trials if trial["kind"] == kind] for kind in KINDS}
    strangers, enrolled = decided["stranger"], decided["enrolled"]
    target = float(door.split("/")[1])
    kept = max([target, *(one.get("kept", target) for one in strangers)])
    accepts = rate(sum(one["let in"] is not None for one in strangers), len(strangers))
    return {
        "promised FPIR": kept,
        "false accepts": accepts,
        "within the promise": not strangers or accepts["interval"][0] <= kept,
        "false rejects": rate(sum(one["let in"] != "self" for one in enrolled), len(enrolled)),
        "taken for another": rate(sum(one["let in"] == "other" for one in enrolled), len(enrolled)),
        "reasons of false rejects": dict(Counter(o["reason"] for o in enrolled if o["let in"] != "self").most_common()),
        "highest score of a stranger": max((one.get("score") or -1.0 for one in strangers), default=None),
    }


def numbers(kind: type, text: str) -> list[Any]:
    """Numbers from a list with commas."""
    return [kind(word) for word in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot")
    parser.add_argument("--data", type=Path, required=True, metavar="lfw-half.zip")
    parser.add_argument("--approaches", type=int, default=500, metavar="N", help="of each kind (500)")
    parser.add_argument("--galleries", type=partial(numbers, int), default=[10, 100], metavar="N,N", help="(10,100)")
    parser.add_argument("--targets", type=partial(numbers, float), default=[1e-4, 1e-2], metavar="F,F",
                        help="target FARs (1e-4,1e-2)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    given = parser.parse_args(arguments)
    trials, fingerprint = run(given, given.out.with_suffix(".trials.jsonl"))
    doors = [f"{size}/{target:g}" for size in given.galleries for target in given.targets]
    found = {
        "command": f"python -m tests.campaigns.door {given.bundle.name} --data {given.data.name}"
        f" --approaches {given.approaches} {settings_of(given)}",
        "fingerprint": fingerprint,
        "people": "one approach each; the bundle's provisional thresholds are of the same half of LFW",
        "no probe": {
            kind: dict(Counter(t["fault"] for t in trials if t["kind"] == kind and t["fault"])) for kind in KINDS
        },
        "people enrolled/target FAR": {door: {way: summary(trials, door, way) for way in WAYS} for door in doors},
    }
    write_atomically(given.out, json.dumps(found, indent=1).encode() + b"\n")
    print(json.dumps(found, indent=1))
    ways = found["people enrolled/target FAR"].values()
    return int(not all(one["approach"]["within the promise"] for one in ways))


if __name__ == "__main__":
    sys.exit(main())
