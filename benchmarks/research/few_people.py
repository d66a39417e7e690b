r"""Calibrate a bundle with few people, many times, and count the false accepts of everybody else at the new thresholds.

    python benchmarks/research/few_people.py faces.oneshot --data lfw-half.zip --cache embeddings.npz \
        --out benchmarks/results/few-people.json

Every photo is embedded once; the embeddings stay in the file that ``--cache`` names. Then people who have at least two
photos are drawn, `calibrate_embeddings` calibrates with them and the bundle's thresholds as `calibrate` does, and all
pairs of photos of two others are compared at the new default. Three worlds differ in whom the thresholds before come
from, and who is drawn:

- ``bundle``: the bundle's own thresholds; anybody is drawn. Where they come from the same data, they know those who
  are judged.
- ``halves``: thresholds from a random half of the people, of ten; drawn and judged are people of the other half.
- ``groups``: the bundle's own thresholds; drawn and judged are people of one group of four who look alike, by k-means
  of the mean embeddings of people.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.data.loading import load_data
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Calibration, Metric
from edge_oneshot_device.faces.quality import QUALITY_FAULTS
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.matching.support import supported_targets
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate_embeddings
from edge_oneshot_export.judging.protocols import score_matrix
from edge_oneshot_export.judging.sampling import Sample

WORLDS = ("bundle", "halves", "groups")
SIZES = (4, 8, 10, 20, 40)
GROUPS = 4
_MOST_PHOTOS = 25  # of a person, as `calibrate` takes them
_ROWS = 500
_HALVINGS = 10  # because a calibration on a thousand takes seconds


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Embeddings of photos, and the impostor pairs with the highest scores.

    Attributes:
        embeddings: float32 (n, d).
        labels: int64 (n,), the person of each photo.
        metric: How they are compared.
        scores: float32 (m,), falling: the impostor scores from some floor on.
        pairs: int64 (m, 2), the two people of each.
        genuine: float32 (g,), the scores of all pairs of photos of one person.
        owners: int64 (g,), the person of each.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    metric: Metric
    scores: NDArray[np.float32]
    pairs: NDArray[np.int64]
    genuine: NDArray[np.float32]
    owners: NDArray[np.int64]

    @property
    def people(self) -> int:
        """Number of people."""
        return int(self.labels.max()) + 1

    @property
    def enrollable(self) -> NDArray[np.int64]:
        """The people who have two photos."""
        return np.flatnonzero(np.bincount(self.labels) > 1)

    def far(self, judged: NDArray[np.bool_], threshold: float) -> float:
        """The share of all pairs of photos of two of the judged people, bool (people,), that score so high."""
        accepted = self.pairs[: int(np.searchsorted(-self.scores, -threshold, side="right"))]
        photos = np.bincount(self.labels)[judged]
        made = (int(photos.sum()) ** 2 - int((photos**2).sum())) // 2
        return int((judged[accepted[:, 0]] & judged[accepted[:, 1]]).sum()) / made

    def photos_of(self, people: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The positions of at most 25 photos of each of these people."""
        drawn = [rng.permutation(np.flatnonzero(self.labels == person))[:_MOST_PHOTOS] for person in people]
        return np.sort(np.concatenate(drawn))


