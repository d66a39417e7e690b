"""Measure how often 1:N identification accepts people who are not enrolled (FPIR), at thresholds from other people.

    python benchmarks/research/fpir.py base.oneshot --out benchmarks/results/fpir.json

The int8 file of a bundle of Omniglot's base encoder embeds drawings as a device does. Identities are

- characters of the alphabets that the encoder was not trained on, upright, turned and mirrored. An orientation in
  which a character looks the same (an O) is not another identity. Half of the characters calibrate; the other half,
  with all their orientations, are the gallery and the probes. This is repeated over random halvings, both ways round;
- characters of made-up alphabets (glyphs): 50 alphabets calibrate, others are the gallery and the probes.

Every enrolled identity has one template. A probe is a drawing of somebody who is not enrolled (in no orientation), or
another drawing of somebody who is. It is decided as `edge_oneshot_device.matching.decision` does: with the threshold
for that many people and the margin to the runner-up.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import t as student

from edge_oneshot.data.glyphs import CHARACTERS, draw_alphabet
from edge_oneshot.unseen_data import load_unseen
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.encoding.preprocessing import prepare
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.matching.thresholds import threshold_for
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate_embeddings
from edge_oneshot_export.judging.metrics import frr_at, threshold_at
from edge_oneshot_export.judging.sampling import Sample

TARGET = 1e-2
VARIANT = "int8"

_ORIENTATIONS = 8
_ALIKE = 0.5  # cosine of two orientations' mean embeddings, from which on they are one identity
_GLYPH_DRAWERS = 5
_GLYPH_CALIBRATING = 50  # alphabets
_PROBES = 1000  # of people not enrolled, a gallery
_SIZES = {"omniglot": (10, 100, 200), "glyphs": (10, 100, 1000, 10_000)}
_GALLERIES = {10: 100, 100: 20, 200: 12, 1000: 4, 10_000: 1}


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Embeddings of identities, as many of each.

    Attributes:
        embeddings: float32 (people, images, d).
        clusters: int64 (people,), what makes identities alike: the character, or the alphabet.
    """

    embeddings: NDArray[np.float32]
    clusters: NDArray[np.int64]

    def only(self, chosen: NDArray[np.bool_]) -> "People":
        """Those where the mask (people,) is true."""
        return People(self.embeddings[chosen], self.clusters[chosen])


@dataclass(frozen=True, slots=True)
class Result:
    """What galleries of a size do.

    Attributes:
        data: ``omniglot`` or ``glyphs``.
        enrolled: People in the gallery.
        attempts: Of people not enrolled.
        fpir: Share of these that was accepted.
        fpir_upper_95: Upper 95 % bound of it over other identities, see `_Count.upper_95`.
        fpir_upper_95_clusters: Over other characters (with all their orientations), or other alphabets.
        mated: Attempts of people who are enrolled.
        fnir: Share of these that was not accepted, or as somebody else.
        promised: False reject rate of these people at the threshold where their own false accept rate is the
            target by the people enrolled.
        threshold, spread: Mean and standard deviation over calibrations.
        provisional: Share of calibrations whose threshold is extrapolated.
    """

    data: str
    enrolled: int
    attempts: int
    fpir: float
    fpir_upper_95: float
    fpir_upper_95_clusters: float
    mated: int
    fnir: float
    promised: float
    threshold: float
    spread: float
    provisional: float


class _Count:
    """Attempts of people not enrolled, and who was involved in those that were accepted."""

    def __init__(self, people: int) -> None:
        self.made = np.zeros(people)
        self.hits = np.zeros(people)
        self.attempts = 0

    def add(
        self,
        probes: NDArray[np.int64],
        accepted: NDArray[np.bool_],
        best: NDArray[np.int64],
        enrolled: NDArray[np.int64],
    ) -> None:
        """Count attempts: whose each is, whether it was accepted and whom it fits best; and who is enrolled."""
        many = len(self.made)
        share = np.bincount(enrolled, minlength=many) / len(enrolled)
        self.made += np.bincount(probes, minlength=many) + len(probes) * share
        self.hits += np.bincount(probes[accepted], minlength=many) + np.bincount(best[accepted], minlength=many)
        self.attempts += len(probes)

    @property
    def rate(self) -> float:
        """Share of attempts accepted."""
        return float(self.hits.sum() / self.made.sum())

    def upper_95(self) -> float:
        """Upper 95 % bound of the rate, from what each of the people adds to it, as `bounds.far_bounds` has it."""
        involved = int((self.made > 0).sum())
        if not self.hits.any():
            return 3.0 / involved
        parts = (self.hits - self.rate * self.made) / self.attempts
        relative = float(np.linalg.norm(parts)) / self.rate
        return min(self.rate * math.exp(float(student.ppf(0.95, involved - 1)) * relative), 1.0)


