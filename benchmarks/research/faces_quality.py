r"""Find the limits of the face bundle's quality gate: degrade photos step by step.

    python -m benchmarks.research.faces_quality faces.oneshot --photos FOLDER --data olivetti.zip \
        --out benchmarks/results/faces-quality.json

Each face of FOLDER is cut out with its surroundings, scaled to 60 pixels between the eyes and degraded: defocus,
motion blur, darkness (with two levels of noise), glare, cropping by the frame. Faces that look into the camera are
also rendered as turned heads. For each step the command prints how far the int8 embedding lies from that of the
undegraded face (two people differ by 0.6 and more), and how many faces the gate rejects. Of the people in DATA, whose
photos are good, it counts those that the gate rejects.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.data.archives import open_archive
from edge_oneshot_device import Bundle, Encoder, console
from edge_oneshot_device.bundle.face_section import FaceLimits
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import Face, FaceFinder
from edge_oneshot_device.faces.quality import find_fault
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.formatting import align
from tests.campaigns.rendering.drawing import Camera, Surface, draw, turn
from tests.campaigns.rendering.people import person_of

PHOTO_SIDE = 1000  # of a photo, as the device decodes it
EYES = 60.0  # pixels between the eyes
REACH = 3.0  # half a side of what is cut out, in distances between the eyes
AHEAD = 12.0  # degrees off which a face still looks into the camera
NOISE = 2.0  # levels
AWAY = 62.0  # centimetres between a rendered head and the camera
SIDES = ("left", "top", "right", "bottom")
GAMMA = 2.2

DEFOCUS = (0.05, 0.1, 0.15, 0.2, 0.3)  # diameter of the disc, in distances between the eyes
MOTION = (0.05, 0.1, 0.15, 0.2, 0.3)  # length of the way, likewise
DARK = (-2, -4, -5, -6, -8)  # stops
BRIGHT = (0.5, 1.0, 1.5, 2.0, 3.0)
CUT = (0.02, 0.05, 0.1, 0.2, 0.3)  # share of the mesh that lies beyond
YAW = (10, 20, 25, 30, 40)  # degrees
PITCH = (10, 15, 20, 25, 30)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A face at the size that all are compared at, and its embedding."""

    photo: Image.Image
    face: Face
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """What a degradation does.

    Attributes:
        what, amount: Which, and how much of it.
        faces: Tried.
        found: Of them by the finder, alone in the photo.
        mean, largest: Distance of the embeddings to those undegraded, of those found.
        refused: Share of those found that the gate refuses, for whatever reason.
    """

    what: str
    amount: float
    faces: int
    found: int
    mean: float
    largest: float
    refused: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What the command prints.

    Attributes:
        faces: Undegraded ones that are in the steps, all of which the gate takes.
        steps: Each with each amount.
        photos: Of people, whose photos are good.
        refused: How many of them for which reason.
        gate_ms: Median time of the gate, on one thread.
    """

    command: str
    fingerprint: str
    limits: FaceLimits
    faces: int
    steps: list[Step]
    photos: int
    refused: dict[str, int]
    gate_ms: float


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


def cut(photo: Image.Image, face: Face, share: float, side: int) -> Image.Image:
    """Without what lies beyond a line that so much of the mesh lies beyond, on one of `SIDES`."""
    axis = side % 2
    line = round(float(np.quantile(face.points[:, axis], share if side < 2 else 1.0 - share)))
    box = [0, 0, *photo.size]
    box[axis if side < 2 else 2 + axis] = line
    return photo.crop(tuple(box))


def subjects(encoder: Encoder, photos: Sequence[Image.Image], limits: FaceLimits) -> list[Subject]:
    """The faces of photos that the gate takes, cut out and brought to one size."""
    finder, found = encoder.faces, []
    for photo in photos:
        for face in finder.find(photo):
            reach, middle = REACH * face.detection.eye_distance, face.detection.points[:4].mean(axis=0)
            low, high = np.maximum(middle - reach, 0.0), np.minimum(middle + reach, photo.size)
            part = photo.crop((low[0], low[1], high[0], high[1]))
            ratio = EYES / face.detection.eye_distance
            part = part.resize([round(side * ratio) for side in part.size], Image.Resampling.LANCZOS)
            again = finder.find(part)
            if len(again) == 1 and find_fault(finder.quality(part, again[0]), limits) is None:
                found.append(Subject(part, again[0], encoder.embed(finder.cut(part, again[0]))))
    return found


def degraded(
    encoder: Encoder,
    limits: FaceLimits,
    what: str,
    amount: float,
    pictures: Sequence[tuple[Image.Image, NDArray[np.float32]]],
) -> Step:
    """A step, from degraded pictures, each with the embedding before."""
    moved, refused = [], 0
    for picture, before in pictures:
        faces = encoder.faces.find(picture)
        if len(faces) == 1:
            moved.append(float(np.linalg.norm(encoder.embed(encoder.faces.cut(picture, faces[0])) - before)))
            refused += find_fault(encoder.faces.quality(picture, faces[0]), limits) is not None
    found = max(len(moved), 1)
    return Step(
        what, amount, len(pictures), len(moved), float(np.mean(moved)), max(moved, default=0.0), refused / found
    )


def rendered(encoder: Encoder, people: Sequence[Subject]) -> Callable[[float, float], list]:
    """From yaw and pitch to pictures of turned heads, each with the embedding of the head that looks ahead."""
    camera = Camera(width=640, height=480, focal=600.0)
    heads = [person_of(str(number), one.photo, one.face) for number, one in enumerate(people)]

    def pictures(yaw: float, pitch: float) -> list[Image.Image]:
        shown = []
        for head in heads:
            frame = np.full((camera.height, camera.width, 3), 110.0, np.float32)
            points = head.head.points @ turn(yaw, pitch, 0.0).T + (0.0, 0.0, AWAY)
            draw(frame, Surface(points, head.head.places), head.faces[0], camera)
            shown.append(Image.fromarray(np.clip(np.rint(frame), 0, 255).astype(np.uint8)))
        return shown

    before = [encoder.embed(encoder.faces.cut(one, encoder.faces.find(one)[0])) for one in pictures(0.0, 0.0)]
    return lambda yaw, pitch: list(zip(pictures(yaw, pitch), before, strict=True))


def measured_steps(encoder: Encoder, people: Sequence[Subject], limits: FaceLimits, seed: int) -> list[Step]:
    rng = np.random.default_rng(seed)

    def steps(what: str, amounts: Sequence[float], change: Callable[[Subject, float, int], Image.Image]) -> list[Step]:
        return [
            degraded(
                encoder,
                limits,
                what,
                amount,
                [(change(one, amount, number), one.embedding) for number, one in enumerate(people)],
            )
            for amount in amounts
        ]

    found = [
        *steps("out of focus", DEFOCUS, lambda one, amount, _: filtered(one.photo, disc(amount * EYES))),
        *steps("moved", MOTION, lambda one, amount, n: filtered(one.photo, way(amount * EYES, n * np.pi / 4))),
        *steps("dark", DARK, lambda one, amount, _: exposed(one.photo, amount, NOISE, rng)),
        *steps("bright", BRIGHT, lambda one, amount, _: exposed(one.photo, amount, 0.0, rng)),
    ]
    for number, side in enumerate(SIDES):
        found += steps(
            f"cut {side}", CUT, lambda one, amount, _, number=number: cut(one.photo, one.face, amount, number)
        )
    finder = encoder.faces
    qualities = [finder.quality(one.photo, one.face) for one in people]
    ahead = [one for one, own in zip(people, qualities, strict=True) if max(abs(own.yaw), abs(own.pitch)) < AHEAD]
    return found + turned_steps(encoder, ahead, limits)


def turned_steps(encoder: Encoder, ahead: Sequence[Subject], limits: FaceLimits) -> list[Step]:
    turned = rendered(encoder, ahead)
    ways = [("turned to a side", amount, [(amount, 0.0), (-amount, 0.0)]) for amount in YAW]
    ways += [("turned up", amount, [(0.0, -amount)]) for amount in PITCH]
    ways += [("turned down", amount, [(0.0, amount)]) for amount in PITCH]
    return [
        degraded(encoder, limits, what, amount, [one for angles in both for one in turned(*angles)])
        for what, amount, both in ways
    ]


def refusals(finder: FaceFinder, limits: FaceLimits, data: Path) -> tuple[int, dict[str, int], float]:
    """How many photos there are, how many of them are refused for which reason, and the gate's median milliseconds."""
    counts, times, photos = Counter(), [], 0
    with open_archive(data) as archive:
        for name in [name for name in archive.files if name.endswith((".png", ".jpg", ".pgm"))]:
            photo, photos = load_photo(archive.read(name), PHOTO_SIDE), photos + 1
            faces = finder.find(photo)
            if len(faces) != 1:
                counts["several_faces" if faces else "no_face"] += 1
                continue
            start = time.thread_time()
            finder.cut(photo, faces[0])
            middle = time.thread_time()
            fault = find_fault(finder.quality(photo, faces[0]), limits)  # cuts as well
            times.append((time.thread_time() - middle) - (middle - start))
            if fault:
                counts[fault[0]] += 1
    return photos, dict(sorted(counts.items())), 1e3 * float(np.median(times))


