r"""Compare the rules that combine a person's templates: best, mean or trimmed mean of three and five.

    python benchmarks/research/template_rules.py base.oneshot --data omniglot \
        --out benchmarks/results/template-rules-omniglot.json
    python benchmarks/research/template_rules.py faces.oneshot --data olivetti.zip \
        --out benchmarks/results/template-rules-olivetti.json

Galleries are drawn from the identities that the encoder was not trained on, as calibration draws them; every other
image is compared with every person. The trimmed mean leaves out the highest and the lowest score: of three it is the
median. The rules score the same images, so their difference has the paired interval of `verification.rate_changes`.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.unseen_data import load_unseen
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.drift_section import Change
from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.judging.metrics import frr_at, threshold_at
from edge_oneshot_export.judging.protocols import Pairs, score_matrix
from edge_oneshot_export.judging.verification import Linearised, rate_changes

RULES = ("best", "mean", "trimmed mean")
COUNTS = (3, 5)
FARS = {"1e-2": 1e-2, "1e-3": 1e-3}

_GALLERIES = 5


@dataclass(frozen=True, slots=True)
class Result:
    """What a rule does.

    Attributes:
        rule: One of `RULES`.
        templates: Of each person.
        frr: False reject rate at each of `FARS`.
        beside_mean: By how much it is larger than that of the mean, and the 95 % interval; without the rates
            that so few people do not support.
    """

    rule: str
    templates: int
    frr: dict[str, float]
    beside_mean: dict[str, tuple[float, tuple[float, float]]]


def joined(alike: NDArray[np.floating], rule: str) -> NDArray[np.float32]:
    """Scores of people, (p, people), from those of their templates, (p, people, k)."""
    if rule == "best":
        return alike.max(axis=2).astype(np.float32)
    if rule == "mean":
        return alike.mean(axis=2, dtype=np.float64).astype(np.float32)
    return np.sort(alike, axis=2)[:, :, 1:-1].mean(axis=2, dtype=np.float64).astype(np.float32)


def trials(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], templates: int, metric: Metric, seed: int
) -> dict[str, Pairs]:
    """Probes against galleries of everybody, by each rule; a person is named by one of their images."""
    rng = np.random.default_rng((seed, templates))
    people = [own for own in (np.flatnonzero(labels == label) for label in np.unique(labels)) if len(own) > templates]
    first = np.array([own[0] for own in people])
    parts: dict[str, list[NDArray[np.float32]]] = {rule: [] for rule in RULES}
    asked = []
    for _ in range(_GALLERIES):
        drawn = [rng.permutation(own) for own in people]
        gallery = embeddings[np.concatenate([own[:templates] for own in drawn])]
        probes = np.concatenate([own[templates:] for own in drawn])
        alike = score_matrix(embeddings[probes], gallery, metric).reshape(len(probes), len(people), templates)
        for rule, scores in parts.items():
            scores.append(joined(alike, rule))
        asked.append(probes)
    probes = np.concatenate(asked)
    pairs = np.stack(np.broadcast_arrays(probes[:, np.newaxis], first), axis=2)
    same = labels[probes][:, np.newaxis] == labels[first]
    every = {rule: np.concatenate(scores) for rule, scores in parts.items()}
    return {rule: Pairs(scores[same], scores[~same], pairs[same], pairs[~same]) for rule, scores in every.items()}


def compare(embeddings: NDArray[np.float32], labels: NDArray[np.int64], metric: Metric, seed: int) -> list[Result]:
    """Each rule beside the mean, for each of `COUNTS`."""
    results = []
    for templates in COUNTS:
        by_rule = trials(embeddings, labels, templates, metric, seed)
        linear = {rule: Linearised.of(pairs, labels) for rule, pairs in by_rule.items()}
        for rule, pairs in by_rule.items():
            changes = rate_changes(linear["mean"], linear[rule])
            results.append(
                Result(
                    rule=rule,
                    templates=templates,
                    frr={name: frr_at(pairs.genuine, threshold_at(pairs.impostor, far)) for name, far in FARS.items()},
                    beside_mean={
                        name: _more_rejected(changes[name]) for name in FARS if name in changes and rule != "mean"
                    },
                )
            )
    return results


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    parser.add_argument("--data", required=True, metavar="DATA", help="omniglot, glyphs, or a folder or zip of people")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    parser.add_argument("--variant", metavar="V", help="(the bundle's first)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle, arguments.variant)
    unseen, _ = load_unseen(arguments.data, bundle.manifest, arguments.data_dir, faces=encoder.faces)
    shown = np.array([fault is None for fault in unseen.faults or [None] * len(unseen.images)])
    embeddings = encoder.embed_many(unseen.images[shown])
    results = compare(embeddings, unseen.labels[shown], encoder.embedding.metric, arguments.seed)
    words = [one.rpartition("/")[2] for one in sys.argv[1:]]
    found = {
        "command": f"python benchmarks/research/template_rules.py {' '.join(words)}",
        "data": arguments.data if arguments.data in ("omniglot", "glyphs") else "a folder",
        "people": len(np.unique(unseen.labels[shown])),
        "images": int(shown.sum()),
        "fingerprint": encoder.fingerprint,
        "seconds": round(time.monotonic() - started),
        "results": [asdict(one) for one in results],
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        for one in results:
            print(f"{one.rule:12} of {one.templates}: " + ", ".join(_in_words(one, name) for name in FARS))
    if arguments.out is not None:
        write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


def _more_rejected(change: Change) -> tuple[float, tuple[float, float]]:
    """A change of the true positive rate as one of the false reject rate."""
    low, high = change.interval
    return -change.difference, (-high, -low)


def _in_words(result: Result, name: str) -> str:
    text = f"FRR {result.frr[name]:.2%} at {name}"
    if name in result.beside_mean:
        difference, (low, high) = result.beside_mean[name]
        text += f" ({difference:+.2%} beside the mean, {low:+.2%} to {high:+.2%})"
    return text


if __name__ == "__main__":
    sys.exit(main())
