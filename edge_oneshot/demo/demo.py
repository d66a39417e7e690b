"""The demo: train on generated drawings, export, evaluate, use the bundle on a device, and write a report."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_oneshot.data import glyphs
from edge_oneshot.demo import device_commands
from edge_oneshot.demo.folder import MARKER, clear_state
from edge_oneshot.demo.measurements import BundleMeasurements, measure_bundle
from edge_oneshot.demo.options import DemoOptions
from edge_oneshot.demo.stages import StageClock, Watch
from edge_oneshot.errors import TrainingError
from edge_oneshot.report.report import CommandResult, ReportData, SessionStep, VariantRow, write_report
from edge_oneshot.run_export import export_run
from edge_oneshot.training.run_folder import CHECKPOINT, ENCODER, HISTORY, RECORD, held
from edge_oneshot.unseen_data import load_unseen
from edge_oneshot_device import Bundle
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.measuring.machine import board
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import LeftOut

if TYPE_CHECKING:
    from edge_oneshot.training.runs import Run

IMAGES: Final = 60_000
"""Length of the training, enough for about 93 % on 20-way tasks."""

NET: Final = "tiny"
"""It has a seventh of the multiply-adds of `base`, which trains for minutes on processors without AMX."""

SIZE: Final = 48
BATCH: Final = 32
VARIANT: Final = "int8"
FRESH_ALPHABETS: Final = 4
STAGES: Final = ("train", "export", "judge", "use", "report")

_TITLE: Final = "Edge One-Shot: from training to the device"
_SUMMARY: Final = (
    "A siamese encoder was trained on generated alphabets, quantized to 8 bits, and run with the device's own program. "
    "It recognises a character from a single drawing."
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo made and measured.

    Attributes:
        out, run, bundle, report, state, key, images: Paths.
        seed: The random seed.
        images_seen: Length of the training.
        seconds: Duration of each stage.
        variants: One row per variant of the bundle, int8 first.
        left_out: Variants that failed their quality gate.
        accuracy: Of int8 against N, on held-out alphabets.
        verification: Of int8, on alphabets that calibration did not see either.
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
    options: DemoOptions | None = None,
    *,
    images: int = IMAGES,
    size: int = SIZE,
    progress: Watch | None = None,
) -> DemoResult:
    """Train on the glyphs, export, judge, use the bundle as a device does, and write the report.

    It leaves run/, demo.oneshot, images/, state/, its key and report.html in `out`. Those of an earlier demo are
    replaced; other files stay.

    Args:
        out: The folder; it is made if it does not exist.
        options: The defaults if None.
        images: Length of the training in images seen.
        size: Side of the encoder's input in pixels.
        progress: Called with the current stage.

    Raises:
        TrainingError: `out` holds a run, a bundle or a state that no demo made, or another demo is at work there.
        ExportError, ModelError: The encoder cannot be exported as int8.
        MachineError: The disk does not allow it.
    """
    seed = (options or DemoOptions()).seed
    _make_room(out)
    with held(out):
        _remove_run(out)
        clock = StageClock(progress or (lambda _stage: None))
        return _demo(out, clock, _train(out / "run", clock, seed=seed, images=images, size=size))


def _demo(out: Path, clock: StageClock, run: "Run") -> DemoResult:
    """All stages after the training."""
    seed, bundle_path = run.record.settings.seed, out / "demo.oneshot"
    clock.start("export", "loading the data")
    left_out = _export(run, bundle_path, clock.say)

    clock.start("judge", "one-shot tasks")
    bundle = Bundle.open(bundle_path)
    unseen, _ = load_unseen("glyphs", bundle.manifest)
    drawings = [glyphs.draw_alphabet(glyphs.ALPHABETS + number) for number in range(FRESH_ALPHABETS)]
    far = device_commands.TARGET_FAR / len(device_commands.CHARACTERS)
    measured = measure_bundle(bundle, VARIANT, unseen, drawings, target_far=far, seed=seed, progress=clock.say)

    clock.start("use", "enrolling from one drawing each")
    paths = device_commands.SessionPaths(bundle_path, images=out / "images", state=out / "state", key=out / "key")
    device_commands.write_drawings(paths.images, drawings)
    clear_state(paths.state, paths.key)
    steps = device_commands.run_session(paths)

    clock.start("report", "drawing the figures")
    made = _made(run, bundle, out, clock.seconds)
    write_report(_report(run, bundle_path, measured, steps, left_out, made), out / "report.html")
    clock.stop()
    return DemoResult(
        out=str(out),
        run=str(run.path),
        bundle=str(bundle_path),
        report=str(out / "report.html"),
        state=str(paths.state),
        key=str(paths.key),
        images=str(paths.images),
        seed=seed,
        images_seen=run.record.images_seen,
        seconds=clock.seconds,
        variants=measured.variants,
        left_out=left_out,
        accuracy=measured.accuracy,
        verification=measured.scores.verification,
        session=tuple(step.result for step in steps),
    )


def _train(path: Path, clock: StageClock, *, seed: int, images: int, size: int) -> "Run":
    from edge_oneshot.training.options import TrainOptions
    from edge_oneshot.training.train import train

    clock.start("train", "drawing the alphabets")
    options = TrainOptions(images=images, seed=seed, size=size, batch=BATCH, net=NET)
    return train("glyphs", path, options, report=clock.training)


def _report(
    run: "Run",
    bundle: Path,
    measured: BundleMeasurements,
    steps: tuple[SessionStep, ...],
    left_out: tuple[LeftOut, ...],
    made: tuple[tuple[str, str], ...],
) -> ReportData:
    first, seed = measured.accuracy[0], run.record.settings.seed
    ways = ",".join(str(one.ways) for one in measured.accuracy if one.protocol == first.protocol)
    repeat = f"edge-oneshot evaluate {shlex.quote(str(bundle))} --data glyphs --protocol within-alphabet"
    repeat += f" --ways {ways}" + (f" --seed {seed}" if seed else "")
    return ReportData(
        title=_TITLE,
        summary=_SUMMARY,
        history=tuple(run.history()),
        accuracy=measured.accuracy,
        accuracy_data=(
            f"{first.episodes:,} tasks for each N, drawn from {len(first.alphabets)} alphabets that the encoder was "
            f"not trained on, solved by {VARIANT} on {measured.runtime}. Pixels: the nearest neighbour of the pixels, "
            "without an encoder."
        ),
        accuracy_command=repeat,
        embedding_map=measured.embedding_map,
        tasks=measured.tasks,
        scores=measured.scores,
        variants=measured.variants,
        drift=tuple((row.variant, row.drift) for row in measured.variants),
        left_out=left_out,
        session=steps,
        made=made,
    )


def _make_room(out: Path) -> None:
    """Make the folders; refuse a folder that holds such files from elsewhere."""
    marker = out / MARKER
    names = ("run", "demo.oneshot", "images", "state", "key", "report.html")
    there = [out / name for name in names if (out / name).exists()]
    if there and not marker.exists():
        raise TrainingError(f"{there[0]} exists, and no demo made it; name another folder", reason="not_a_demo")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, b"'edge-oneshot demo' made this folder and may replace its files\n")
        (out / "images").mkdir(exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write in {out}: {error.strerror}", reason="cannot_write") from error


def _remove_run(out: Path) -> None:
    """Remove the run of an earlier demo, because a training never replaces one."""
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
    left_out = export_run(run, path, ExportOptions(variants="all"), progress=progress).left_out
    for left in left_out:
        if left.variant == VARIANT:
            raise ExportError(f"the demo needs {VARIANT}: {left.reason}; try another --seed", reason="demo_failed")
    return left_out


def _made(run: "Run", bundle: Bundle, out: Path, seconds: dict[str, float]) -> tuple[tuple[str, str], ...]:
    provenance, seed = bundle.manifest.provenance, run.record.settings.seed
    rate = run.record.images_seen / max(run.record.seconds, 1e-9)
    command = f"edge-oneshot demo --out {shlex.quote(str(out))}" + (f" --seed {seed}" if seed else "")
    section = run.record.input
    return (
        ("command", command),
        ("made on", f"{bundle.manifest.created}, {board()}, {len(os.sched_getaffinity(0))} cores"),
        ("data", f"glyphs: generated alphabets; {len(provenance.trained_on)} to train on, "
                 f"{len(provenance.held_out)} held out, {FRESH_ALPHABETS} more for the scores and the session"),
        ("encoder", f"{NET}, {section.width} x {section.height} grey to {bundle.manifest.embedding.size} values; "
                    f"{run.record.images_seen:,} images seen at {rate:.0f} images/s, seed {seed}"),
        ("time", ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
        ("commit", provenance.commit or "not a checkout"),
        ("bundle", f"{bundle.manifest.name}, {len(bundle.content):,} bytes, sha256 {bundle.sha256}"),
        *((f"fingerprint {v.name}", v.fingerprint) for v in bundle.manifest.variants),
    )  # fmt: skip
