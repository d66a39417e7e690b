"""Latency of a bundle's variant on this machine, under the keys of LiteRT's own benchmark."""

import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoding.encoder import load_encoder, self_test
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.errors import InputError


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Times in milliseconds; memory and size in MiB.

    Attributes:
        init_ms: From the bytes of the model to an encoder that is ready.
        warmup_first_ms: The first embedding.
        warmup_avg_ms: Mean of the warm-up, the first included.
        std_ms: Standard deviation of a sample.
        p5_ms, p95_ms, p99_ms: Percentiles, linear between runs.
        peak_rss_mb: Highest resident memory of the process so far.
        board: What the machine calls itself.
    """

    variant: str
    runtime: str
    board: str
    init_ms: float
    warmup_first_ms: float
    warmup_avg_ms: float
    avg_ms: float
    min_ms: float
    max_ms: float
    median_ms: float
    std_ms: float
    p5_ms: float
    p95_ms: float
    p99_ms: float
    num_runs: int
    num_threads: int
    model_size_mb: float
    peak_rss_mb: float


def bench(
    bundle: Bundle,
    variant: str = "int8",
    *,
    runtime: str | None = None,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 10,
) -> BenchResult:
    """Time `Encoder.embed`, from the pixels to the embedding, one image at a time.

    The image is the bundle's first golden one; the golden outputs are checked as well.

    Args:
        bundle: The bundle.
        variant: Name of one of its variants.
        runtime: Name of the runtime; None takes the one of the variant's format.
        threads: Threads of one inference.
        runs: Timed embeddings, at least 1.
        warmup: Embeddings before them, at least 1.

    Raises:
        InputError: ``wrong_runs``, or as `Encoder.open`.
        IntegrityError: As `Encoder.open`.
        MachineError: As `Encoder.open`.
    """
    if runs < 1 or warmup < 1:
        raise InputError(f"{runs} runs after {warmup} for warm-up; use at least 1 of each", reason="wrong_runs")
    pixels = load_image(bundle.read(bundle.manifest.self_test.images[0]), bundle.manifest.input)
    start = time.perf_counter_ns()
    encoder = load_encoder(bundle, variant, runtime=runtime, threads=threads)
    ready = time.perf_counter_ns()
    times = np.empty(warmup + runs, dtype=np.int64)
    for index in range(len(times)):
        begin = time.perf_counter_ns()
        encoder.embed(pixels)
        times[index] = time.perf_counter_ns() - begin
    self_test(encoder, bundle)
    warm, timed = times[:warmup] / 1e6, times[warmup:] / 1e6
    p5, median, p95, p99 = (float(value) for value in np.percentile(timed, (5, 50, 95, 99)))
    size = next(v.bytes for v in bundle.manifest.variants if v.name == variant)
    return BenchResult(
        variant=variant,
        runtime=encoder.runtime,
        board=board(),
        init_ms=(ready - start) / 1e6,
        warmup_first_ms=float(warm[0]),
        warmup_avg_ms=float(warm.mean()),
        avg_ms=float(timed.mean()),
        min_ms=float(timed.min()),
        max_ms=float(timed.max()),
        median_ms=median,
        std_ms=float(timed.std(ddof=1)) if runs > 1 else 0.0,
        p5_ms=p5,
        p95_ms=p95,
        p99_ms=p99,
        num_runs=runs,
        num_threads=threads,
        model_size_mb=size / 2**20,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def board(root: Path = Path("/proc")) -> str:
    """What the machine calls itself: a Raspberry Pi by its device tree, a PC by its processor."""
    for path, mark in (("device-tree/model", ""), ("cpuinfo", "model name")):
        try:
            lines = (root / path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name = line.rpartition(":")[2].strip("\0 \t") if line.startswith(mark) else ""
            if name:
                return name
    return platform.machine()
