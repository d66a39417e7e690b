r"""Check whether thresholds hold on real people that they do not come from: calibrate on one half, count on the other.

    python benchmarks/research/real_bounds.py base.oneshot --data omniglot \
        --out benchmarks/results/real-bounds-omniglot.json

For each random halving of the identities, a file of the bundle is calibrated on one half (one template a person),
and the false accept rate of the other half is counted at each threshold. That half is itself a small sample, so its
rate varies as much as the first half's: it exceeds a bound of the true rate more often than the true rate does.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from edge_oneshot.unseen_data import load_unseen
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate_embeddings
from edge_oneshot_export.judging.metrics import far_at
from edge_oneshot_export.judging.protocols import genuine_and_impostor
from edge_oneshot_export.judging.sampling import Sample


def main() -> int:
    """Run the halvings; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    parser.add_argument("--data", required=True, metavar="DATA", help="omniglot, glyphs, or a folder of folders")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    parser.add_argument("--variant", metavar="V", help="(the bundle's first)")
    parser.add_argument("--halvings", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    bundle = Bundle.open(arguments.bundle)
    encoder = Encoder.open(bundle, arguments.variant)
    unseen, _ = load_unseen(arguments.data, bundle.manifest, arguments.data_dir)
    embeddings = encoder.embed_many(unseen.images)
    people, metric = len(unseen.identities), encoder.embedding.metric
    rng = np.random.default_rng(arguments.seed)
    counted: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for number in range(arguments.halvings):
        half = np.isin(unseen.labels, rng.permutation(people)[: people // 2])
        sample, settings = Sample.whole(unseen.labels[half]), CalibrationSettings("", counts=(1,), seed=number)
        one = calibrate_embeddings(embeddings[half], sample, metric, variant=encoder.variant, settings=settings)[0]
        other = genuine_and_impostor(embeddings[~half], unseen.labels[~half], metric, seed=number)
        for point in one.points:
            counted[point.target_far].append((far_at(other.impostor, point.threshold), point.far_upper_95))
        print(f"\r{number + 1} of {arguments.halvings}", end="", file=sys.stderr)
    print(file=sys.stderr)
    results = []
    for target, pairs in counted.items():
        rate, bound = np.array(pairs).T
        results.append(
            {
                "target_far": target,
                "rate_median": float(np.median(rate)),
                "rate_p95": float(np.quantile(rate, 0.95)),
                "bound_median": float(np.median(bound)),
                "within": float((rate <= bound).mean()),
            }
        )
        print("FAR {target_far:g}: of others {rate_median:.2g}, bound {bound_median:.2g}, within {within:.1%}".format(
            **results[-1]))  # fmt: skip
    words = [one.rpartition("/")[2] for one in sys.argv[1:]]
    found = {
        "command": f"python benchmarks/research/real_bounds.py {' '.join(words)}",
        "data": arguments.data if arguments.data in ("omniglot", "glyphs") else "a folder",
        "people": people,
        "images": len(unseen.images),
        "fingerprint": encoder.fingerprint,
        "halvings": arguments.halvings,
        "seconds": round(time.monotonic() - started),
        "results": results,
    }
    write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
