r"""Find out what each limit of the face bundle's quality gate refuses, and which errors that saves.

    python -m benchmarks.research.faces_gate faces.oneshot --data lfw-half.zip --kept FOLDER \
        --out benchmarks/results/faces-gate.json

Error versus reject (Grother and Tabassi 2007): the photos of DATA that are worst by a measure are refused, more and
more of them. For each share the command prints the measure's limit, the false reject rate at the threshold for a false
accept rate of 1e-4 over all photos, of comparisons with a refused photo and of the others, each person counting once,
with the ratio's 95 % interval over people (bootstrap), and the false accept rate of both. Then photos are degraded
step by step (defocus, motion blur, darkness with two levels of noise, glare, cropping by the frame), and compared with
an undegraded photo of the same person: how many are rejected, and how many of them the gate refuses.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.research.face_arguments import face_parser, write_results
from benchmarks.research.face_looks import MEASURES, Looks, embedded, look
from edge_oneshot.data.archives import open_archive
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.face_section import FaceSection
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import PHOTO_SIDE
from edge_oneshot_device.faces.quality import QUALITY_FAULTS
from edge_oneshot_device.formatting import align
from edge_oneshot_export.judging.protocols import Pairs, genuine_and_impostor

FAR = 1e-4
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
DRAWS = 1000
SUBJECTS = 120  # people of whom a photo is degraded
NOISE = 2.0  # levels
GAMMA = 2.2
STEPS = {
    "out of focus, disc of so many eye distances": (0.05, 0.1, 0.15, 0.2, 0.3),
    "moved by so many eye distances": (0.05, 0.1, 0.2, 0.3),
    "darker, stops": (2.0, 4.0, 5.0, 6.0, 8.0),
    "brighter, stops": (0.5, 1.0, 1.5, 2.0, 3.0),
    "cut off on the left, share of the box": (0.1, 0.2, 0.3, 0.4),
    "cut off below, share of the box": (0.1, 0.2, 0.3, 0.4),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a limit refuses and saves.

    Attributes:
        measure, limit: Which limit.
        share: Of the photos that it refuses.
        frr_refused: False reject rate of comparisons with a photo that it refuses.
        frr: Of all others.
        ratio, ratio_interval: Of the first to the second, with its 95 % interval.
        far_refused, far: False accept rates likewise, as multiples of `FAR`.
        far_interval: Of the first of them, 95 %.
    """

    measure: str
    limit: float
    share: float
    frr_refused: float
    frr: float
    ratio: float
    ratio_interval: tuple[float, float]
    far_refused: float
    far_interval: tuple[float, float]
    far: float


@dataclass(frozen=True, slots=True)
class Step:
    """What a degradation does.

    Attributes:
        what, amount: Which, and how much of it.
        faces: Tried.
        embedded: Of them still found.
        rejected: Share of those that are rejected beside another photo of the person.
        refused: Share of those that the gate refuses.
        rejected_behind: Share of those that the gate takes which are rejected.
        measure: Median of the measure that is to see it.
    """

    what: str
    amount: float
    faces: int
    embedded: int
    rejected: float
    refused: float
    rejected_behind: float
    measure: float


def badness(looks: Looks) -> dict[str, NDArray[np.float64]]:
    """For each measure how bad each photo (n,) is; the limit is its amount."""
    found = dict(zip(MEASURES, looks.quality.T, strict=True))
    return {
        "outside": found["outside"],
        "yaw": np.abs(found["yaw"]),
        "pitch": np.abs(found["pitch"]),
        "detail": -found["detail"],
        "light": -found["light"],
        "glare": found["glare"],
        "blur": found["blur"],
        "eyes": -looks.eyes,
    }


class Refusing:
    """What refusing photos saves, of genuine and impostor pairs at a threshold."""

    def __init__(self, looks: Looks, pairs: Pairs, threshold: float, rng: np.random.Generator) -> None:
        self.labels, self.people = looks.labels, int(looks.labels.max()) + 1
        self.genuine, self.missed = pairs.genuine_pairs, pairs.genuine < threshold
        self.owner = looks.labels[pairs.genuine_pairs[:, 0]]
        self.each = 1.0 / np.maximum(np.bincount(self.owner, minlength=self.people), 1)[self.owner]
        self.accepted = pairs.impostor_pairs[pairs.impostor >= threshold]
        self.draws = rng.multinomial(self.people, np.full(self.people, 1 / self.people), DRAWS)

    def of(self, measure: str, limit: float, bad: NDArray[np.bool_]) -> Refusal:
        """What refusing the bad photos (n,) saves."""
        worse = bad[self.genuine].any(axis=1)
        sums = [
            np.bincount(self.owner, self.each * chosen, minlength=self.people)
            for chosen in (worse & self.missed, worse, ~worse & self.missed, ~worse)
        ]
        one, two, three, four = (float(part.sum()) for part in sums)
        every = len(self.labels) ** 2 / 2
        made = every * (1.0 - (1.0 - float(bad.mean())) ** 2)
        hits = bad[self.accepted].any(axis=1)
        drawn = np.prod(self.draws[:, self.labels[self.accepted[hits]]], axis=2).sum(axis=1) / made / FAR
        return Refusal(
            measure=measure,
            limit=limit,
            share=float(bad.mean()),
            frr_refused=one / two if two else 0.0,
            frr=three / four,
            ratio=float(_ratio(one, two, three, four)),
            ratio_interval=_interval(_ratio(*(self.draws @ part for part in sums))),
            far_refused=float(hits.sum()) / made / FAR,
            far_interval=_interval(drawn),
            far=float((~hits).sum()) / (every - made) / FAR,
        )


