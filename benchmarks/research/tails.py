"""Measure the true false accept rate of extrapolated thresholds, by how far they lie below the supported rates.

    python benchmarks/research/tails.py tiny.oneshot --out benchmarks/results/tails.json

A few identities of Omniglot or of made-up alphabets (glyphs) calibrate. Their generalized Pareto tail gives
thresholds for rates below the smallest supported one. How often such a threshold accepts is counted over all pairs of
identities there are, of which the calibrating ones are few. Identities are those of `fpir.py`.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from fpir import VARIANT, People, calibrated, characters, glyphs
from numpy.typing import NDArray

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Tail
from edge_oneshot_device.files import write_atomically

DEPTHS = (1, 10, 100, 1000)
PEOPLE = (40, 100, 400)

_BINS = 400_000
_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Result:
    """Thresholds at a depth, over calibrations.

    Attributes:
        data: ``omniglot`` or ``glyphs``.
        people: Who calibrate.
        depth: The smallest rate that they support is divided by it.
        wanted: The rate that is asked for.
        low, median, high: 5th percentile, median and 95th percentile of the true rate, in multiples of it.
        unreachable: Share of the thresholds above 1, which no score reaches.
    """

    data: str
    people: int
    depth: int
    wanted: float
    low: float
    median: float
    high: float
    unreachable: float


def accept_rates(people: People) -> NDArray[np.float64]:
    """Share of comparisons of two clusters at or above each of `_BINS` + 1 scores from -1 to 1."""
    images = people.embeddings.shape[1]
    vectors = people.embeddings.reshape(-1, people.embeddings.shape[2])
    clusters = np.repeat(people.clusters, images)
    counts = np.zeros(_BINS + 1)
    probes = np.arange(0, len(vectors), images) if len(vectors) > 40_000 else np.arange(len(vectors))
    templates = np.arange(0, len(vectors), images)
    for start in range(0, len(probes), _ROWS):
        rows = probes[start : start + _ROWS]
        alike = vectors[rows] @ vectors[templates].T
        kept = alike[clusters[rows][:, np.newaxis] != clusters[templates]]
        places = np.clip(((kept.astype(np.float64) + 1.0) / 2.0 * _BINS).astype(np.int64), 0, _BINS)
        counts += np.bincount(places, minlength=_BINS + 1)
    return counts[::-1].cumsum()[::-1] / counts.sum()


def extrapolated(tail: Tail, wanted: float) -> float:
    """Score at which the tail has a rate, however high."""
    depth = np.log(tail.far / wanted)
    return float(tail.threshold + tail.scale * (np.expm1(tail.shape * depth) / tail.shape if tail.shape else depth))


def measure(data: str, people: People, draws: int, seed: int) -> list[Result]:
    """Calibrate with a few, `draws` times, and count over all."""
    rates = accept_rates(people)
    results = []
    for count in PEOPLE:
        if count * 4 > len(people.clusters):
            continue
        found: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
        above = dict.fromkeys(DEPTHS, 0)
        smallest = 0.0
        for number in range(draws):
            rng = np.random.default_rng((seed, count, number))
            chosen = np.zeros(len(people.clusters), dtype=bool)
            chosen[rng.permutation(len(people.clusters))[:count]] = True
            tail = calibrated(people.only(chosen), number).tail
            smallest = tail.far
            for depth in DEPTHS:
                threshold = extrapolated(tail, smallest / depth)
                above[depth] += threshold > 1.0
                place = min(int(np.ceil((min(threshold, 1.0) + 1.0) / 2.0 * _BINS)), _BINS)
                found[depth].append(float(rates[place]) / (smallest / depth))
            print(f"\r{data}, {count} people, calibration {number + 1}", end="", file=sys.stderr)
        print(file=sys.stderr)
        for depth, ratios in found.items():
            low, median, high = np.quantile(ratios, (0.05, 0.5, 0.95))
            results.append(
                Result(
                    data, count, depth, smallest / depth, float(low), float(median), float(high), above[depth] / draws
                )
            )
    return results


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    parser.add_argument("--draws", type=int, default=100, metavar="N", help="calibrations of each size (100)")
    parser.add_argument("--glyphs", type=int, default=560, metavar="N", help="alphabets (560), of 20 characters each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle, VARIANT)
    results = measure("omniglot", characters(encoder, bundle, arguments.data_dir), arguments.draws, arguments.seed)
    results += measure("glyphs", glyphs(encoder, arguments.glyphs, arguments.seed + 7), arguments.draws, arguments.seed)
    for one in results:
        print(
            f"{one.data:8} {one.people:4} people, a rate of {one.wanted:.3g} (1/{one.depth}): really {one.median:.2f}"
            f" times ({one.low:.2f} to {one.high:.2f}), out of reach {one.unreachable:.2f}"
        )
    if arguments.out is not None:
        found = {
            "command": f"python benchmarks/research/tails.py {arguments.bundle.name} --draws {arguments.draws}"
            f" --glyphs {arguments.glyphs} --seed {arguments.seed}",
            "bundle_sha256": bundle.sha256,
            "results": [asdict(one) for one in results],
        }
        write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