def characters(encoder: Encoder, bundle: Bundle, data_dir: Path | None) -> People:
    """Omniglot's characters that the encoder was not trained on, in all orientations that tell them apart."""
    unseen, _ = load_unseen("omniglot", bundle.manifest, data_dir)
    kept: list[NDArray[np.float32]] = []
    clusters = []
    oriented = []
    for orientation in range(_ORIENTATIONS):
        images = unseen.images if orientation < 4 else unseen.images[:, :, ::-1]
        oriented.append(encoder.embed_many(np.ascontiguousarray(np.rot90(images, orientation % 4, axes=(1, 2)))))
        print(f"\romniglot, orientation {orientation + 1} of {_ORIENTATIONS}", end="", file=sys.stderr)
    for character in range(len(unseen.identities)):
        means: list[NDArray[np.float32]] = []
        for embeddings in oriented:
            own = embeddings[unseen.labels == character]
            mean = own.mean(axis=0) / np.linalg.norm(own.mean(axis=0))
            if all(mean @ other < _ALIKE for other in means):
                means.append(mean)
                kept.append(own)
                clusters.append(character)
    print(file=sys.stderr)
    return People(np.stack(kept), np.array(clusters))


def glyphs(encoder: Encoder, alphabets: int, seed: int) -> People:
    """Characters of made-up alphabets."""
    embeddings = []
    for alphabet in range(alphabets):
        drawings = draw_alphabet(alphabet, seed)[:, :_GLYPH_DRAWERS]
        images = [prepare(Image.fromarray(one), encoder.input) for one in drawings.reshape(-1, *drawings.shape[2:])]
        embeddings.append(encoder.embed_many(np.stack(images)).reshape(CHARACTERS, _GLYPH_DRAWERS, -1))
        print(f"\rglyphs, alphabet {alphabet + 1} of {alphabets}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return People(np.concatenate(embeddings), np.repeat(np.arange(alphabets), CHARACTERS))


def measure(data: str, people: People, calibrating: Iterator[NDArray[np.bool_]], seed: int) -> list[Result]:
    """Calibrate on some people, enrol and ask for others, again and again.

    Args:
        data: Name of the data.
        people: All of them.
        calibrating: Masks over `people`; no cluster is on both sides.
        seed: Draws galleries and probes.
    """
    counts = {size: _Count(len(people.clusters)) for size in _SIZES[data]}
    by_cluster = {size: _Count(int(people.clusters.max()) + 1) for size in counts}
    mated: dict[int, list[NDArray[np.bool_]]] = {size: [] for size in counts}
    promised: dict[int, list[float]] = {size: [] for size in counts}
    thresholds: dict[int, list[tuple[float, bool]]] = {size: [] for size in counts}
    for number, mask in enumerate(calibrating):
        rng = np.random.default_rng((seed, number))
        calibration = calibrated(people.only(mask), number)
        others, identities = people.only(~mask), np.flatnonzero(~mask)
        for size, count in counts.items():
            threshold = threshold_for(calibration, "cosine", TARGET, size)
            thresholds[size].append((threshold.value, threshold.provisional))
            genuine, impostor = [], []
            for _ in range(_GALLERIES[size]):
                enrolled, strangers = draw(others, size, rng)
                templates = others.embeddings[enrolled, 0]
                probes = others.embeddings[strangers, 0] @ templates.T
                accepted, best = decide(probes, threshold.value, calibration.margin)
                for kept, names in ((count, identities), (by_cluster[size], others.clusters)):
                    kept.add(names[strangers], accepted, names[enrolled[best]], names[enrolled])
                impostor.append(probes.ravel())
                own = others.embeddings[enrolled, 1] @ templates.T
                accepted, best = decide(own, threshold.value, calibration.margin)
                mated[size].append(accepted & (best == np.arange(size)))
                genuine.append(own.diagonal())
                others = shuffled(others, rng)
            promised[size].append(
                frr_at(np.concatenate(genuine), threshold_at(np.concatenate(impostor), TARGET / size))
            )
        print(f"\r{data}, calibration {number + 1}", end="", file=sys.stderr)
    print(file=sys.stderr)
    results = []
    for size, count in counts.items():
        values, provisional = np.array(thresholds[size]).T
        asked = np.concatenate(mated[size])
        results.append(
            Result(
                data=data,
                enrolled=size,
                attempts=count.attempts,
                fpir=count.rate,
                fpir_upper_95=count.upper_95(),
                fpir_upper_95_clusters=by_cluster[size].upper_95(),
                mated=len(asked),
                fnir=float(1.0 - asked.mean()),
                promised=float(np.mean(promised[size])),
                threshold=float(values.mean()),
                spread=float(values.std()),
                provisional=float(provisional.mean()),
            )
        )
    return results


def calibrated(people: People, seed: int) -> Calibration:
    """The calibration of these people for one template each."""
    images = people.embeddings.shape[1]
    labels = np.repeat(np.arange(len(people.embeddings)), images)
    embeddings = people.embeddings.reshape(len(labels), -1)
    settings = CalibrationSettings("", counts=(1,), seed=seed)
    return calibrate_embeddings(embeddings, Sample.whole(labels), "cosine", variant=VARIANT, settings=settings)[0]


def draw(people: People, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who is enrolled, and who asks without being it; of a character that is enrolled no other orientation does."""
    order = rng.permutation(len(people.clusters))
    if size * 2 < len(np.unique(people.clusters)):
        enrolled = order[np.sort(np.unique(people.clusters[order], return_index=True)[1])][:size]
    else:
        # whole characters or alphabets, so that others are left
        rank = rng.permutation(int(people.clusters.max()) + 1)[people.clusters]
        enrolled = np.argsort(rank, kind="stable")[:size]
    strangers = order[~np.isin(people.clusters[order], people.clusters[enrolled])]
    return enrolled, strangers[:_PROBES]


def decide(alike: NDArray[np.float32], threshold: float, margin: float) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each probe (rows) is accepted, and as whom (columns), as `decision.decide_among` has it."""
    second, best = np.partition(alike, -2, axis=1)[:, -2:].T
    return (best >= threshold) & (best - second >= margin) & (best > second), alike.argmax(axis=1)


def shuffled(people: People, rng: np.random.Generator) -> People:
    """The same people, each with their images in another order."""
    order = rng.permuted(np.tile(np.arange(people.embeddings.shape[1]), (len(people.embeddings), 1)), axis=1)
    return People(people.embeddings[np.arange(len(order))[:, np.newaxis], order], people.clusters)


def halvings(people: People, count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Half of the clusters, then the other half, `count` times."""
    clusters = int(people.clusters.max()) + 1
    for number in range(count):
        side = np.random.default_rng((seed, 1, number)).permutation(clusters) < clusters // 2
        yield side[people.clusters]
        yield ~side[people.clusters]


def few(people: People, count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """`_GLYPH_CALIBRATING` clusters, `count` times."""
    clusters = int(people.clusters.max()) + 1
    for number in range(count):
        yield np.random.default_rng((seed, 2, number)).permutation(clusters)[people.clusters] < _GLYPH_CALIBRATING


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    parser.add_argument("--halvings", type=int, default=10, metavar="N", help="of the characters (10)")
    parser.add_argument("--glyphs", type=int, default=560, metavar="N", help="alphabets (560), of 20 characters each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle, VARIANT)
    drawn = characters(encoder, bundle, arguments.data_dir)
    results = measure("omniglot", drawn, halvings(drawn, arguments.halvings, arguments.seed), arguments.seed)
    identities = {"omniglot": len(drawn.clusters)}
    drawn = glyphs(encoder, arguments.glyphs, arguments.seed + 7)
    results += measure("glyphs", drawn, few(drawn, arguments.halvings, arguments.seed), arguments.seed)
    identities["glyphs"] = len(drawn.clusters)
    for one in results:
        print(
            f"{one.data:8} {one.enrolled:6,} enrolled: FPIR {one.fpir:.4f} for {TARGET:g},"
            f" up to {one.fpir_upper_95:.4f} (identities) or {one.fpir_upper_95_clusters:.4f} (characters, alphabets), "
            f"FNIR {one.fnir:.3f}, promised {one.promised:.3f}, threshold {one.threshold:.3f} ± {one.spread:.3f}"
        )
    if arguments.out is not None:
        found = {
            "command": f"python benchmarks/research/fpir.py {arguments.bundle.name} --halvings {arguments.halvings}"
            f" --glyphs {arguments.glyphs} --seed {arguments.seed}",
            "target_fpir": TARGET,
            "identities": identities,
            "fingerprint": encoder.fingerprint,
            "seconds": round(time.monotonic() - started),
            "results": [asdict(one) for one in results],
        }
        write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
