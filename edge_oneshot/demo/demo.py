"""The whole way on embedded data: train, export, judge, use on a device, and a report of it all."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_oneshot.bundling import export_run
from edge_oneshot.data import glyphs
from edge_oneshot.demo import device_commands, measurements
from edge_oneshot.demo.progress import StageClock, Watch, shown
from edge_oneshot.errors import TrainingError
from edge_oneshot.judging import load_unseen
from edge_oneshot.report.report import ReportData, VariantRow, slower_than_float, write_report
from edge_oneshot.training.folder import CHECKPOINT, ENCODER, HISTORY, RECORD, held
from edge_oneshot_device import Bundle, Encoder, console
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.formatting import align
from edge_oneshot_device.matching.thresholds import calibration_for
from edge_oneshot_device.measuring.machine import board
from edge_oneshot_export.assembling import LeftOut
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.variants import VARIANTS

if TYPE_CHECKING:
    from edge_oneshot.training.runs import Run

IMAGES: Final = 60_000
"""Length of the training: enough for some 93 % on 20-way tasks."""

NET: Final = "tiny"
"""A seventh of the multiply-adds of `base`, which trains for minutes where there is no AMX."""

SIZE: Final = 48
BATCH: Final = 32
VARIANT: Final = "int8"
FRESH_ALPHABETS: Final = 4
STAGES: Final = ("train", "export", "judge", "use", "report")
MARKER: Final = ".edge-oneshot-demo"

_TITLE: Final = "Edge One-Shot: from training to the device"
_SUMMARY: Final = (
    "A siamese encoder, trained on the spot on made-up alphabets, quantized to 8 bits, and run as a device runs it: "
    "one drawing of a character is enough to know it again."
)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """One command on the device and what came of it; `expected` is the exit code if nothing goes wrong."""

    command: str
    exit_code: int
    expected: int
    output: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo made and measured.

    Attributes:
        out, run, bundle, report, state, key, images: Paths.
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
    key: str
    images: str
    seed: int
    images_seen: int
    seconds: dict[str, float]
    variants: tuple[VariantRow, ...]
    left_out: tuple[LeftOut, ...]
    accuracy: tuple[OneShotResult, ...]
    verification: VerificationResult
    session: tuple[CommandResult, ...]


def demo(
    out: Path,
    *,
    seed: int = 0,
    images: int = IMAGES,
    size: int = SIZE,
    progress: Watch | None = None,
) -> DemoResult:
    """Train on the glyphs, export, judge, use the bundle as a device does, and write the report.

    Leaves run/, demo.oneshot, images/, state/, its key and report.html in `out`; those of an earlier
    demo are replaced, anything else is left alone.

    Args:
        out: The folder; made if need be.
        seed: Of everything random but the glyphs.
        images: Length of the training in images seen.
        size: Side of the encoder's input in pixels.
        progress: Called as it goes on.

    Raises:
        TrainingError: `out` holds a run, a bundle or a state that no demo made, or another demo is at work there.
        ExportError, ModelError: The encoder cannot be exported as int8.
        MachineError: The disk does not allow it.
    """
    _make_room(out)
    with held(out):
        _remove_run(out)
        return _demo(out, StageClock(progress or (lambda _stage: None)), seed, images, size)


def _demo(out: Path, clock: StageClock, seed: int, images: int, size: int) -> DemoResult:
    from edge_oneshot.training.options import TrainOptions
    from edge_oneshot.training.train import train

    bundle_path = out / "demo.oneshot"
    clock.start("train", "drawing the alphabets")
    options = TrainOptions(images=images, seed=seed, size=size, batch=BATCH, net=NET)
    run = train("glyphs", out / "run", options, report=clock.training)
    clock.start("export", "loading the data")
    left_out = _export(run, bundle_path, clock.say)

    clock.start("judge", "one-shot tasks")
    bundle = Bundle.open(bundle_path)
    encoder = Encoder.open(bundle, VARIANT)
    calibration = calibration_for(bundle.manifest, VARIANT, 1)
    unseen, _ = load_unseen("glyphs", bundle.manifest)
    drawings = [glyphs.draw_alphabet(glyphs.ALPHABETS + number) for number in range(FRESH_ALPHABETS)]
    accuracy = measurements.one_shot_curves(encoder, unseen, seed=seed)
    clock.say("scores of pairs")
    scores = measurements.verification_scores(
        encoder,
        calibration,
        measurements.labelled_drawings(drawings, bundle.manifest.input),
        target_far=device_commands.TARGET_FAR / len(device_commands.CHARACTERS),
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
    paths = device_commands.Paths(bundle=bundle_path, images=out / "images", state=out / "state", key=out / "key")
    device_commands.write_drawings(paths.images, drawings)
    device_commands.clear_state(paths)
    steps = device_commands.run_session(paths)

    clock.start("report", "drawing the figures")
    ways = ",".join(str(one.ways) for one in accuracy if one.protocol == accuracy[0].protocol)
    repeat = f"edge-oneshot evaluate {shlex.quote(str(bundle_path))} --data glyphs --protocol within-alphabet"
    repeat += f" --ways {ways}" + (f" --seed {seed}" if seed else "")
    data = ReportData(
        title=_TITLE,
        summary=_SUMMARY,
        history=tuple(run.history()),
        accuracy=accuracy,
        accuracy_data=(
            f"{accuracy[0].episodes:,} tasks for each N, drawn from {len(accuracy[0].alphabets)} alphabets that the "
            f"encoder was not trained on, solved by {VARIANT} on {encoder.runtime}. Pixels: the nearest neighbour "
            "without an encoder."
        ),
        accuracy_command=repeat,
        embedding_map=embedding_map,
        tasks=tasks,
        scores=scores,
        variants=variants,
        drift=tuple((row.variant, row.drift) for row in variants),
        left_out=left_out,
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
        key=str(paths.key),
        images=str(paths.images),
        seed=seed,
        images_seen=run.record.images_seen,
        seconds=clock.seconds,
        variants=variants,
        left_out=left_out,
        accuracy=accuracy,
        verification=scores.verification,
        session=tuple(CommandResult(step.command, step.exit_code, step.expected, step.output) for step in steps),
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
            f"{row.latency.median_ms:.3f} ms",
        )
        for row in result.variants
    ]
    lines = [
        align([head, *rows]),
        *(
            f"slower than {one.variant} here: {row.variant}, {row.latency.median_ms / one.latency.median_ms:.1f} times"
            for row, one in slower_than_float(result.variants)
        ),
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
    bundle, at = shlex.quote(result.bundle), f"--state {shlex.quote(result.state)} --key {shlex.quote(result.key)}"
    images = Path(result.images)
    known = shlex.quote(str(images / device_commands.file_name(device_commands.CHARACTERS[0], 2)))
    stranger = shlex.quote(str(images / device_commands.file_name(device_commands.STRANGER, 2)))
    commands = [
        f"edge-oneshot-device identify {known} {at}",
        f"edge-oneshot-device enrol {device_commands.STRANGER} {stranger} {at}",
        f"edge-oneshot-device bench {bundle}",
        f"edge-oneshot evaluate {bundle} --data glyphs --protocol verification",
        "edge-oneshot train omniglot --out runs/omniglot --minutes 20",
    ]
    if shutil.which("edge-oneshot-device") is None:
        commands.insert(0, f"source {shlex.quote(os.path.relpath(sys.prefix))}/bin/activate")
    return commands


def _make_room(out: Path) -> None:
    """Make the folders, unless what is there is no demo's."""
    marker = out / MARKER
    names = ("run", "demo.oneshot", "images", "state", "key", "report.html")
    there = [out / name for name in names if (out / name).exists()]
    if there and not marker.exists():
        raise TrainingError(f"{there[0]} is there, and no demo made it; name another folder", reason="not_a_demo")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, b"'edge-oneshot demo' made this folder and may replace its files\n")
        (out / "images").mkdir(exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write in {out}: {error.strerror}", reason="cannot_write") from error


def _remove_run(out: Path) -> None:
    """Remove the run of an earlier demo, which a new one would not replace."""
    try:
        for name in (RECORD, HISTORY, CHECKPOINT, ENCODER):
            (out / "run" / name).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write in {out}: {error.strerror}", reason="cannot_write") from error


def _export(run: "Run", path: Path, progress: Callable[[str], None]) -> tuple[LeftOut, ...]:
    """Export every variant that passes its gate; returns what is left out.

    Raises:
        ExportError: int8 fails.
    """
    others = tuple(name for name in VARIANTS if name != VARIANT)
    left_out = export_run(run, path, variants=(VARIANT, *others), progress=progress).left_out
    for left in left_out:
        if left.variant == VARIANT:
            raise ExportError(f"the demo needs {VARIANT}: {left.reason}; try another --seed", reason="demo_failed")
    return left_out


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
        ("encoder", f"{NET}, {section.width} x {section.height} grey to {bundle.manifest.embedding.size} values; "
                    f"{moments[-1].images:,} images seen at {rate:.0f} images/s, seed {seed}"),
        ("time", ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
        ("commit", provenance.commit or "not a checkout"),
        ("bundle", f"{bundle.manifest.name}, {len(bundle.content):,} bytes, sha256 {bundle.sha256}"),
        *((f"fingerprint {v.name}", v.fingerprint) for v in bundle.manifest.variants),
    )  # fmt: skip