def refusals(looks: Looks, refusing: Refusing) -> list[Refusal]:
    """Every measure at every share of refused photos."""
    found = []
    for measure, values in badness(looks).items():
        for share in SHARES:
            limit = float(np.quantile(values, 1.0 - share))
            bad = values > limit
            if 0.5 * share < bad.mean() < 2.0 * share:  # else many photos have the same value
                found.append(refusing.of(measure, abs(limit), bad))
    return found


def whole(looks: Looks, refusing: Refusing, face: FaceSection) -> Refusal:
    """All limits of the bundle together; photos with bystanders are taken."""
    reasons = looks.refused(face.limits)
    return refusing.of("all limits", 0.0, np.array([one not in (None, "several_faces") for one in reasons]))


def _interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return low, high


def _ratio(missed_bad, bad, missed, others):
    return (missed_bad / np.maximum(bad, 1e-9)) / np.maximum(missed / np.maximum(others, 1e-9), 1e-9)


def exposed(photo: Image.Image, stops: float, noise: float, rng: np.random.Generator) -> Image.Image:
    light = (np.asarray(photo) / 255.0) ** GAMMA * 2.0**stops
    levels = 255.0 * np.clip(light, 0.0, 1.0) ** (1.0 / GAMMA)
    return Image.fromarray(np.clip(np.rint(levels + rng.normal(0.0, noise, levels.shape)), 0, 255).astype(np.uint8))


