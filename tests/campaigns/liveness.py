r"""Show the liveness challenge rendered people and rendered attacks, and count who passes.

    python -m tests.campaigns.liveness faces.oneshot --photos FOLDER --data olivetti.zip \
        --attacks 1000 --genuine 200 --out benchmarks/results/liveness.json

FOLDER holds colour photos, named after the people they show: a name ends before its first digit or underscore. From
Olivetti, the people from --first on are taken, each from the first frontal photo: grey, 64 pixels, tightly cropped.
They are counted separately among the living, and they show on every fourth attack. An interrupted run resumes where its
--out ends.
"""

import argparse
import io
import json
import random
import re
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from edge_oneshot_device.faces.mesh import Mesh
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.liveness.challenge import Challenge
from edge_oneshot_device.liveness.parallax import ReferenceView, Relief, View
from edge_oneshot_device.liveness.watcher import Watcher
from edge_oneshot_device.matching.thresholds import calibration_for
from tests.campaigns.rendering.acting import ATTACKS, Actor, genuine
from tests.campaigns.rendering.people import Person, person_of
from tests.campaigns.rendering.scene import Scene

FRAME = 0.125  # seconds between frames, give or take a sixth
LONGEST = 30.0  # seconds of a trial
ASIDE = 0.13  # of the nose on a photo from the front, from the middle between the eyes
LEAST_EYES = 20.0  # pixels between the eyes of a photo
SMALL = "genuine, small grey photos"
OLIVETTI_SIDE = 256  # pixels that its 64 are enlarged to


def from_the_front(photo: Image.Image, face: Mesh) -> bool:
    """Whether a face looks straight ahead, and is large enough to be drawn."""
    view = View(photo, face.points)
    return abs(view.aside) < ASIDE and view.eye_distance >= LEAST_EYES


def meshes(photo: Image.Image, finder: FaceFinder) -> list[Mesh]:
    """The mesh of each face of a photo."""
    return [mesh for face in finder.find(photo) if (mesh := finder.mesh(photo, face)) is not None]


def colour_people(folder: Path, finder: FaceFinder) -> Iterator[Person]:
    """Of each name the first photo from the front; of a photo with several faces each is somebody."""
    known = set()
    for path in sorted(folder.iterdir()):
        photo = load_photo(path, PHOTO_SIDE)
        name = re.split(r"[\d_.]", path.name)[0]
        faces = meshes(photo, finder)
        for number, face in enumerate(faces):
            called = name if len(faces) == 1 else f"{path.stem}/{number}"
            if called not in known and from_the_front(photo, face):
                known.add(called)
                yield person_of(called, photo, face)


