r"""Measure probes that are the mean of several photos of a person, at the thresholds of single probes.

    python -m benchmarks.research.fused_probes faces.oneshot --data lfw-half.zip --kept FOLDER \
        --out benchmarks/results/fused-probes.json

Every photo that the device takes counts, at most eight of a person; each is a template. Of the photos of a person,
drawn in a random order, groups of `COUNTS` are probes; single probes are the photos of the same groups, one by one. A
group whose photos do not agree with its first one, at the bundle's threshold of 1:1, is left out, as the door does it.
The mean is the door's, whose score is the mean of the scores; others are weighted by how far each photo stays below
the limits of the quality gate, or brought to length 1. Thresholds are those at which single probes of all photos keep
a false accept rate (FAR). Genuine pairs are of templates that are not in the group, and each person counts once.
Intervals are percentiles of a bootstrap over people, who take their probes and their templates with them; ratios are
paired.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from benchmarks.research.face_looks import embedded, look
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.door.approach import fuse
from edge_oneshot_device.faces.quality import Quality, worst_share
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.formatting import align
from edge_oneshot_device.matching.thresholds import calibration_for, threshold_for

PHOTOS = 8  # of a person, at most
COUNTS = (2, 3, 5)  # photos of a probe
RATES = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4, "1e-5": 1e-5}
WAYS = ("single", "mean", "weighted mean", "mean of length 1")
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Photos that the device takes.

    Attributes:
        rows: float32 (n, d), their embeddings.
        labels: int64 (n,), whose they are.
        weights: float64 (n,), how far each stays below the limits of the quality gate, 0..1.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def people(self) -> int:
        """How many people they show."""
        return int(self.labels.max()) + 1


def taken(bundle: Bundle, encoder: Encoder, data: Path, kept: Path, seed: int) -> Photos:
    """The photos that the device takes, at most eight of a person, in a random order."""
    looks, limits = look(bundle, data, kept), bundle.manifest.input.face.limits
    whole = np.zeros((len(looks.found), encoder.embedding.size), np.float32)
    whole[looks.found] = embedded(encoder, looks.chips[looks.found], kept, bundle)
    usable = np.array([reason is None for reason in looks.refused(limits)]) & looks.found
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero(usable))
    rank = np.zeros(len(chosen), np.int64)
    seen: dict[int, int] = {}
    for place, photo in enumerate(chosen):
        rank[place] = seen.get(int(looks.labels[photo]), 0)
        seen[int(looks.labels[photo])] = rank[place] + 1
    chosen = chosen[rank < PHOTOS]
    shares = [worst_share(Quality(*looks.quality[photo].tolist()), limits) for photo in chosen]
    labels = np.unique(looks.labels[chosen], return_inverse=True)[1]
    return Photos(whole[chosen], labels, 1.0 - np.minimum(shares, 1.0))


def groups(photos: Photos, count: int, least: float) -> tuple[NDArray[np.int64], int]:
    """Photos of probes (g, count), and how many groups are left out because they do not agree."""
    every = [
        own[: len(own) // count * count].reshape(-1, count)
        for own in (np.flatnonzero(photos.labels == person) for person in range(photos.people))
    ]
    found = np.concatenate(every)
    rows = photos.rows[found]
    agree = (np.einsum("gd,gkd->gk", rows[:, 0], rows) >= least).all(axis=1)
    return found[agree], int((~agree).sum())


def probes(photos: Photos, group: NDArray[np.int64], way: str) -> NDArray[np.float32]:
    """The probes of groups (g, k): float32 (g, d), or (g * k, d) of single photos."""
    rows = photos.rows[group]
    if way == "single":
        return rows.reshape(-1, rows.shape[2])
    if way == "mean":
        return np.stack([fuse(list(one), "cosine") for one in rows])
    if way == "mean of length 1":
        mean = rows.mean(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)
    weights = photos.weights[group] + 0.01
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("gk,gkd->gd", weights, rows).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """What is accepted at a threshold, by person, in whole or resampled.

    Attributes:
        far: float64 (1 + resamples,), the first of all people.
        tpr: Likewise.
    """

    far: NDArray[np.float64]
    tpr: NDArray[np.float64]


def accepted(photos: Photos, group: NDArray[np.int64], way: str, thresholds, draws) -> list[Accepted]:
    """The rates of the probes of groups at each threshold."""
    people, labels = photos.people, photos.labels
    rows = probes(photos, group, way)
    owners = labels[group[:, 0]]
    owner = np.repeat(owners, len(rows) // len(group))
    of_group = np.repeat(np.arange(len(group)), len(rows) // len(group))
    made, templates = np.bincount(owner, minlength=people), np.bincount(labels, minlength=people)
    total = (draws @ made) * (draws @ templates) - (draws**2 @ (made * templates))
    hits = [[] for _ in thresholds]
    right, of = np.zeros((len(thresholds), people)), np.zeros(people)
    for first in range(0, len(rows), 500):
        part = slice(first, first + 500)
        alike = rows[part] @ photos.rows.T
        same = owner[part, np.newaxis] == labels
        held = same.copy()
        for line, members in enumerate(group[of_group[part]]):
            held[line, members] = False
        np.add.at(of, owner[part], held.sum(axis=1))
        for number, threshold in enumerate(thresholds):
            above = alike >= threshold
            line, column = np.nonzero(above & ~same)
            hits[number].append(np.stack([owner[part][line], labels[column]]))
            np.add.at(right[number], owner[part], (above & held).sum(axis=1))
    found = []
    for number in range(len(thresholds)):
        one, other = np.concatenate(hits[number], axis=1)
        wrong = coo_array((np.ones(len(one)), (one, other)), (people, people)).tocsr()
        false = np.array([draw @ (wrong @ draw) for draw in draws])
        share = np.divide(right[number], of, out=np.zeros(people), where=of > 0)
        found.append(Accepted(false / total, (draws @ share) / (draws @ (of > 0))))
    return found


def interval(values: NDArray[np.float64]) -> list[float]:
    """The first value, and the 95 % interval of the others."""
    return [float(values[0]), *np.nanquantile(values[1:], (0.025, 0.975)).tolist()]


def measure(photos: Photos, least: float, seed: int) -> list[dict[str, object]]:
    """The rates of each count and way."""
    alike = photos.rows @ photos.rows.T
    strangers = alike[photos.labels[:, np.newaxis] != photos.labels]
    thresholds = np.quantile(strangers, [1.0 - rate for rate in RATES.values()], method="higher")
    rng = np.random.default_rng(seed)
    draws = np.ones((1 + RESAMPLES, photos.people))
    for draw in draws[1:]:
        draw[:] = np.bincount(rng.integers(photos.people, size=photos.people), minlength=photos.people)
    found = []
    for count in COUNTS:
        group, left_out = groups(photos, count, least)
        reference = None
        for way in WAYS:
            rates = accepted(photos, group, way, thresholds, draws)
            reference = reference or rates
            for name, threshold, one, single in zip(RATES, thresholds, rates, reference, strict=True):
                found.append(
                    {
                        "photos": count,
                        "probe": way,
                        "rate": name,
                        "threshold": float(threshold),
                        "groups": len(group),
                        "people": len(np.unique(photos.labels[group[:, 0]])),
                        "left_out": left_out,
                        "far": interval(one.far),
                        "accepted": interval(one.tpr),
                        "far_ratio": None if way == "single" else interval(one.far / single.far),
                        "accepted_difference": None if way == "single" else interval(one.tpr - single.tpr),
                    }
                )
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--kept", type=Path, required=True, metavar="FOLDER", help="for looks and embeddings")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photos and of people (0)")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle)
    calibration = calibration_for(bundle.manifest, encoder.variant, 1)
    least = threshold_for(calibration, "cosine", calibration.target_far).value
    photos = taken(bundle, encoder, arguments.data, arguments.kept, arguments.seed)
    rows = measure(photos, least, arguments.seed)
    content = {
        "command": "python -m benchmarks.research.fused_probes faces.oneshot --data lfw-half.zip --kept FOLDER",
        "fingerprint": encoder.fingerprint,
        "variant": encoder.variant,
        "photos": len(photos.labels),
        "people": photos.people,
        "least_score": least,
        "rows": rows,
    }
    if arguments.out:
        write_atomically(arguments.out, json.dumps(content, indent=1).encode() + b"\n")
    head = ("photos", "probe", "rate", "groups", "people", "left out", "FAR", "ratio to single", "accepted")
    shown = [
        (
            str(one["photos"]),
            one["probe"],
            one["rate"],
            str(one["groups"]),
            str(one["people"]),
            str(one["left_out"]),
            "{:.2e} ({:.1e} to {:.1e})".format(*one["far"]),
            "" if one["far_ratio"] is None else "{:.2f} ({:.2f} to {:.2f})".format(*one["far_ratio"]),
            "{:.2%} ({:.2%} to {:.2%})".format(*one["accepted"]),
        )
        for one in rows
    ]
    print(align([head, *shown]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
