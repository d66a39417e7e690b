r"""Measure what gets an embedding that is no upright face, and whether such embeddings match across people.

    python -m benchmarks.research.turned_faces faces.oneshot --data lfw-half.zip --people 200 \
        --out benchmarks/results/turned-faces.json

Two photos each of people of LFW are given to the device as they are, turned, tilted, mirrored, with a part of the face
hidden, posterised, as a drawing of their edges, and cut into squares that are shuffled; and as many textures, each as
if it were of a person of its own. Of the photos of a kind that get an embedding all pairs are compared, at the
bundle's threshold for its target FAR, and each with the photos as they are of other people: an enrolment, or an
attempt, that fits others would open a door to anybody.
"""

import io
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from benchmarks.research.face_arguments import face_parser, write_results
from edge_oneshot_device import Bundle, Encoder, console
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.formatting import align
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_device.matching.thresholds import calibration_for

GREY = (128, 128, 128)
TILES = 6  # squares to either side of a photo that is shuffled

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


class Row(msgspec.Struct):
    """What became of the photos of a kind.

    Attributes:
        kind: Which.
        photos: How many.
        embedded: Of how many an embedding was made.
        refused: How many of the others, by reason.
        impostors: Pairs of different people among the embedded.
        accepted: How many of these reach the threshold.
        strangers: Pairs of an embedded photo and the photo as it is of another person.
        entered: How many of these reach it.
        genuine: Pairs of photos of one person, those without an embedding included.
        recognised: How many of these reach it.
        own: Embedded photos that reach it with the same photo as it is.
    """

    kind: str
    photos: int
    embedded: int
    refused: dict[str, int]
    impostors: int
    accepted: int
    strangers: int
    entered: int
    genuine: int
    recognised: int
    own: int


def _turned(turn: Image.Transpose) -> Change:
    return lambda photo, _: photo.transpose(turn)


def _tilted(angle: float) -> Change:
    return lambda photo, _: photo.rotate(angle, Image.Resampling.BICUBIC, expand=True)


def _hidden(left: float, upper: float, right: float, lower: float) -> Change:
    """A part of the photo, in shares of its sides, is grey; the face is in the middle."""

    def change(photo: Image.Image, _: np.random.Generator) -> Image.Image:
        width, height = photo.size
        changed = photo.copy()
        changed.paste(GREY, (round(left * width), round(upper * height), round(right * width), round(lower * height)))
        return changed

    return change


def _posterised(photo: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.posterize(photo.filter(ImageFilter.ModeFilter(5)), 2)


def _drawn(photo: Image.Image, _: np.random.Generator) -> Image.Image:
    edges = photo.convert("L").filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES)
    return ImageOps.invert(ImageOps.autocontrast(edges)).convert("RGB")


def _shuffled(photo: Image.Image, numbers: np.random.Generator) -> Image.Image:
    side = min(photo.size) // TILES
    places = [(x * side, y * side) for y in range(TILES) for x in range(TILES)]
    changed = photo.copy()
    for place, source in zip(places, numbers.permutation(len(places)).tolist(), strict=True):
        x, y = places[source]
        changed.paste(photo.crop((x, y, x + side, y + side)), place)
    return changed


