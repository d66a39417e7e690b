r"""Measure which faces the finder finds, by the size of frame and face: people of LFW, blended into rooms.

    python -m benchmarks.research.finder_frames faces.oneshot --data lfw-half.zip --frames 200 \
        --out benchmarks/results/finder-frames.json

Frames of five sizes show one person whose eyes are from 32 pixels apart up to a face that fills the frame, two or four
people side by side, or nobody. The photos of `DATA` have 150 pixels and about 26 between the eyes, so that most faces
are enlarged. `FaceFinder.find` gets each frame as the device loads a photo. A face is found when both of its eyes are
found within a third of their distance; a frame is counted right when as many faces are returned as there are people.
Photos are left out where the person is turned to the profile, or where OpenCV's YuNet sees a second face, rightly or
not; so a false find in a photo itself is rarer here than in the field, one in the room is not.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from benchmarks.research.face_arguments import face_parser, write_results
from edge_oneshot_device import Bundle, console
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from edge_oneshot_device.formatting import align
from edge_oneshot_export.judging.metrics import proportion_interval
from tests.campaigns.rendering.frames import FILLS, Frame, Kind, People, Person, fits, make_frame
from tests.campaigns.rendering.rooms import Rooms

SIZES = ((640, 480), (1280, 720), (1920, 1080), (2560, 1440), (4000, 3000))
EYES = (32, 43, 96, 256)
GROUPS = (2, 4)
GROUP_EYES = (32, 64)
POOL = 1000  # people that frames are drawn from
NEAR = 1 / 3  # of the distance between the eyes


@dataclass(frozen=True, slots=True)
class Seen:
    """What the finder did with one frame.

    Attributes:
        found: People whose faces it found.
        faces: Faces that it returned.
        ms: Processor time of `FaceFinder.find`.
    """

    found: int
    faces: int
    ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """What it did with the frames of one kind.

    Attributes:
        kind: Which.
        frames: How many.
        people: In all of them.
        found: How many of the people, with the share and its 95 % interval; none of an empty room.
        counted: In how many frames it returned as many faces as there are people, likewise.
        false: Faces that it returned where no person is, or twice.
        ms: Median processor time of a frame.
    """

    kind: Kind
    frames: int
    people: int
    found: int
    found_share: float | None
    found_interval: tuple[float, float] | None
    counted: int
    counted_share: float
    counted_interval: tuple[float, float]
    false: int
    ms: float


@dataclass(frozen=True, slots=True)
class Total:
    """All kinds of frames of one size.

    Attributes:
        size: Width and height in pixels.
        people, found, found_interval: As in `Row`.
        groups, counted, counted_interval: Frames of two and four people, as in `Row`.
        frames, false: All of them, and the false finds in them.
        ms: Median of the kinds with one person.
    """

    size: tuple[int, int]
    people: int
    found: int
    found_interval: tuple[float, float]
    groups: int
    counted: int
    counted_interval: tuple[float, float]
    frames: int
    false: int
    ms: float


def kinds() -> Iterator[Kind]:
    """Every kind of frame."""
    for width, height in SIZES:
        yield Kind(width, height, 0, 0)
        largest = int(height / FILLS)
        for eyes in (*(eyes for eyes in EYES if eyes < largest), largest):
            yield Kind(width, height, 1, eyes)
        for people in GROUPS:
            yield from filter(fits, (Kind(width, height, people, eyes) for eyes in GROUP_EYES))


def look(finder: FaceFinder, frame: Frame) -> Seen:
    """Give a frame to the finder."""
    photo = load_photo(frame.image if frame.content is None else frame.content, PHOTO_SIDE)
    scale = frame.image.width / photo.width
    start = time.thread_time()
    faces = finder.find(photo)
    ms = 1e3 * (time.thread_time() - start)
    eyes = [scale * face.detection.points[:2] for face in faces]
    return Seen(sum(_is_among(person, eyes) for person in frame.eyes), len(faces), ms)


def _is_among(person: NDArray[np.float64], eyes: Sequence[NDArray[np.float64]]) -> bool:
    reach = NEAR * np.hypot(*(person[1] - person[0]))
    return any(bool((np.hypot(*(found - person).T) <= reach).all()) for found in eyes)


def row(kind: Kind, seen: Sequence[Seen]) -> Row:
    """Sum up the frames of a kind."""
    people, found = kind.people * len(seen), sum(one.found for one in seen)
    counted = sum(one.faces == kind.people for one in seen)
    return Row(
        kind=kind,
        frames=len(seen),
        people=people,
        found=found,
        found_share=found / people if people else None,
        found_interval=proportion_interval(found, people) if people else None,
        counted=counted,
        counted_share=counted / len(seen),
        counted_interval=proportion_interval(counted, len(seen)),
        false=sum(one.faces - one.found for one in seen),
        ms=float(np.median([one.ms for one in seen])),
    )


def totals(rows: Sequence[Row]) -> list[Total]:
    """Sum up each size whose rows are complete."""
    sums = []
    for width, height in SIZES:
        own = [one for one in rows if (one.kind.width, one.kind.height) == (width, height)]
        groups = [one for one in own if one.kind.people > 1]
        if not groups:
            continue
        people, found = sum(one.people for one in own), sum(one.found for one in own)
        many, counted = sum(one.frames for one in groups), sum(one.counted for one in groups)
        sums.append(
            Total(
                size=(width, height),
                people=people,
                found=found,
                found_interval=proportion_interval(found, people),
                groups=many,
                counted=counted,
                counted_interval=proportion_interval(counted, many),
                frames=sum(one.frames for one in own),
                false=sum(one.false for one in own),
                ms=float(np.median([one.ms for one in own if one.kind.people == 1])),
            )
        )
    return sums


def seen_in(
    finder: FaceFinder, kind: Kind, people: list[Person], rooms: Rooms, frames: int, seed: int
) -> Iterator[Seen]:
    """What the finder does with so many frames of a kind; the number of a frame is the last part of its seed."""
    for number in range(frames):
        frame = make_frame(kind, people, rooms, (seed, kind.width, kind.people, kind.eyes, number))
        yield look(finder, frame)


def text(rows: Sequence[Row]) -> str:
    """As tables: each kind, each size."""

    def share(count: int, of: int, interval: tuple[float, float] | None) -> tuple[str, str]:
        return ("", "") if interval is None else (f"{count}/{of}", "{:.1%} to {:.1%}".format(*interval))

    head = ("frame", "people", "eyes", "found", "95 %", "counted right", "95 %", "false finds", "ms")
    lines = [
        (
            f"{one.kind.width}x{one.kind.height}",
            str(one.kind.people),
            str(one.kind.eyes or ""),
            *share(one.found, one.people, one.found_interval),
            *share(one.counted, one.frames, one.counted_interval),
            str(one.false),
            f"{one.ms:.1f}",
        )
        for one in rows
    ]
    total_head = ("frame", "people", "found", "95 %", "groups", "counted right", "95 %", "frames", "false finds", "ms")
    sums = [
        (
            "{}x{}".format(*one.size),
            str(one.people),
            *share(one.found, one.people, one.found_interval),
            str(one.groups),
            *share(one.counted, one.groups, one.counted_interval),
            str(one.frames),
            str(one.false),
            f"{one.ms:.1f}",
        )
        for one in totals(rows)
    ]
    return f"{align([head, *lines])}\n\n{align([total_head, *sums])}"


def main() -> int:
    """Measure and print."""
    parser = face_parser(__doc__, seed="people, places and rooms")
    parser.add_argument("--frames", type=int, default=200, metavar="N", help="of each kind (200)")
    console.add_json(parser)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    section = bundle.manifest.input
    finder, rooms, rows = FaceFinder(bundle.members, section, section.face), Rooms(), []
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        size = min(POOL, 5 * arguments.frames)
        drawn, people = People(arguments.data, arguments.seed), []
        task = bar.add_task("cutting out people", total=size)
        for person in islice(drawn.draw(), size):
            people.append(person)
            bar.advance(task)
        every = list(kinds())
        task = bar.add_task("frames", total=len(every) * arguments.frames)
        for kind in every:
            seen = []
            for one in seen_in(finder, kind, people, rooms, arguments.frames, arguments.seed):
                seen.append(one)
                bar.advance(task)
            rows.append(row(kind, seen))
            found = {
                "command": f"python -m benchmarks.research.finder_frames {arguments.bundle.name} --data DATA"
                f" --frames {arguments.frames} --seed {arguments.seed}",
                "finder": section.face.finder,
                "people": len(people),
                "left_out": dict(drawn.left_out),
                "totals": totals(rows),
                "rows": rows,
            }
            write_results(arguments.out, found)
    console.print_result(rows, arguments.json, text(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
