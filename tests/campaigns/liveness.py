r"""Show the liveness challenge rendered people and rendered attacks, and count who passes.

    python -m tests.campaigns.liveness --photos lfw-half.zip --attacks 1000 --genuine 200 \
        --out benchmarks/results/liveness.json

From a zip of Labeled Faces in the Wild the first photo of each person is taken if it shows one face from the front,
from the --first such person on, in an order that is always the same; the ones before chose the limits. Each head is
drawn with depths of its own (`people.varied`). Sheets of paper are asked for a turn alone, which every challenge has,
and by an encoder that takes everybody for the same person, so that nothing else can stop them. All others get whole
challenges and the encoder that the faces extra brings. A run that is interrupted (Ctrl-C) counts the trials that it
has, all kinds equally far; the same command resumes it from the file beside its --out.
"""

import argparse
import io
import json
import random
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.faces import inputs, packages
from edge_oneshot.faces.sface import build_sface
from edge_oneshot_device import Encoder
from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from edge_oneshot_device.faces.mesh import Mesh
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.liveness import actions
from edge_oneshot_device.liveness.challenge import Challenge
from edge_oneshot_device.liveness.headshape import HeadShape, Movement
from edge_oneshot_device.liveness.parallax import ReferenceView, View
from edge_oneshot_device.liveness.watcher import Watcher
from edge_oneshot_export.formats.tflite import to_tflite
from edge_oneshot_export.judging.metrics import proportion_interval
from edge_oneshot_export.variants import VARIANTS
from tests.campaigns.rendering.acting import ATTACKS, SHEETS, Actor, Pose, genuine
from tests.campaigns.rendering.people import Person, person_of, varied
from tests.campaigns.rendering.scene import Scene
from tests.real_data import LFW

FRAME = 0.125  # seconds between frames, give or take a sixth
LONGEST = 30.0  # seconds of a trial
ASIDE = 0.13  # of the nose on a photo from the front, from the middle between the eyes
LEAST_EYES = 20.0  # pixels between the eyes of a photo
LEAST_SCORE = 0.4  # about where the provisional bundle accepts
CHOSEN_ON = 250  # people of LFW that chose the limits and the mean head
FARTHEST = 36.0  # degrees that an actor turns, about
SIDE = 500  # pixels that LFW's 250 are enlarged to
EXCHANGED = ("swapped", "other photos", "exchanged")
HALF_MASKS = ("ridged", "beaked", "boxed")
GROUPS = {
    "attacks": tuple(ATTACKS),
    "sheets": tuple(kind for kind in ATTACKS if kind not in {*EXCHANGED, *HALF_MASKS}),
    "half masks": HALF_MASKS,
    "exchanged": EXCHANGED,
}


def open_encoder() -> Encoder:
    """The encoder of faces, in float32, from installed packages."""
    section = inputs.face_input()
    content = to_tflite(
        build_sface(packages.read_net(packages.SFACE)), VARIANTS["float32"], np.zeros((1, *section.shape), np.float32)
    )
    return Encoder(
        open_model("tflite", content),
        section,
        EmbeddingSection(size=128, metric="cosine"),
        variant="float32",
        fingerprint="0" * 64,
        faces=FaceFinder(inputs.face_files(), section, section.face),
    )


def credulous(encoder: Encoder) -> SimpleNamespace:
    """What takes every face for the same person."""
    same = np.eye(1, encoder.embedding.size, dtype=np.float32)[0]
    return SimpleNamespace(faces=encoder.faces, embedding=encoder.embedding, embed=lambda _: same)


def from_the_front(photo: Image.Image, face: Mesh) -> bool:
    """Whether a face looks straight ahead, and is large enough to be drawn."""
    view = View(photo, face.points)
    return abs(view.aside) < ASIDE and view.eye_distance >= LEAST_EYES


def meshes(photo: Image.Image, finder: FaceFinder) -> list[Mesh]:
    """The mesh of each face of a photo."""
    return [mesh for face in finder.find(photo) if (mesh := finder.mesh(photo, face)) is not None]


