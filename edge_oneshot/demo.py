"""The whole way on embedded data: train, export, judge, use on a device, and a report of it all."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot import glyphs, measurements, session
from edge_oneshot.bundling import export_run
from edge_oneshot.errors import TrainingError
from edge_oneshot.judging import load_unseen
from edge_oneshot.report import ReportData, VariantRow, write_report
from edge_oneshot.stages import Clock, Watch, shown
from edge_oneshot_device import Bundle, Encoder, console
from edge_oneshot_device.bench import board
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.manifest import InputSection
from edge_oneshot_device.matching import calibration_for
from edge_oneshot_device.preprocessing import prepare
from edge_oneshot_device.summary import align
from edge_oneshot_export.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.exporting import VARIANTS, LeftOut
from edge_oneshot_export.protocols import LabelledImages

if TYPE_CHECKING:
    from edge_oneshot.runs import Run

IMAGES: Final = 48_000
"""Length of the training: enough for some 94 % on 20-way tasks, in one to two minutes on two cores."""

SIZE: Final = 48
BATCH: Final = 32
VARIANT: Final = "int8"
FRESH_ALPHABETS: Final = 4
STAGES: Final = ("train", "export", "judge", "use", "report")
MARKER: Final = ".edge-oneshot-demo"

_TITLE: Final = "Edge One-Shot: from training to the device"
_SUMMARY: Final = (
    "A siamese encoder, trained on the spot on made-up alphabets, quantized to 8 bits and run as a device runs it: "
    "it tells characters apart that it has seen once, in one drawing."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One command on the device and what came of it."""

    command: str
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo made and measured.

    Attributes:
        out, run, bundle, report, state, images: Paths.
        seed: Of everything random.
        images_seen: Length of the training.
        seconds: Time of each stage.
        variants: One row a variant of the bundle, int8 first.
        left_out: Variants that failed their gate.
        accuracy: Of int8 against N, on held-out alphabets.
        verification: Of int8, on alphabets that calibration has not seen either.
        session: The commands on the device.
    """

    out: str
    run: str
    bundle: str
    report: str
    state: str
    images: str
    seed: int
    images_seen: int
    seconds: dict[str, float]
    variants: tuple[VariantRow, ...]
    left_out: tuple[LeftOut, ...]
    accuracy: tuple[OneShotResult, ...]
    verification: VerificationResult
    session: tuple[Answer, ...]


def demo(
    out: Path,
    *,
    seed: int = 0,
    images: int = IMAGES,
    size: int = SIZE,
    progress: Watch | None = None,
) -> DemoResult:
    """Train on the glyphs, export, judge, use the bundle as a device does, and write the report.

    Leaves run/, demo.oneshot, images/, state/ and report.html in `out`; those of an earlier
    demo are replaced, anything else is left alone.

    Args:
        out: The folder; made if need be.
        seed: Of everything random but the glyphs.
        images: Length of the training in images seen.
        size: Side of the encoder's input in pixels.
        progress: Called as it goes on.

    Raises:
        TrainingError: `out` holds a run, a bundle or a state that no demo made.
        ExportError, ModelError: The encoder cannot be exported as int8.
        MachineError: The disk does not allow it.
    """
    from edge_oneshot.training import train

    clock = Clock(progress or (lambda _stage: None))
    _make_room(out)
    bundle_path = out / "demo.oneshot"

    clock.start("train", "drawing the alphabets")
    run = train("glyphs", out / "run", images=images, seed=seed, size=size, batch=BATCH, report=clock.training)
    clock.start("export", "loading the data")
    exported = export_run(run, bundle_path, variants=_int8_first(), asked=False, progress=clock.say)
    if VARIANT not in (variant.name for variant in exported.manifest.variants):
        reason = next(left.reason for left in exported.left_out if left.variant == VARIANT)
        raise TrainingError(f"{reason}; the demo needs it: try another --seed", reason="demo_failed")

    clock.start("judge", "drawing alphabets that the encoder never saw")
    bundle = Bundle.open(bundle_path)
    encoder = Encoder.open(bundle, VARIANT)
    calibration = calibration_for(bundle.manifest, VARIANT, 1)
    unseen = load_unseen("glyphs", bundle.manifest)
    drawings = [glyphs.draw_alphabet(glyphs.ALPHABETS + number) for number in range(FRESH_ALPHABETS)]
    total = len(unseen.images)
    accuracy = measurements.one_shot_curves(
        encoder, unseen, seed=seed, progress=lambda count: clock.say(f"one-shot tasks, {count % total:,} images")
    )
    clock.say("scores of pairs")
    scores = measurements.verification_scores(
        encoder,
        calibration,
        _people(drawings, bundle.manifest.input),
        data=f"All pairs of drawings of {FRESH_ALPHABETS} more alphabets, which neither training nor calibration saw.",
        seed=seed,
    )
    clock.say("a map of the embeddings")
    embedding_map = measurements.embedding_map(encoder, unseen, seed=seed)
    tasks = measurements.tasks(encoder, calibration, unseen, seed=seed)
    variants = measurements.measure_variants(
        bundle, tuple(v.name for v in bundle.manifest.variants), unseen, seed=seed, progress=clock.say
    )

    clock.start("use", "enrolling from one drawing each")
    paths = session.Paths(bundle=bundle_path, images=out / "images", state=out / "state")
    session.write_drawings(paths.images, drawings)
    session.clear_state(paths.state)
    steps = session.run_session(paths)

    clock.start("report", "drawing the figures")
    ways = ",".join(str(one.ways) for one in accuracy if one.protocol == accuracy[0].protocol)
    repeat = (
        f"edge-oneshot evaluate {shlex.quote(str(bundle_path))} --data glyphs --protocol within-alphabet --ways {ways}"
    )
    data = ReportData(
        title=_TITLE,
        summary=_SUMMARY,
        history=tuple(run.history()),
        accuracy=accuracy,
        accuracy_data=_accuracy_words(accuracy[0], repeat + (f" --seed {seed}" if seed else "")),
        embedding_map=embedding_map,
        tasks=tasks,
        scores=scores,
        variants=variants,
        left_out=exported.left_out,
        session=steps,
        made=_made(run, bundle, out, seed, clock.seconds),
    )
    write_report(data, out / "report.html")
    clock.stop()
    return DemoResult(
        out=str(out),
        run=str(out / "run"),
        bundle=str(bundle_path),
        report=str(out / "report.html"),
        state=str(paths.state),
        images=str(paths.images),
        seed=seed,
        images_seen=run.record.images_seen,
        seconds=clock.seconds,
        variants=variants,
        left_out=exported.left_out,
        accuracy=accuracy,
        verification=scores.verification,
        session=tuple(Answer(step.command, step.exit_code, step.output) for step in steps),
    )


def run_demo(out: Path, *, seed: int = 0, as_json: bool = False) -> int:
    """The command ``edge-oneshot demo``: progress on stderr, the result on stdout; returns the exit code."""
    with shown(STAGES) as progress:
        result = demo(out, seed=seed, progress=progress)
    console.print_result(result, as_json, summary(result))
    return 0


def summary(result: DemoResult) -> str:
    """The result for a terminal: a table of the variants, where the report lies, what to try next."""
    first, best = result.accuracy[0], result.variants[0]
    head = ("variant", "size", "drift (cosine)", f"{best.accuracy.ways}-way accuracy", "95 % interval", "median")
    rows = [
        (
            row.variant,
            f"{row.bytes / 1000:,.0f} KB",
            f"{row.drift.cosine_mean:.4f}",
            f"{row.accuracy.accuracy:.1%}",
            f"{row.accuracy.interval[0]:.1%} to {row.accuracy.interval[1]:.1%}",
            f"{row.latency.median_ms:.3g} ms",
        )
        for row in result.variants
    ]
    lines = [
        align([head, *rows]),
        *(f"left out: {left.variant}: {left.reason}" for left in result.left_out),
        "",
        f"{first.episodes:,} tasks from {len(first.alphabets)} alphabets held out; chance {best.accuracy.chance:.0%}, "
        f"pixels {best.accuracy.pixel_accuracy:.1%}; "
        f"{sum(result.seconds.values()) / 60:.1f} min on {best.latency.board}",
        f"report: {result.report}",
        "",
        "try next:",
    ]
    return "\n".join([*lines, *(f"  {command}" for command in _next_commands(result))])


def _next_commands(result: DemoResult) -> list[str]:
    images, at = Path(result.images), f"--state {shlex.quote(result.state)}"
    probe, stranger = (
        shlex.quote(str(images / name))
        for name in (session.file_name(session.CHARACTERS[0], 2), f"{session.STRANGER}.png")
    )
    bundle = shlex.quote(result.bundle)
    return [
        f"edge-oneshot-device identify {probe} {at}",
        f"edge-oneshot-device enrol {session.STRANGER} {stranger} {at}",
        f"edge-oneshot-device bench {bundle}",
        f"edge-oneshot evaluate {bundle} --data glyphs --protocol verification",
        "edge-oneshot train omniglot --out runs/omniglot --minutes 20",
    ]


def _make_room(out: Path) -> None:
    """Make the folders, and remove the run of an earlier demo, which a new one would not replace."""
    run, marker = out / "run", out / MARKER
    foreign = [path for path in (run, out / "demo.oneshot", out / "state") if path.exists()]
    if foreign and not marker.exists():
        raise TrainingError(f"{foreign[0]} is there, and no demo made it; name another folder", reason="not_a_demo")
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        for name in ("run.json", "history.jsonl", "checkpoint.npz", "encoder.keras"):
            (run / name).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write in {out}: {error.strerror}", reason="cannot_write") from error
    write_atomically(marker, b"'edge-oneshot demo' made this folder and may replace its files\n")


def _int8_first() -> tuple[str, ...]:
    return (VARIANT, *(name for name in VARIANTS if name != VARIANT))


def _people(alphabets: list[NDArray[np.uint8]], section: InputSection) -> LabelledImages:
    drawings = np.concatenate(alphabets)
    characters, drawers = drawings.shape[:2]
    images = np.stack(
        [prepare(Image.fromarray(drawing), section) for drawing in drawings.reshape(-1, *drawings.shape[2:])]
    )
    labels = np.repeat(np.arange(characters, dtype=np.int64), drawers)
    return LabelledImages(images, labels, tuple(f"character{number + 1:02}" for number in range(characters)))


def _accuracy_words(first: OneShotResult, repeat: str) -> str:
    return (
        f"{first.episodes:,} tasks for each N, drawn from {len(first.alphabets)} alphabets that the encoder was not "
        f"trained on, solved by {first.variant} on {first.runtime}. Pixels: the nearest neighbour without an encoder. "
        f"To repeat: {repeat}"
    )


def _made(run: "Run", bundle: Bundle, out: Path, seed: int, seconds: dict[str, float]) -> tuple[tuple[str, str], ...]:
    provenance, moments = bundle.manifest.provenance, run.history()
    rate = run.record.images_seen / max(run.record.seconds, 1e-9)
    command = f"edge-oneshot demo --out {shlex.quote(str(out))}" + (f" --seed {seed}" if seed else "")
    section = run.record.input
    return (
        ("command", command),
        ("made on", f"{bundle.manifest.created}, {board()}, {len(os.sched_getaffinity(0))} cores"),
        ("data", f"glyphs: alphabets drawn from a seed; {len(provenance.trained_on)} to train on, "
                 f"{len(provenance.held_out)} held out, {FRESH_ALPHABETS} more for scores and session"),
        ("encoder", f"{section.width} x {section.height} grey to {run.record.settings.embedding} values; "
                    f"{moments[-1].images:,} images seen at {rate:.0f} images/s, seed {seed}"),
        ("time", ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
        ("commit", provenance.commit or "not a checkout"),
        ("bundle", f"{bundle.manifest.name}, {len(bundle.content):,} bytes, sha256 {bundle.sha256}"),
        *((f"fingerprint {v.name}", v.fingerprint) for v in bundle.manifest.variants),
    )  # fmt: skip