def text(found: Measured) -> str:
    head = ("degradation", "amount", "found", "moved by, mean", "largest", "refused")
    rows = [
        (one.what, f"{one.amount:g}", f"{one.found}/{one.faces}", f"{one.mean:.2f}", f"{one.largest:.2f}",
         f"{one.refused:.0%}")
        for one in found.steps
    ]  # fmt: skip
    lost = ", ".join(f"{count} {reason}" for reason, count in found.refused.items()) or "none"
    return (
        f"{align([head, *rows])}\nof {found.photos} good photos refused: {lost}; the gate takes {found.gate_ms:.2f} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot", help="with int8")
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="of colour photos")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    console.add_json(parser)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoder, limits = Encoder.open(bundle, "int8"), bundle.manifest.input.face.limits
    photos = [load_photo(path, PHOTO_SIDE) for path in sorted(arguments.photos.iterdir())]
    people = subjects(encoder, photos, limits)
    count, refused, gate_ms = refusals(encoder.faces, limits, arguments.data)
    found = Measured(
        command=f"python -m benchmarks.research.faces_quality {arguments.bundle.name} --photos FOLDER --data DATA",
        fingerprint=encoder.fingerprint,
        limits=limits,
        faces=len(people),
        steps=measured_steps(encoder, people, limits, arguments.seed),
        photos=count,
        refused=refused,
        gate_ms=gate_ms,
    )
    if arguments.out:
        write_atomically(arguments.out, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    console.print_result(found, arguments.json, text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
