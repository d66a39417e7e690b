"""Measure the latency of a variant on this machine. The figures have the names of LiteRT's own benchmark."""

import io
import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.audio.sound_file import read_sound
from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder, load_encoder, self_test
from edge_oneshot_device.encoding.options import choose_variant
from edge_oneshot_device.encoding.preprocessing import load_golden
from edge_oneshot_device.encoding.sources import MAX_FILE_BYTES
from edge_oneshot_device.files import read_file
from edge_oneshot_device.measuring.machine import Health, Machine, disk_of, look_at_health, look_at_machine
from edge_oneshot_device.measuring.options import BenchOptions
from edge_oneshot_device.measuring.stage_times import StageTimes, time_stages

_WARMUP: Final = 10
"""Embeddings before the timed ones."""


class BenchResult(msgspec.Struct, frozen=True):
    """The figures of a run: times in milliseconds, memory and size in MiB.

    Attributes:
        init_ms: Time from the bytes of the model to an encoder that is ready.
        warmup_first_ms: Time of the first embedding.
        warmup_avg_ms: Mean of the warm-up, including the first embedding.
        std_ms: Standard deviation of the timed runs.
        p5_ms, p95_ms, p99_ms: Percentiles, interpolated linearly between runs.
        peak_rss_mb: Highest resident memory of the process so far.
        board: Name of the machine.
        at: When the run began, UTC.
        machine, before, after: The machine, and its health before and after the run.
        samples_ms: Time of each timed run, in order.
        stages: Times of the stages of an identification; empty where no folder was given.
        disk: File system and device of the stage ``audit``.
        image: Format and size of the image or recording that the stages processed.
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


def bench(bundle: Bundle, options: BenchOptions | None = None, *, folder: Path | None = None) -> BenchResult:
    """Time `Encoder.embed`, from the pixels to the embedding, one image at a time, and then the stages around it.

    The image is the first golden image of the bundle. The golden outputs are checked as well.

    Args:
        bundle: The bundle.
        options: What is measured; None takes the defaults.
        folder: A folder on the disk that the stages write to; None leaves the stages out.

    Returns:
        The figures.

    Raises:
        InputError: The variant, runtime or image cannot be used, see `Encoder.open` and `Encoder.embed_image`.
        IntegrityError: As `Encoder.open`.
        MachineError: As `Encoder.open`.
    """
    options = BenchOptions() if options is None else options
    name = choose_variant(bundle.manifest, options.variant)
    began, before = datetime.now(UTC), look_at_health()
    golden = bundle.read(bundle.manifest.self_test.images[0])
    image = None if options.image is None else read_file(options.image, MAX_FILE_BYTES)
    encoder, init_ms, times = _time_embeddings(bundle, name, options, golden)
    warm, timed = times[:_WARMUP], times[_WARMUP:]
    p5, median, p95, p99 = map(float, np.percentile(timed, (5, 50, 95, 99)))
    whole = encoder.faces is None and encoder.input.audio is None
    shown = golden if image is None and whole else image
    stages: list[StageTimes] = []
    if folder is not None and shown is not None:
        stages = time_stages(encoder, bundle.manifest, shown, folder, options.runs)
    machine = look_at_machine()
    return BenchResult(
        variant=name,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
        board=machine.board,
        at=f"{began:%Y-%m-%dT%H:%M:%SZ}",
        machine=machine,
        before=before,
        after=look_at_health(),
        init_ms=init_ms,
        warmup_first_ms=float(warm[0]),
        warmup_avg_ms=float(warm.mean()),
        avg_ms=float(timed.mean()),
        min_ms=float(timed.min()),
        max_ms=float(timed.max()),
        median_ms=median,
        std_ms=float(timed.std(ddof=1)) if options.runs > 1 else 0.0,
        p5_ms=p5,
        p95_ms=p95,
        p99_ms=p99,
        num_runs=options.runs,
        num_threads=options.threads,
        model_size_mb=next(one.bytes for one in bundle.manifest.variants if one.name == name) / 2**20,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        samples_ms=timed.tolist(),
        stages=stages,
        disk=disk_of(folder) if folder is not None and stages else None,
        image=_describe(shown, encoder.input.audio) if shown is not None and stages else None,
    )


def _time_embeddings(
    bundle: Bundle, variant: str, options: BenchOptions, image: bytes
) -> tuple[Encoder, float, NDArray[np.float64]]:
    """The encoder, the milliseconds that it took to open, and those of each embedding, warm-up included."""
    pixels = load_golden(image, bundle.manifest.input)
    start = time.perf_counter_ns()
    encoder = load_encoder(bundle, variant, runtime=options.runtime, threads=options.threads)
    ready = time.perf_counter_ns()
    times = np.empty(_WARMUP + options.runs, dtype=np.int64)
    for index in range(len(times)):
        begin = time.perf_counter_ns()
        encoder.embed(pixels)
        times[index] = time.perf_counter_ns() - begin
    self_test(encoder, bundle)
    return encoder, (ready - start) / 1e6, times / 1e6


def _describe(image: bytes, audio: AudioSection | None) -> str:
    if audio is not None:
        seconds = len(read_sound(image, audio.sample_rate, "the recording")) / audio.sample_rate
        return f"a recording of {seconds:.1f} s, {len(image):,} bytes"
    with Image.open(io.BytesIO(image)) as opened:
        return f"{opened.format} {opened.width} x {opened.height}, {len(image):,} bytes"