def _texture(photo: Image.Image, numbers: np.random.Generator) -> Image.Image:
    """Noise of a random grain, or a grid of random pitch, in random colours."""
    width, height = photo.size
    if numbers.random() < 0.5:
        grain = int(numbers.integers(1, 40))
        small = numbers.integers(0, 256, (height // grain + 2, width // grain + 2, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    rows, columns = np.indices((height, width))
    pitch = numbers.uniform(4, 60, 2)
    waves = np.sin(2 * np.pi * rows / pitch[0]) * numbers.random() + np.sin(2 * np.pi * columns / pitch[1])
    level = np.interp(waves, (waves.min(), waves.max()), (0, 1))[..., np.newaxis]
    one, other = numbers.integers(0, 256, (2, 3))
    return Image.fromarray((one * level + other * (1 - level)).astype(np.uint8))


def _patterned(photo: Image.Image, numbers: np.random.Generator) -> Image.Image:
    """The upper half is a texture."""
    changed = photo.copy()
    changed.paste(_texture(photo, numbers).crop((0, 0, photo.width, photo.height // 2)))
    return changed


CHANGES: dict[str, Change] = {
    "as they are": lambda photo, _: photo,
    "mirrored": _turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90": _turned(Image.Transpose.ROTATE_90),
    "turned by 180": _turned(Image.Transpose.ROTATE_180),
    "turned by 270": _turned(Image.Transpose.ROTATE_270),
    "tilted by 30": _tilted(30),
    "tilted by 60": _tilted(60),
    "tilted by 135": _tilted(135),
    "left half hidden": _hidden(0, 0, 0.5, 1),
    "upper half hidden": _hidden(0, 0, 1, 0.5),
    "lower half hidden": _hidden(0, 0.55, 1, 1),
    "an eye hidden": _hidden(0.35, 0.4, 0.49, 0.5),  # where LFW's photos have it
    "mouth hidden": _hidden(0.38, 0.58, 0.62, 0.68),
    "upper half a texture": _patterned,
    "posterised": _posterised,
    "edges": _drawn,
    "shuffled": _shuffled,
    "textures": _texture,
}


def photos(path: Path, people: int, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """Two photos each of some people, drawn by the seed, with their names."""
    with zipfile.ZipFile(path) as archive:
        of: dict[str, list[str]] = {}
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg")):
            of.setdefault(name.split("/")[-2], []).append(name)
        several = [person for person, own in of.items() if len(own) > 1]
        for person in np.random.default_rng(seed).permutation(several)[:people].tolist():
            for name in of[person][:2]:
                yield person, Image.open(io.BytesIO(archive.read(name))).convert("RGB")


def row(
    kind: str,
    encoder: Encoder,
    shown: list[tuple[str, Image.Image]],
    least: float,
    *,
    seed: int,
    plain: NDArray[np.float32] | None,
) -> tuple[Row, NDArray[np.float32]]:
    """The row of a kind, and its embeddings, those of `plain` photos to compare with; zeros where there is none."""
    refused: Counter[str] = Counter()
    embeddings = np.zeros((len(shown), encoder.embedding.size), np.float32)
    for number, (_, photo) in enumerate(shown):
        try:
            embeddings[number] = encoder.embed_image(CHANGES[kind](photo, np.random.default_rng((seed, number))))
        except InputError as error:
            refused[error.reason] += 1
    embedded = embeddings.any(axis=1)
    people = np.arange(len(shown)) if kind == "textures" else np.array([person for person, _ in shown])

    def accepted(others: NDArray[np.float32]) -> NDArray[np.bool_]:
        reached = [scores(one, others, encoder.embedding.metric) >= least for one in embeddings]
        return np.stack(reached) & embedded[:, np.newaxis] & others.any(axis=1)

    pairs, same = np.triu(np.ones((len(shown), len(shown)), bool), 1), people[:, np.newaxis] == people
    reached, against = accepted(embeddings), embeddings if plain is None else plain
    impostors = pairs & ~same & embedded & embedded[:, np.newaxis]
    strangers, entered = ~same & embedded[:, np.newaxis] & against.any(axis=1), accepted(against)
    found = Row(
        kind=kind,
        photos=len(shown),
        embedded=int(embedded.sum()),
        refused=dict(refused.most_common()),
        impostors=int(impostors.sum()),
        accepted=int((impostors & reached).sum()),
        strangers=int(strangers.sum()),
        entered=int((strangers & entered).sum()),
        genuine=int((pairs & same).sum()),
        recognised=int((pairs & same & reached).sum()),
        own=int(entered.diagonal().sum()),
    )
    return found, embeddings


def text(rows: list[Row]) -> str:
    """The rows as a table."""
    head = (
        "kind",
        "embedded",
        "impostors accepted",
        "strangers accepted",
        "genuine accepted",
        "own accepted",
        "refused",
    )
    lines = [
        (
            one.kind,
            f"{one.embedded}/{one.photos}",
            f"{one.accepted}/{one.impostors}",
            f"{one.entered}/{one.strangers}",
            f"{one.recognised}/{one.genuine}",
            f"{one.own}/{one.embedded}",
            ", ".join(f"{reason} {count}" for reason, count in one.refused.items()),
        )
        for one in rows
    ]
    return align([head, *lines])


def measure(encoder: Encoder, shown: list[tuple[str, Image.Image]], least: float, seed: int) -> Iterator[Row]:
    """A row for each kind."""
    plain: NDArray[np.float32] | None = None
    for kind in CHANGES:
        found, embeddings = row(kind, encoder, shown, least, seed=seed, plain=plain)
        plain = embeddings if plain is None else plain
        yield found


def main() -> int:
    """Measure and print."""
    parser = face_parser(__doc__, seed="people and textures")
    parser.add_argument("--people", type=int, default=200, metavar="N", help="with two photos each (200)")
    console.add_json(parser)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle)
    calibration = calibration_for(bundle.manifest, encoder.variant, 1)
    least = next(point.threshold for point in calibration.points if point.target_far == calibration.target_far)
    shown = list(photos(arguments.data, arguments.people, arguments.seed))
    rows = []
    for one in measure(encoder, shown, least, arguments.seed):
        rows.append(one)
        found = {
            "command": f"python -m benchmarks.research.turned_faces {arguments.bundle.name} --data DATA"
            f" --people {arguments.people} --seed {arguments.seed}",
            "fingerprint": encoder.fingerprint,
            "target_far": calibration.target_far,
            "threshold": least,
            "rows": rows,
        }
        write_results(arguments.out, found)
    console.print_result(rows, arguments.json, text(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
