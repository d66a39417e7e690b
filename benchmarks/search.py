r"""Exact search of one probe among many templates, side by side with faiss and usearch, on one thread.

    pip install faiss-cpu usearch numkong
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/search.py base.oneshot \
        --out benchmarks/results/search.json

Templates are embeddings of Omniglot's drawings by the bundle's int8 file, moved by noise as far as two drawings of a
character lie apart, so that they crowd as real ones do. Half of the probes show somebody among them, half do not. The
engines take turns of a few probes each, in random order, on the same probes; times are medians, as called from Python.
Answers are compared with products in double precision.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import usearch.index
from numpy.typing import NDArray

from edge_oneshot.data.loading import load_data
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.matching.rows import Layout
from edge_oneshot_device.matching.search import Index

SIZES = (1000, 10_000, 100_000, 1_000_000)

_PROBES = 200
_TURN = {1000: 40, 10_000: 20, 100_000: 8, 1_000_000: 3}  # probes in a row, after one that is not timed
_STRANGERS = 1000  # drawings kept out of the templates
_APART = 0.75  # noise, of length 1 on average, beside an embedding of length 1: a cosine of 0.8
_TIED = 2e-6  # scores closer than that are equal to float32

Find = Callable[[NDArray[np.float32]], Sequence[int]]
"""The best two templates for a probe."""


@dataclass(frozen=True, slots=True)
class Result:
    """An engine at a size.

    Attributes:
        engine: Its name.
        metric: ``cosine`` or ``euclidean``.
        templates: How many.
        median_ms, p10_ms: Of a search.
        same: Share of probes with the best two of double precision, but for ties of float32.
        bytes_read: Of templates or their codes, by the scan.
        bandwidth: Bytes a second that numpy reads the same templates with (their maximum), in turn with the searches.
        bandwidth_share: How many times as many bytes a second the scan reads, reckoned with the whole median.
        memory: Bytes held, by the bytes of the vectors; None where unknown.
    """

    engine: str
    metric: str
    templates: int
    median_ms: float
    p10_ms: float
    same: float
    bytes_read: int
    bandwidth: float
    bandwidth_share: float
    memory: float | None


def drawn(bundle: Path, data_dir: Path | None, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Templates of `SIZES[-1]` and probes, float32 of unit length."""
    opened = Bundle.open(bundle)
    encoder = Encoder.open(opened, "int8")
    rng = np.random.default_rng(seed)
    embeddings = encoder.embed_many(load_data("omniglot", encoder.input, data_dir=data_dir).images)
    embeddings = embeddings[rng.permutation(len(embeddings))]
    known, strangers = embeddings[_STRANGERS:], embeddings[:_STRANGERS]
    templates = _moved(known[np.arange(SIZES[-1]) % len(known)], rng)
    probes = _moved(np.concatenate([known[: _PROBES // 2], strangers[: _PROBES // 2]]), rng)
    return templates, probes[rng.permutation(_PROBES)]


def engines(templates: NDArray[np.float32]) -> dict[tuple[str, Metric], tuple[Find, int, int | None]]:
    """Of each engine how it searches, the bytes that it reads for that, and those that it holds."""
    count, size = templates.shape
    owners = np.arange(count, dtype=np.int64)
    found: dict[tuple[str, Metric], tuple[Find, int, int | None]] = {}
    for metric in ("cosine", "euclidean"):
        index = _index(size, metric, owners, templates)
        quantized = (least := Layout().min_quantized) is not None and count >= least
        found["edge-oneshot", metric] = (_ours(index), templates.nbytes // (4 if quantized else 1), index.nbytes)
        plain = _index(size, metric, owners, templates, Layout(min_quantized=None))
        found["edge-oneshot without numkong", metric] = (_ours(plain), templates.nbytes, plain.nbytes)
        flat = (faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2)(size)
        flat.add(templates)
        found["faiss", metric] = (
            lambda probe, flat=flat: flat.search(probe[np.newaxis], 2)[1][0],
            templates.nbytes,
            None,
        )
        kind = usearch.index.MetricKind.IP if metric == "cosine" else usearch.index.MetricKind.L2sq
        exact = partial(usearch.index.search, templates, count=2, metric=kind, exact=True, threads=1)
        found["usearch", metric] = (lambda probe, exact=exact: exact(probe[np.newaxis]).keys, templates.nbytes, None)
    return found


def compare(templates: NDArray[np.float32], probes: NDArray[np.float32], rounds: int, seed: int) -> list[Result]:
    """Every engine on the same probes, in turns."""
    count = len(templates)
    rng = np.random.default_rng(seed)
    there = engines(templates)
    times: dict[Any, list[float]] = {key: [] for key in there}
    same: dict[Any, list[bool]] = {key: [] for key in there}
    best = [_best_two(templates, probe) for probe in probes]
    turn = _TURN[count]
    readings: list[float] = []
    for number in range(rounds):
        chosen = rng.integers(0, len(probes), turn + 1)
        for key in [list(there)[place] for place in rng.permutation(len(there))]:
            find = there[key][0]
            for place in chosen:
                started = time.perf_counter()
                answer = find(probes[place])
                times[key].append(time.perf_counter() - started)
                same[key].append(_agree(answer, best[place], templates, probes[place]))
            del times[key][-len(chosen)]
        for _ in range(turn + 1):
            started = time.perf_counter()
            templates.max()
            readings.append(time.perf_counter() - started)
        print(f"\r{count:,} templates, round {number + 1} of {rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    bandwidth = templates.nbytes / float(np.median(readings))
    return [
        Result(
            engine=engine,
            metric=metric,
            templates=count,
            median_ms=float(np.median(times[engine, metric])) * 1e3,
            p10_ms=float(np.quantile(times[engine, metric], 0.1)) * 1e3,
            same=float(np.mean(same[engine, metric])),
            bytes_read=read,
            bandwidth=bandwidth,
            bandwidth_share=read / float(np.median(times[engine, metric])) / bandwidth,
            memory=None if held is None else held / templates.nbytes,
        )
        for (engine, metric), (_, read, held) in there.items()
    ]


def changes(templates: NDArray[np.float32]) -> float:
    """Milliseconds to put a person in the place of themselves, in the median."""
    index = _index(templates.shape[1], "cosine", np.arange(len(templates), dtype=np.int64), templates)
    took = []
    for person in range(21):
        started = time.perf_counter()
        index.put(person, templates[person : person + 1])
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1e3


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="turns of each engine (15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=SIZES, help="templates (all sizes)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")):
        parser.error("set OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1, or numpy takes several threads")
    faiss.omp_set_num_threads(1)
    templates, probes = drawn(arguments.bundle, arguments.data_dir, arguments.seed)
    results = []
    for size in arguments.sizes:
        results += compare(templates[:size], probes, arguments.rounds, arguments.seed)
    put = {size: changes(templates[:size]) for size in arguments.sizes}
    found = {
        "command": f"OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/search.py {arguments.bundle.name}"
        f" --rounds {arguments.rounds} --seed {arguments.seed}"
        + (f" --sizes {' '.join(map(str, arguments.sizes))}" if arguments.sizes != SIZES else ""),
        "processor": _processor(),
        "put_ms": put,
        "results": [asdict(one) for one in results],
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        print(_processor())
        for one in results:
            print(
                f"{one.templates:9,} {one.metric:9} {one.engine:28} {one.median_ms:9.4f} ms (10 %: {one.p10_ms:.4f}), "
                f"same {one.same:.1%}, {one.bandwidth_share:.0%} of {one.bandwidth / 1e9:.1f} GB/s"
                + (f", memory {one.memory:.3f}" if one.memory is not None else "")
            )
        print("put: " + ", ".join(f"{size:,} {took:.3f} ms" for size, took in put.items()))
    if arguments.out is not None:
        write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    return 0


def _moved(embeddings: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    noise = rng.standard_normal(embeddings.shape, dtype=np.float32) * np.float32(_APART / embeddings.shape[1] ** 0.5)
    noise += embeddings
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return noise


def _index(
    size: int, metric: Metric, owners: NDArray[np.int64], templates: NDArray[np.float32], layout: Layout | None = None
) -> Index:
    index = Index(size, metric, "best", layout)
    index.load([(owners, templates)])
    return index


def _ours(index: Index) -> Find:
    return lambda probe: [match.person for match in index.search(probe)]


def _best_two(templates: NDArray[np.float32], probe: NDArray[np.float32]) -> NDArray[np.int64]:
    alike = templates @ probe
    near = np.argpartition(alike, -20)[-20:]
    return near[np.argsort(-_exact(templates[near], probe))[:2]]


def _exact(templates: NDArray[np.float32], probe: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(templates.astype(np.float64) @ probe.astype(np.float64))


def _agree(
    answer: Sequence[int], best: NDArray[np.int64], templates: NDArray[np.float32], probe: NDArray[np.float32]
) -> bool:
    places = np.asarray(answer, np.int64)
    if np.array_equal(places, best):
        return True
    return bool(np.allclose(_exact(templates[places], probe), _exact(templates[best], probe), rtol=0, atol=_TIED))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


if __name__ == "__main__":
    sys.exit(main())