def filtered(photo: Image.Image, kernel: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(cv2.filter2D(np.asarray(photo), -1, kernel, borderType=cv2.BORDER_REPLICATE))


def disc(diameter: float) -> NDArray[np.float32]:
    side, fine = 2 * int(np.ceil(diameter / 2)) + 1, 8
    places = (np.arange(side * fine) + 0.5) / fine - side / 2
    inside = np.add.outer(places**2, places**2) <= (diameter / 2) ** 2
    kernel = inside.astype(np.float32).reshape(side, fine, side, fine).mean(axis=(1, 3))
    return kernel / kernel.sum()


def way(length: float, angle: float) -> NDArray[np.float32]:
    side, fine = 2 * int(np.ceil(length / 2)) + 1, 16
    canvas = np.zeros((side * fine, side * fine), np.uint8)
    step = np.array([np.cos(angle), np.sin(angle)]) * length / 2 * fine
    ends = [tuple(np.rint(side * fine / 2 + sign * step).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(canvas, *ends, 255, fine)
    kernel = canvas.reshape(side, fine, side, fine).mean(axis=(1, 3)).astype(np.float32)
    return kernel / kernel.sum()


def cropped(photo: Image.Image, box: NDArray[np.float64], share: float, axis: int) -> Image.Image:
    """Without so much of the box: on the left, or below."""
    low, high = box[:, axis]
    if axis == 0:
        return photo.crop((round(low + share * (high - low)), 0, *photo.size))
    return photo.crop((0, 0, photo.width, round(high - share * (high - low))))


CHANGES: dict[str, tuple[str, Callable]] = dict(
    zip(
        STEPS,
        [
            ("blur", lambda photo, face, amount, *_: filtered(photo, disc(amount * face.eye_distance))),
            (
                "blur",
                lambda photo, face, amount, number, _: filtered(
                    photo, way(amount * face.eye_distance, number * np.pi / 4)
                ),
            ),
            ("light", lambda photo, _, amount, __, rng: exposed(photo, -amount, NOISE, rng)),
            ("glare", lambda photo, _, amount, __, rng: exposed(photo, amount, 0.0, rng)),
            ("outside", lambda photo, face, amount, *_: cropped(photo, face.box, amount, 0)),
            ("outside", lambda photo, face, amount, *_: cropped(photo, face.box, amount, 1)),
        ],
        strict=True,
    )
)


def degraded(
    encoder: Encoder, data: Path, looks: Looks, rows: NDArray[np.float32], threshold: float, rng: np.random.Generator
) -> list[Step]:
    """The first photo of some people, degraded, beside their second."""
    plain = np.flatnonzero(looks.found & (looks.faults == ""))
    _, starts, counts = np.unique(looks.labels[plain], return_index=True, return_counts=True)
    chosen = rng.permutation(starts[counts > 1])[:SUBJECTS]
    faces, results = encoder.faces, []
    with open_archive(data) as archive:
        file_of = {"/".join(name.split("/")[-2:]): name for name in archive.files}
        photos = [load_photo(archive.read(file_of[looks.names[plain[one]]]), PHOTO_SIDE) for one in chosen]
    seen = [max(faces.find(photo), key=lambda face: face.detection.eye_distance).detection for photo in photos]
    others = [rows[plain[one + 1]] for one in chosen]
    for what, (measure, change) in CHANGES.items():
        for amount in (0.0, *STEPS[what]):
            rejected, refused, values = [], [], []
            for number, (photo, face, other) in enumerate(zip(photos, seen, others, strict=True)):
                picture = change(photo, face, amount, number, rng) if amount else photo
                found = faces.find(picture)
                if len(found) != 1:
                    continue
                values.append(getattr(faces.quality(picture, found[0]), measure))
                rejected.append(float(encoder.embed(faces.cut(picture, found[0])) @ other) < threshold)
                refused.append(_is_refused(faces, picture, found[0]))
            gone, behind = np.array(refused), np.array(rejected)
            results.append(
                Step(
                    what=what,
                    amount=amount,
                    faces=len(photos),
                    embedded=len(values),
                    rejected=float(behind.mean()),
                    refused=float(gone.mean()),
                    rejected_behind=float(behind[~gone].mean()) if (~gone).any() else 0.0,
                    measure=float(np.median(values)),
                )
            )
            print(results[-1], flush=True)
    return results


def _is_refused(faces, picture, face) -> bool:
    try:
        faces.take(picture, face)
    except InputError as error:
        return error.reason in QUALITY_FAULTS
    return False


def text(limits: list[Refusal], steps: list[Step]) -> str:
    head = ("measure", "limit", "refused", "FRR of them", "of others", "ratio", "95 %", "FAR of them", "of others")
    rows = [
        (
            one.measure,
            f"{one.limit:.3g}",
            f"{one.share:.1%}",
            f"{one.frr_refused:.2%}",
            f"{one.frr:.2%}",
            f"{one.ratio:.1f}",
            f"{one.ratio_interval[0]:.1f} to {one.ratio_interval[1]:.1f}",
            f"{one.far_refused:.1f} ({one.far_interval[0]:.1f} to {one.far_interval[1]:.1f})",
            f"{one.far:.2f}",
        )
        for one in limits
    ]
    more = ("degradation", "amount", "found", "rejected", "refused", "rejected of the rest", "measure")
    lines = [
        (
            one.what,
            f"{one.amount:g}",
            f"{one.embedded}/{one.faces}",
            f"{one.rejected:.0%}",
            f"{one.refused:.0%}",
            f"{one.rejected_behind:.0%}",
            f"{one.measure:.2f}",
        )
        for one in steps
    ]
    return f"{align([head, *rows])}\n\n{align([more, *lines])}"


def main() -> int:
    arguments = face_parser(__doc__, kept=True, seed="noise, people and bootstrap").parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoder, rng = Encoder.open(bundle), np.random.default_rng(arguments.seed)
    looks = look(bundle, arguments.data, arguments.kept)
    rows = np.zeros((len(looks.found), encoder.embedding.size), np.float32)
    rows[looks.found] = embedded(encoder, looks.chips[looks.found], arguments.kept, bundle)
    seen = Looks(*(getattr(looks, name)[looks.found] for name in Looks.__slots__))
    pairs = genuine_and_impostor(rows[looks.found], seen.labels, encoder.embedding.metric, highest=2_000_000)
    # the highest scores of all impostor pairs are kept, so that their share is exact
    strict = np.sort(pairs.impostor)[len(pairs.impostor) - 1 - int(FAR * pairs.impostors)]
    threshold = float(np.nextafter(strict, np.float32(np.inf)))
    face, refusing = bundle.manifest.input.face, Refusing(seen, pairs, threshold, rng)
    limits = [*refusals(seen, refusing), whole(seen, refusing, face)]
    print(text(limits, []), flush=True)
    steps = degraded(encoder, arguments.data, looks, rows, threshold, rng)
    reasons = [reason for reason in looks.refused(face.limits) if reason]
    content = {
        "command": "python -m benchmarks.research.faces_gate faces.oneshot --data lfw-half.zip --kept FOLDER",
        "fingerprint": encoder.fingerprint,
        "variant": encoder.variant,
        "threshold": threshold,
        "photos": len(looks.found),
        "found": int(looks.found.sum()),
        "refused": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "chosen": face.limits,
        "limits": limits,
        "steps": steps,
    }
    write_results(arguments.out, content)
    print(text(limits, steps))
    print(content["refused"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