def person_in(name: str, content: bytes, finder: FaceFinder) -> Person:
    """The person on a photo."""
    photo = load_photo(content, PHOTO_SIDE)
    return person_of(name, photo, meshes(photo, finder)[0])


def lfw_people(archive: Path, first: int, finder: FaceFinder) -> Iterator[Person]:
    """People of LFW who are seen alone and from the front, but for the first of them."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith("_0001.jpg"))
        random.Random(7).shuffle(names)
        known = 0
        for name in names:
            photo = Image.open(io.BytesIO(files.read(name))).convert("RGB")
            photo = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            faces = meshes(photo, finder)
            if len(faces) == 1 and from_the_front(photo, faces[0]):
                known += 1
                if known <= first:
                    continue
                person = person_of(Path(name).stem, photo, varied(faces[0], random.Random(name)))
                if shows_one_face(person, finder):
                    yield person


def shows_one_face(person: Person, finder: FaceFinder) -> bool:
    """Whether the finder sees one face on the photo, and one on the head when it is turned: it ends at the hairline."""
    scene = Scene(random.Random(person.name))
    drawn = [scene.frame(person, True, Pose(yaw=yaw), 0.0) for yaw in (-FARTHEST, FARTHEST)]
    return all(len(finder.find(image)) == 1 for image in (Image.fromarray(person.photos[0][..., :3]), *drawn))


def trial(
    encoder: Encoder, actor: Actor, numbers: random.Random, challenge: Challenge | None = None
) -> dict[str, object]:
    """One challenge from beginning to end, a random one if none is given, and how near it came.

    Returns:
        passed, reason, action, done (actions seen), shown (who was, once it had begun), seconds, frames, and
        what was measured: of the shapes in a turn the one with most of a head's detail as `HeadShape` has it,
        the mean nearness for each time that the face was larger.
    """
    challenge, scene = challenge or Challenge.draw(numbers), Scene(numbers)
    watcher = Watcher(encoder, challenge, LEAST_SCORE)
    ask, seconds, frames = "look", 0.0, 0
    begun, shown = False, set()
    shapes, near = [], []
    measured = actions.head_shape, ReferenceView.nearness

    def head_shape(places: NDArray[np.float64], movements: Sequence[Movement]) -> HeadShape:
        shapes.append(measured[0](places, movements))
        return shapes[-1]

    def nearness(self: ReferenceView, view: View) -> float:
        found = measured[1](self, view)
        near.append(found / (self.shape(view)[0] - 1.0))
        return found

    actions.head_shape, ReferenceView.nearness = head_shape, nearness
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
        actions.head_shape, ReferenceView.nearness = measured
    result, best = progress.result, max(shapes, key=lambda shape: shape.detail, default=None)
    return {
        "passed": result is not None and result.passed,
        "reason": result.reason if result is not None else "not_begun",
        "action": result.action if result is not None else None,
        "challenge": list(challenge.actions),
        "done": progress.done,
        "shown": sorted(shown),
        "seconds": round(seconds, 2),
        "frames": frames,
        "shape": best and {name: round(value, 3) for name, value in msgspec.structs.asdict(best).items()},
        "nearness": round(float(np.mean(near)), 4) if near else None,
    }


def attempt(encoder: Encoder, people: list[Person], kind: str, numbers: random.Random) -> dict[str, object]:
    """A trial of a kind."""
    act = ATTACKS.get(kind, genuine)
    if kind in SHEETS:
        turn = Challenge((numbers.choice(("turn_left", "turn_right")),), (numbers.uniform(0.4, 1.2),))
        return trial(credulous(encoder), act(numbers, people), numbers, turn)
    found = trial(encoder, act(numbers, people), numbers)
    while kind == "swapped" and found["passed"] and len(found["shown"]) == 1:
        # it was over before anybody was swapped: a living head alone may pass
        found = trial(encoder, act(numbers, people), numbers)
    return found


def run(
    encoder: Encoder, people: list[Person], wanted: dict[str, int], seed: int, out: Path
) -> list[dict[str, object]]:
    """All trials, each by its own seed, all kinds equally far, or those until an interrupt; a file's are kept."""
    log = out.with_suffix(".trials.jsonl")
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(one["kind"], one["number"]) for one in done}
    tasks = sorted((number / count, kind, number) for kind, count in wanted.items() for number in range(count))
    with log.open("a") as lines, suppress(KeyboardInterrupt):
        for _, kind, number in tasks:
            if (kind, number) in known:
                continue
            start = time.process_time()
            found = attempt(encoder, people, kind, random.Random(f"{seed}/{kind}/{number}"))
            found |= {"kind": kind, "number": number, "cpu": round(time.process_time() - start, 2)}
            done.append(found)
            lines.write(json.dumps(found) + "\n")
            lines.flush()
            print(found, file=sys.stderr)
    return done