def olivetti_people(archive: Path, first: int, last: int, finder: FaceFinder) -> Iterator[Person]:
    """Small grey faces, enlarged, on a grey ground."""
    with zipfile.ZipFile(archive) as files:
        for number in range(first, last + 1):
            for take in range(1, 11):
                content = files.read(f"olivetti/person{number:02}/{take:02}.png")
                small = Image.open(io.BytesIO(content)).convert("RGB")
                photo = Image.new("RGB", (OLIVETTI_SIDE * 2, OLIVETTI_SIDE * 2), (110, 105, 100))
                enlarged = small.resize((OLIVETTI_SIDE, OLIVETTI_SIDE), Image.Resampling.BICUBIC)
                photo.paste(enlarged, (OLIVETTI_SIDE // 2, OLIVETTI_SIDE // 2))
                faces = [face for face in meshes(photo, finder) if from_the_front(photo, face)]
                if faces:
                    yield person_of(f"olivetti{number:02}", photo, faces[0])
                    break


def trial(encoder: Encoder, least_score: float, actor: Actor, numbers: random.Random) -> dict[str, object]:
    """One challenge from beginning to end, and how near it came.

    Returns:
        passed, reason, action, done (actions seen), shown (who was, once it had begun), seconds, frames, and
        what was measured: the three largest reliefs to the side that was asked, the mean nearness for each time that
        the face was larger.
    """
    challenge, scene = Challenge.draw(numbers), Scene(numbers)
    watcher = Watcher(encoder, challenge, least_score)
    ask, seconds, frames = "look", 0.0, 0
    begun, shown = False, set()
    reliefs, near = [], []
    measured = ReferenceView.relief, ReferenceView.nearness

    def relief(self: ReferenceView, view: View) -> Relief:
        found = measured[0](self, view)
        reliefs.append(found.least * found.found * (1.0 if ask == "turn_left" else -1.0))
        return found

    def nearness(self: ReferenceView, view: View) -> float:
        found = measured[1](self, view)
        near.append(found / (self.shape(view)[0] - 1.0))
        return found

    ReferenceView.relief, ReferenceView.nearness = relief, nearness
    try:
        while seconds < LONGEST:
            seconds += FRAME * numbers.uniform(0.85, 1.15)
            frames += 1
            pose = actor.pose(ask, seconds)
            progress = watcher.feed(scene.frame(actor.person(seconds), actor.solid(seconds), pose, seconds), seconds)
            ask = progress.ask
            begun |= ask == "hold"
            if begun:
                shown.add(actor.person(seconds).name)
            if progress.result is not None:
                break
    finally:
        ReferenceView.relief, ReferenceView.nearness = measured
    result = progress.result
    return {
        "passed": result is not None and result.passed,
        "reason": result.reason if result is not None else "not_begun",
        "action": result.action if result is not None else None,
        "challenge": list(challenge.actions),
        "done": progress.done,
        "shown": sorted(shown),
        "seconds": round(seconds, 2),
        "frames": frames,
        "reliefs": [round(one, 4) for one in sorted(reliefs, reverse=True)[:3]],
        "nearness": round(float(np.mean(near)), 4) if near else None,
    }


def run(
    encoder: Encoder, people: dict[str, list[Person]], wanted: dict[str, int], seed: int, out: Path, least_score: float
) -> list[dict[str, object]]:
    """All trials, each by its own seed; those of a file that was broken off are kept."""
    log = out.with_suffix(".trials.jsonl")
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    with log.open("a") as lines:
        for number in range(max(wanted.values())):
            for kind in (kind for kind, count in wanted.items() if number < count):
                if any(one["kind"] == kind and one["number"] == number for one in done):
                    continue
                act = ATTACKS.get(kind, genuine)
                small = kind == SMALL or (kind in ATTACKS and number % 4 == 3)
                chosen = people["small" if small and people["small"] else "colour"]
                numbers = random.Random(f"{seed}/{kind}/{number}")
                start = time.process_time()
                found = trial(encoder, least_score, act(numbers, chosen), numbers)
                while kind == "swapped" and found["passed"] and len(found["shown"]) == 1:
                    # it was over before anybody was swapped: a living head alone may pass
                    found = trial(encoder, least_score, act(numbers, chosen), numbers)
                found |= {"kind": kind, "number": number, "cpu": round(time.process_time() - start, 2)}
                done.append(found)
                lines.write(json.dumps(found) + "\n")
                lines.flush()
                print(found, file=sys.stderr)
    return done


def summary(trials: list[dict[str, object]], kind: str) -> dict[str, object]:
    """Counts of a kind, and how near the nearest of them came."""
    own = [one for one in trials if one["kind"] == kind]
    near = [one["nearness"] for one in own if one["nearness"] is not None]
    failed = [f"{one['reason']}: {one['action'] or 'none asked'}" for one in own if not one["passed"]]
    return {
        "trials": len(own),
        "passed": sum(one["passed"] for one in own),
        "reasons": dict(Counter(failed).most_common()),
        "actions seen": dict(sorted(Counter(str(one["done"]) for one in own).items())),
        "largest relief": max((max(one["reliefs"], default=0.0) for one in own), default=None),
        "largest third relief": max((one["reliefs"][2] for one in own if len(one["reliefs"]) > 2), default=None),
        "largest nearness": max(near, default=None),
        "mean seconds": round(float(np.mean([one["seconds"] for one in own])), 1),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot")
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--data", type=Path, metavar="olivetti.zip")
    parser.add_argument("--first", type=int, default=14, metavar="N", help="person of Olivetti (14)")
    parser.add_argument("--last", type=int, default=40, metavar="N", help="likewise (40)")
    parser.add_argument("--attacks", type=int, default=1000, metavar="N", help="trials of all kinds together (1000)")
    parser.add_argument("--genuine", type=int, default=200, metavar="N", help="trials (200)")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    given = parser.parse_args(arguments)
    bundle = Bundle.open(given.bundle)
    encoder = Encoder.open(bundle)
    colour = list(colour_people(given.photos, encoder.faces))
    small = list(olivetti_people(given.data, given.first, given.last, encoder.faces)) if given.data else []
    calibration = calibration_for(bundle.manifest, encoder.variant, 1)
    least_score = next(point.threshold for point in calibration.points if point.target_far == calibration.target_far)
    each, more = divmod(given.attacks, len(ATTACKS))
    wanted = {"genuine": given.genuine, SMALL: given.genuine // 5 if small else 0}
    wanted |= {kind: each + (number < more) for number, kind in enumerate(ATTACKS)}
    people = {"colour": colour, "small": small}
    trials = run(encoder, people, wanted, given.seed, given.out, least_score)
    attacks = [one for one in trials if one["kind"] in ATTACKS]
    found = {
        "command": f"python -m tests.campaigns.liveness {given.bundle.name} --photos FOLDER --data olivetti.zip"
        f" --first {given.first} --last {given.last} --attacks {given.attacks} --genuine {given.genuine}"
        f" --seed {given.seed}",
        "fingerprint": encoder.fingerprint,
        "least score": least_score,
        "people": {group: [person.name for person in own] for group, own in people.items()},
        "attacks": {"trials": len(attacks), "passed": sum(one["passed"] for one in attacks)},
        "kinds": {kind: summary(trials, kind) for kind in wanted if wanted[kind]},
    }
    write_atomically(given.out, json.dumps(found, indent=1).encode() + b"\n")
    print(json.dumps(found, indent=1))
    return int(found["attacks"]["passed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
