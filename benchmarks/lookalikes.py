r"""How long `lookalikes` compares everybody with everybody, by the number of templates; on one thread.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/lookalikes.py --out benchmarks/results/lookalikes.json

Templates are random directions, one a person. Thresholds are set so that a given share of all pairs are look-alikes, as
at a door whose target FAR is this share.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import NormalDist

import numpy as np

from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.matching.lookalikes import Door, find_alike

SIZES = (1000, 10_000, 100_000)
_DIMENSIONS = 128
_SHOWN = 20


def measure(templates: int, share: float) -> dict[str, float]:
    """Seconds of the processor, and the pairs found, among so many people."""
    vectors = np.random.default_rng(0).standard_normal((templates, _DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # cosines of random directions are nearly normal
    threshold = NormalDist().inv_cdf(1 - share) / _DIMENSIONS**0.5
    started = time.process_time()  # other programs may keep the processor busy
    found = find_alike(np.arange(templates), vectors, Door("cosine", "best", (threshold,), 1.0), _SHOWN)
    return {"templates": templates, "share": share, "seconds": time.process_time() - started, "pairs": found.total}


def main() -> None:
    """Measure each size, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--shares", type=float, nargs="+", default=(1e-3, 1e-5))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    for size in arguments.sizes:
        for share in arguments.shares:
            results.append(measure(size, share))
            print(json.dumps(results[-1]), flush=True)
    if arguments.out is not None:
        write_atomically(arguments.out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