def counts(trials: list[dict[str, object]], kinds: tuple[str, ...]) -> dict[str, object]:
    """How many trials of some kinds there were and passed, with Wilson's 95 % interval of the rate."""
    own = [one for one in trials if one["kind"] in kinds]
    passed = sum(one["passed"] for one in own)
    interval = [round(end, 4) for end in proportion_interval(passed, len(own))] if own else None
    return {"trials": len(own), "passed": passed, "interval": interval}


def summary(trials: list[dict[str, object]], kind: str) -> dict[str, object]:
    """Counts of a kind, and how near the nearest of them came."""
    own = [one for one in trials if one["kind"] == kind]
    near = [one["nearness"] for one in own if one["nearness"] is not None]
    failed = [f"{one['reason']}: {one['action'] or 'none asked'}" for one in own if not one["passed"]]
    return counts(trials, (kind,)) | {
        "reasons": dict(Counter(failed).most_common()),
        "actions seen": dict(sorted(Counter(str(one["done"]) for one in own).items())),
        "most of a head's detail": max((one["shape"]["detail"] for one in own if one["shape"]), default=None),
        "largest nearness": max(near, default=None),
        "mean seconds": round(float(np.mean([one["seconds"] for one in own])), 1),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=LFW, metavar="lfw-half.zip")
    parser.add_argument("--first", type=int, default=CHOSEN_ON, metavar="N", help=f"person ({CHOSEN_ON})")
    parser.add_argument("--people", type=int, default=100, metavar="N", help="how many (100)")
    parser.add_argument("--attacks", type=int, default=1000, metavar="N", help="trials of all kinds together (1000)")
    parser.add_argument("--genuine", type=int, default=200, metavar="N", help="trials (200)")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    given = parser.parse_args(arguments)
    if not given.photos.exists():
        print(f"skipped: there is no {given.photos}", file=sys.stderr)
        return 0
    encoder = open_encoder()
    people = list(islice(lfw_people(given.photos, given.first, encoder.faces), given.people))
    each, more = divmod(given.attacks, len(ATTACKS))
    wanted = {"genuine": given.genuine} | {kind: each + (number < more) for number, kind in enumerate(ATTACKS)}
    trials = run(encoder, people, wanted, given.seed, given.out)
    found = {
        "command": f"python -m tests.campaigns.liveness --photos {given.photos.name} --first {given.first}"
        f" --people {given.people} --attacks {given.attacks} --genuine {given.genuine} --seed {given.seed}",
        "people": len(people),
        "wanted": sum(wanted.values()),
        **{group: counts(trials, kinds) for group, kinds in GROUPS.items()},
        "attacks that passed": [one for one in trials if one["passed"] and one["kind"] in ATTACKS],
        "kinds": {kind: summary(trials, kind) for kind in wanted if any(one["kind"] == kind for one in trials)},
    }
    write_atomically(given.out, json.dumps(found, indent=1).encode() + b"\n")
    print(json.dumps(found, indent=1))
    return int(bool(found["attacks that passed"]))


if __name__ == "__main__":
    sys.exit(main())
