"""Latency of a bundle's variant on this machine, under the keys of LiteRT's own benchmark."""

import io
import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from PIL import Image

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import load_encoder, self_test
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.measuring.machine import Health, Machine, disk_of, look_at_health, look_at_machine
from edge_oneshot_device.measuring.stage_times import StageTimes, time_stages

_MOST_RUNS: Final = 1_000_000


class BenchResult(msgspec.Struct, frozen=True):
    """Times in milliseconds; memory and size in MiB.

    Attributes:
        init_ms: From the bytes of the model to an encoder that is ready.
        warmup_first_ms: The first embedding.
        warmup_avg_ms: Mean of the warm-up, the first included.
        std_ms: Standard deviation of a sample.
        p5_ms, p95_ms, p99_ms: Percentiles, linear between runs.
        peak_rss_mb: Highest resident memory of the process so far.
        board: What the machine calls itself.
        at: When it began, UTC.
        machine, before, after: What it was measured on, and how hot that was.
        samples_ms: Each timed run, in the order of time.
        stages: Of an identification; empty where they were not asked for.
        disk: File system and device of the stage ``audit``.
        image: What the stages were shown: its format and bytes.
    """

    variant: str
    runtime: str
    fingerprint: str
    board: str
    at: str
    machine: Machine
    before: Health
    after: Health
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
    samples_ms: list[float]
    stages: list[StageTimes]
    disk: str | None
    image: str | None


def bench(
    bundle: Bundle,
    variant: str = "int8",
    *,
    runtime: str | None = None,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 10,
    folder: Path | None = None,
    image: bytes | None = None,
) -> BenchResult:
    """Time `Encoder.embed`, from the pixels to the embedding, one image at a time; then the stages around it.

    The image is the bundle's first golden one; the golden outputs are checked as well.

    Args:
        bundle: The bundle.
        variant: Name of one of its variants.
        runtime: Name of the runtime; None takes the one of the variant's format.
        threads: Threads of one inference.
        runs: Timed embeddings, at least 1.
        warmup: Embeddings before them, at least 1.
        folder: On the disk that the stages write to; None: no stages.
        image: An image file for the stages; None takes the golden one, which is none for those of a face.

    Raises:
        InputError: ``wrong_runs``, or as `Encoder.open`, or as `Encoder.embed_image` of the image.
        IntegrityError: As `Encoder.open`.
        MachineError: As `Encoder.open`.
    """
    if not (1 <= runs <= _MOST_RUNS and 1 <= warmup <= _MOST_RUNS):
        message = f"{runs} runs after {warmup} for warm-up; use at least 1 of each, at most {_MOST_RUNS:,}"
        raise InputError(message, reason="wrong_runs")
    began, before = datetime.now(UTC), look_at_health()
    golden = bundle.read(bundle.manifest.self_test.images[0])
    pixels = load_image(golden, bundle.manifest.input)
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
    stages: list[StageTimes] = []
    shown = golden if image is None and encoder.faces is None else image
    if folder is not None and shown is not None:
        stages = time_stages(encoder, bundle.manifest, shown, folder, runs)
    machine = look_at_machine()
    return BenchResult(
        variant=variant,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
        board=machine.board,
        at=f"{began:%Y-%m-%dT%H:%M:%SZ}",
        machine=machine,
        before=before,
        after=look_at_health(),
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
        samples_ms=timed.tolist(),
        stages=stages,
        disk=disk_of(folder) if folder is not None and stages else None,
        image=_describe(shown) if shown is not None and stages else None,
    )


def _describe(image: bytes) -> str:
    with Image.open(io.BytesIO(image)) as opened:
        return f"{opened.format} {opened.width} x {opened.height}, {len(image):,} bytes"
