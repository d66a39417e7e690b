"""A small ReportData with every part, made up from a seed; for the report's tests, also in a browser."""

import numpy as np

from edge_oneshot.report.report import CommandResult, EmbeddingMap, ReportData, Scores, SessionStep, Task, VariantRow
from edge_oneshot.training.runs import HistoryEntry
from edge_oneshot_device.bundle.drift_section import Change, Drift, LayerError
from edge_oneshot_device.bundle.manifest import Calibration, SimilarityMap
from edge_oneshot_device.measuring.bench import BenchResult
from edge_oneshot_device.measuring.machine import Health, Machine
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.judging.verification import RocPoint
from edge_oneshot_export.packing.packer import LeftOut
from tests.samples import calibrations, pictures

SECTIONS = (
    "headline",
    "training",
    "accuracy",
    "map",
    "tasks",
    "scores",
    "variants",
    "drift",
    "device",
    "words",
    "made",
)


def sample(title: str = "A report") -> ReportData:
    """Every part of the report, small."""
    rng = np.random.default_rng(0)
    return ReportData(
        title=title,
        summary="What this is, in one line.",
        history=tuple(
            HistoryEntry(
                images=100 * n,
                seconds=float(n),
                loss=10.0 / n,
                images_per_second=100.0,
                accuracy=n / 12,
                interval=(n / 13, n / 11),
                ways=20,
            )
            for n in range(1, 11)
        ),
        accuracy=(
            one_shot("within-alphabet", 5, 0.9),
            one_shot("within-alphabet", 20, 0.8),
            one_shot("random", 20, 0.85),
        ),
        accuracy_data="2,000 tasks for each N.",
        accuracy_command="edge-oneshot evaluate demo.oneshot --data glyphs",
        embedding_map=EmbeddingMap(
            drawings(rng, 6), np.repeat(np.arange(3), 2), ("alpha", "beta", "gamma"), rng.normal(size=(6, 2)), "by hand"
        ),
        tasks=(task(rng, "task 1", answer=2), task(rng, "task 2", answer=0)),
        scores=Scores(
            genuine=np.clip(rng.normal(0.8, 0.1, 400), -1, 1).astype(np.float32),
            impostor=np.clip(rng.normal(0.0, 0.2, 4000), -1, 1).astype(np.float32),
            calibration=calibration(),
            metric="cosine",
            target_far=0.05,
            verification=verification(),
            data="All pairs of made-up drawings.",
        ),
        variants=(variant("int8"), variant("float32")),
        drift=tuple((name, variant(name).drift) for name in ("int8", "float32")),
        left_out=(LeftOut("onnx-int8", "mean cosine to the Keras model 0.9012"),),
        session=(
            step("Which one is this?", "identify a.png", 0, "accepted  ada", png(rng)),
            step("Who is enrolled?", "people", 0, "person  templates\nada     1", None),
            step("And this?", "identify b.png", 1, "unknown  below_threshold", png(rng)),
        ),
        made=(("command", "edge-oneshot demo"), ("bundle", "demo")),
    )


def step(caption: str, words: str, exit_code: int, output: str, image: bytes | None) -> SessionStep:
    """A command that is expected to exit with 0."""
    return SessionStep(caption, CommandResult(f"edge-oneshot-device {words}", exit_code, 0, output), image)


def task(rng: np.random.Generator, title: str, answer: int) -> Task:
    """Four drawings, of which the third is the most alike."""
    scores = np.array([0.1, 0.2, 0.9, 0.3], np.float32)
    return Task(title, drawings(rng, 4), drawings(rng, 1)[0], answer, scores, np.linspace(0, 1, 4))


def one_shot(protocol: str, ways: int, accuracy: float) -> OneShotResult:
    """A result, as if evaluated."""
    return OneShotResult(
        protocol=protocol,
        ways=ways,
        episodes=2000,
        accuracy=accuracy,
        error=1 - accuracy,
        interval=(accuracy - 0.0123, accuracy + 0.0111),
        alphabets=("alphabet01",),
        seed=0,
        variant="int8",
        runtime="litert",
        fingerprint="f" * 64,
        chance=1 / ways,
        pixel_accuracy=0.3,
    )


def verification() -> VerificationResult:
    """Error rates, as if evaluated."""
    rates = {"1e-2": 0.9, "1e-3": 0.6, "1e-4": 0.3}
    return VerificationResult(
        eer=0.0321,
        tpr_at_fpr=rates,
        intervals={"eer": (0.03, 0.04), **{name: (rate - 0.1, rate + 0.1) for name, rate in rates.items()}},
        far_upper_95={"1e-2": 0.02, "1e-3": None, "1e-4": None},
        roc=(RocPoint(0.01, 0.9, (0.8, 1.0)), RocPoint(1.0, 1.0, (1.0, 1.0))),
        genuine=400,
        impostor=4000,
        people=20,
        images=90,
        failures_to_acquire=0,
        failures_by_reason={},
        variant="int8",
        runtime="litert",
        fingerprint="f" * 64,
    )


def calibration() -> Calibration:
    """Two operating points: 0.4 for a FAR of 10 %, 0.6 for 1 %."""
    degrees = SimilarityMap(scores=(0.0, 0.5, 1.0), degrees=(0.0, 0.5, 1.0))
    points, tail = ((0.1, 0.4), (0.01, 0.6)), (0.6, 0.01, 0.1, 0.0)
    return calibrations.calibration(points, tail=tail, similarity=degrees, data="20 made-up people")


def variant(name: str) -> VariantRow:
    """A row of the table of variants."""
    lost = Change(reference=0.9, variant=0.897, difference=-0.003, interval=(-0.006, 0.0))
    drift = Drift(
        images=100, people=20, cosine_mean=0.99871, cosine_p01=0.995, cosine_min=0.99, neighbour_changed=0.02,
        eer=lost, tpr_at_fpr={"1e-2": lost}, one_shot=lost, ways=20,
        layers=(LayerError(op="CONV_2D", name="first", sqnr_db=31.4), LayerError(op="ADD", name="sum", sqnr_db=40.2)),
    )  # fmt: skip
    machine = Machine("a board", None, "aarch64", "Linux", 4, 4096, {})
    health = Health(None, None, None, None, None)
    latency = BenchResult(
        variant=name, runtime="litert", fingerprint="0" * 64, board="a board", at="2026-01-01T00:00:00Z",
        machine=machine, before=health, after=health, samples_ms=[], stages=[], disk=None, image=None,
        init_ms=1.5, warmup_first_ms=0.3, warmup_avg_ms=0.2,
        avg_ms=0.2, min_ms=0.1, max_ms=0.3, median_ms=0.2, std_ms=0.01, p5_ms=0.15, p95_ms=0.24, p99_ms=0.25,
        num_runs=200, num_threads=1, model_size_mb=0.8, peak_rss_mb=60.0,
    )  # fmt: skip
    return VariantRow(name, "litert", 853_000, drift, one_shot("within-alphabet", 20, 0.8), latency)


def drawings(rng: np.random.Generator, count: int) -> np.ndarray:
    """Ink on paper, uint8 (count, 16, 16, 1)."""
    return np.where(rng.random((count, 16, 16, 1)) < 0.2, 0, 255).astype(np.uint8)


def png(rng: np.random.Generator) -> bytes:
    """A drawing as a PNG file."""
    return pictures.png(drawings(rng, 1)[0, :, :, 0])