def embed(encoder: Encoder, data: str, cache: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The embedding and the person of each photo with one face, whatever its quality; kept in `cache`."""
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["fingerprint"]) == encoder.fingerprint:
                return kept["embeddings"], kept["labels"]
    people = load_data(data, encoder.input, faces=encoder.faces, progress=_show, gate=False)
    assert people.faults is not None
    shown = np.array([fault is None or fault in QUALITY_FAULTS for fault in people.faults])
    embeddings = encoder.embed_many(people.images[shown])
    labels = np.unique(people.labels[shown], return_inverse=True)[1].astype(np.int64)
    with cache.open("wb") as file:
        np.savez(file, embeddings=embeddings, labels=labels, fingerprint=encoder.fingerprint)
    return embeddings, labels


def build_world(embeddings: NDArray[np.float32], labels: NDArray[np.int64], metric: Metric, floor: float) -> World:
    """Score all pairs of photos, and keep the impostor scores from `floor` on."""
    scores, pairs, genuine, owners = [], [], [], []
    for first in range(0, len(embeddings), _ROWS):
        found = score_matrix(embeddings[first : first + _ROWS], embeddings, metric).astype(np.float32)
        one = labels[first : first + _ROWS, np.newaxis]
        after = np.arange(len(labels)) > np.arange(first, first + len(found))[:, np.newaxis]
        row, column = np.nonzero(after & (one != labels) & (found >= floor))
        scores.append(found[row, column])
        pairs.append(np.stack([labels[row + first], labels[column]], axis=1))
        row, column = np.nonzero(after & (one == labels))
        genuine.append(found[row, column])
        owners.append(labels[column])
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    return World(
        embeddings,
        labels,
        metric,
        scores=score[order],
        pairs=np.concatenate(pairs)[order],
        genuine=np.concatenate(genuine),
        owners=np.concatenate(owners),
    )


def calibrated(
    world: World,
    people: NDArray[np.int64],
    rng: np.random.Generator,
    target_far: float | None = None,
    prior: Sequence[Calibration] = (),
) -> Calibration:
    """The calibration for the best score of one template, as `calibrate` makes it from these people."""
    photos = world.photos_of(people, rng)
    labels = np.unique(world.labels[photos], return_inverse=True)[1]
    settings = CalibrationSettings("", target_far, counts=(1,), seed=int(rng.integers(2**31)))
    made = calibrate_embeddings(
        world.embeddings[photos], Sample.whole(labels), world.metric, variant="", settings=settings, prior=prior
    )
    return next(one for one in made if one.rule == "best")


def drawing(
    name: str, world: World, own: Calibration, rng: np.random.Generator
) -> Iterator[tuple[Calibration, NDArray[np.bool_]]]:
    """The draws of a world, without end: the thresholds before, and who may be drawn and judged, bool (people,)."""
    cases = [(own, np.ones(world.people, bool))]
    if name == "halves":
        known = [rng.permutation(world.people) < world.people // 2 for _ in range(_HALVINGS)]
        cases = [(calibrated(world, np.flatnonzero(half), rng, own.target_far), ~half) for half in known]
    elif name == "groups":
        group = group_people(world, rng)
        cases = [(own, group == number) for number in range(GROUPS)]
    return itertools.cycle(cases)


def group_people(world: World, rng: np.random.Generator) -> NDArray[np.int64]:
    """A group of people who look alike for each person: k-means of the mean embeddings (Lloyd 1982)."""
    middles = np.zeros((world.people, world.embeddings.shape[1]))
    np.add.at(middles, world.labels, world.embeddings)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    centres = middles[rng.permutation(world.people)[:GROUPS]]
    for _ in range(50):
        group = (middles @ centres.T).argmax(axis=1)
        centres = np.stack([middles[group == number].mean(axis=0) for number in range(GROUPS)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(group, np.int64)


def draw(
    world: World, before: Calibration, members: NDArray[np.bool_], size: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Calibrate with people of `members`, bool (people,), and judge the others of them.

    Returns:
        The false accept rate as a multiple of the promised one, at the new default and at the one before; then the
        share of genuine pairs that are rejected at both.
    """
    people = rng.permutation(world.enrollable[members[world.enrollable]])[:size]
    judged = members.copy()
    judged[people] = False
    after = calibrated(world, people, rng, prior=[before])
    new, old = (
        next(point.threshold for point in one.points if point.target_far == one.target_far) for one in (after, before)
    )
    genuine = world.genuine[judged[world.owners]]
    return (
        world.far(judged, new) / after.target_far,
        world.far(judged, old) / before.target_far,
        float((genuine < new).mean()),
        float((genuine < old).mean()),
    )


def measure(name: str, world: World, own: Calibration, draws: int, seed: int) -> list[dict[str, object]]:
    """For each number of people: how the false accept rate of the others compares with the promised one."""
    rng = np.random.default_rng((seed, WORLDS.index(name)))
    drawn, results = drawing(name, world, own, rng), []
    for size in SIZES:
        ratio, before, rejected, rejected_before = np.array(
            [draw(world, *next(drawn), size, rng) for _ in range(draws)]
        ).T
        results.append(
            {
                "world": name,
                "people": size,
                "draws": draws,
                "target_far": own.target_far,
                "target_far_alone": supported_targets(size)[-1],
                "above": float((ratio > 1.0).mean()),
                "ratio_median": float(np.median(ratio)),
                "ratio_largest": float(ratio.max()),
                "rejected_mean": float(rejected.mean()),
                "rejected_largest": float(rejected.max()),
                "above_before": float((before > 1.0).mean()),
                "ratio_median_before": float(np.median(before)),
                "ratio_largest_before": float(before.max()),
                "rejected_mean_before": float(rejected_before.mean()),
            }
        )
    return results


def _show(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} photos", end="" if done < total else "\n", file=sys.stderr)


def main() -> int:
    """Run the draws; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    parser.add_argument("--data", required=True, metavar="DATA", help="photos of thousands of people, a folder or zip")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE.npz", help="where the embeddings are kept")
    parser.add_argument("--variant", metavar="V", help="default: the bundle's first")
    parser.add_argument("--draws", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle, arguments.variant or bundle.manifest.variants[0].name)
    own = next(
        one
        for one in bundle.manifest.calibration
        if (one.variant, one.rule, one.templates) == (encoder.variant, "best", 1)
    )
    embeddings, labels = embed(encoder, arguments.data, arguments.cache)
    floor = next(point.threshold for point in own.points if point.target_far <= 0.02)
    world = build_world(embeddings, labels, encoder.embedding.metric, floor)
    with ProcessPoolExecutor(len(WORLDS), mp_context=multiprocessing.get_context("spawn")) as pool:
        run = partial(measure, world=world, own=own, draws=arguments.draws, seed=arguments.seed)
        results = [one for found in pool.map(run, WORLDS) for one in found]
    for one in results:
        says = (
            "{world}, {people} people: FAR above {target_far:g} in {above:.0%}, {ratio_median:.2f} of it in the median,"
            " {ratio_largest:.2f} at most; before {above_before:.0%}, {ratio_median_before:.2f}, "
            "{ratio_largest_before:.2f}; rejected {rejected_mean:.1%}, before {rejected_mean_before:.1%}"
        )
        print(says.format(**one))
    words = [one.rpartition("/")[2] for one in sys.argv[1:]]
    found = {
        "command": f"python benchmarks/research/few_people.py {' '.join(words)}",
        "bundle": bundle.manifest.name,
        "variant": encoder.variant,
        "fingerprint": encoder.fingerprint,
        "calibrated": own.data,
        "people": world.people,
        "enrollable": len(world.enrollable),
        "photos": len(labels),
        "seconds": round(time.monotonic() - started),
        "results": results,
    }
    write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
