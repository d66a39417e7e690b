"""The demo: train on generated data, export, evaluate, use the bundle on a device, and write a report."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edge_oneshot.demo import device_commands
from edge_oneshot.demo.drawings import DRAWINGS
from edge_oneshot.demo.folder import MARKER, clear_state
from edge_oneshot.demo.measurements import BundleMeasurements, measure_bundle
from edge_oneshot.demo.options import DemoOptions
from edge_oneshot.demo.speech import SPEECH
from edge_oneshot.demo.stages import StageClock, Watch
from edge_oneshot.demo.subject import Fresh, Subject
from edge_oneshot.errors import TrainingError
from edge_oneshot.report.report import CommandResult, ReportData, VariantRow, write_report
from edge_oneshot.run_export import export_run
from edge_oneshot.training.options import TrainOptions
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

VARIANT: Final = "int8"
STAGES: Final = ("train", "export", "judge", "use", "report")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo made and measured.

    Attributes:
        out, run, bundle, report, state, key, samples: Paths.
        known: A file of somebody enrolled, by another maker than the enrolled one.
        stranger: A file of nobody enrolled.
        seed: The random seed.
        images_seen: Length of the training.
        seconds: Duration of each stage.
        variants: One row per variant of the bundle, int8 first.
        left_out: Variants that failed their quality gate.
        accuracy: Of int8 against N, on held-out groups.
        verification: Of int8, on identities that calibration did not see either.
        session: The commands on the device.
    """

    out: str
    run: str
    bundle: str
    report: str
    state: str
    key: str
    samples: str
    known: str
    stranger: str
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
    recipe: TrainOptions | None = None,
    progress: Watch | None = None,
) -> DemoResult:
    """Train on generated data, export, judge, use the bundle as a device does, and write the report.

    It leaves run/, demo.oneshot, the session's samples, state/, its key and report.html in `out`, or below it in
    the subject's folder. Those of an earlier demo are replaced; other files stay.

    Args:
        out: The folder; it is made if it does not exist.
        options: The defaults if None.
        recipe: The training, but for its seed; the subject's if None.
        progress: Called with the current stage.

    Raises:
        TrainingError: The folder holds a run, a bundle or a state that no demo made, or another demo is at work there.
        DataError: As for `load_data`.
        ExportError, ModelError: The encoder cannot be exported as int8.
        MachineError: The disk does not allow it.
    """
    options = options or DemoOptions()
    subject = subject_of(options)
    out = out / subject.option
    _make_room(out, subject)
    with held(out):
        _remove_run(out)
        clock = StageClock(progress or (lambda _stage: None))
        recipe = msgspec.structs.replace(recipe or subject.recipe, seed=options.seed)
        return _demo(out, subject, clock, _train(out / "run", subject, recipe, clock))


def subject_of(options: DemoOptions) -> Subject:
    """What the demo is about."""
    return SPEECH if options.speech else DRAWINGS


def _demo(out: Path, subject: Subject, clock: StageClock, run: "Run") -> DemoResult:
    """All stages after the training."""
    seed, bundle_path = run.record.settings.seed, out / "demo.oneshot"
    clock.start("export", "loading the data")
    left_out = _export(run, bundle_path, clock.say)

    clock.start("judge", "one-shot tasks")
    bundle = Bundle.open(bundle_path)
    unseen, _ = load_unseen(subject.data, bundle.manifest)
    fresh = subject.fresh(bundle.manifest.input)
    far = device_commands.TARGET_FAR / len(fresh.enrolled)
    measured = measure_bundle(bundle, VARIANT, unseen, fresh, target_far=far, seed=seed, progress=clock.say)

    clock.start("use", f"enrolling from one {subject.terms.sample} each")
    paths = device_commands.SessionPaths(
        bundle_path, samples=out / subject.samples, state=out / "state", key=out / "key"
    )
    device_commands.write_samples(paths.samples, fresh, subject.suffix)
    clear_state(paths.state, paths.key)
    steps = device_commands.run_session(paths, subject, fresh, bundle.manifest.input)

    clock.start("report", "drawing the figures")
    data = _report(subject, run, bundle_path, measured)
    made = _made(run, bundle, subject, fresh, out, clock.seconds)
    write_report(replace(data, left_out=left_out, session=steps, made=made), out / "report.html")
    clock.stop()
    return DemoResult(
        out=str(out),
        run=str(run.path),
        bundle=str(bundle_path),
        report=str(out / "report.html"),
        state=str(paths.state),
        key=str(paths.key),
        samples=str(paths.samples),
        known=str(paths.samples / device_commands.file_name(next(iter(fresh.enrolled)), 2, subject.suffix)),
        stranger=str(paths.samples / f"{fresh.stranger}{subject.suffix}"),
        seed=seed,
        images_seen=run.record.images_seen,
        seconds=clock.seconds,
        variants=measured.variants,
        left_out=left_out,
        accuracy=measured.accuracy,
        verification=measured.scores.verification,
        session=tuple(step.result for step in steps),
    )


def _train(path: Path, subject: Subject, recipe: TrainOptions, clock: StageClock) -> "Run":
    from edge_oneshot.training.train import train

    clock.start("train", f"making the {subject.terms.sample}s")
    return train(subject.data, path, recipe, report=clock.training)


def _report(subject: Subject, run: "Run", bundle: Path, measured: BundleMeasurements) -> ReportData:
    """The report without the session and what was left out."""
    first, seed, terms = measured.accuracy[0], run.record.settings.seed, subject.terms
    ways = ",".join(str(one.ways) for one in measured.accuracy if one.protocol == first.protocol)
    repeat = f"edge-oneshot evaluate {shlex.quote(str(bundle))} --data {subject.data}"
    repeat += f" --protocol within-alphabet --ways {ways}" + (f" --seed {seed}" if seed else "")
    return ReportData(
        title=subject.title,
        summary=subject.summary,
        history=tuple(run.history()),
        accuracy=measured.accuracy,
        accuracy_data=(
            f"{first.episodes:,} tasks for each N, drawn from {len(first.alphabets)} {terms.group}s that the encoder "
            f"was not trained on, solved by {VARIANT} on {measured.runtime}. Pixels: the nearest neighbour of the "
            f"{terms.baseline}, without an encoder."
        ),
        accuracy_command=repeat,
        embedding_map=measured.embedding_map,
        tasks=measured.tasks,
        scores=measured.scores,
        variants=measured.variants,
        drift=tuple((row.variant, row.drift) for row in measured.variants),
        terms=terms,
    )


def _make_room(out: Path, subject: Subject) -> None:
    """Make the folders; refuse a folder that holds such files from elsewhere."""
    marker = out / MARKER
    names = ("run", "demo.oneshot", subject.samples, "state", "key", "report.html")
    there = [out / name for name in names if (out / name).exists()]
    if there and not marker.exists():
        raise TrainingError(f"{there[0]} exists, and no demo made it; name another folder", reason="not_a_demo")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, b"'edge-oneshot demo' made this folder and may replace its files\n")
        (out / subject.samples).mkdir(exist_ok=True)
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


def _made(
    run: "Run", bundle: Bundle, subject: Subject, fresh: Fresh, out: Path, seconds: dict[str, float]
) -> tuple[tuple[str, str], ...]:
    provenance, seed = bundle.manifest.provenance, run.record.settings.seed
    rate = run.record.images_seen / max(run.record.seconds, 1e-9)
    command = f"edge-oneshot demo --out {shlex.quote(str(out))}"
    if subject.option:
        command = f"edge-oneshot demo --{subject.option} --out {shlex.quote(str(out.parent))}"
    command += f" --seed {seed}" if seed else ""
    section, terms = run.record.input, subject.terms
    seen = f"{run.record.images_seen:,} {terms.images} seen at {rate:.0f} {terms.images}/s"
    return (
        ("command", command),
        ("made on", f"{bundle.manifest.created}, {board()}, {len(os.sched_getaffinity(0))} cores"),
        ("data", f"{subject.data}: {len(provenance.trained_on)} {terms.group}s to train on, "
                 f"{len(provenance.held_out)} held out; {fresh.source} for the scores and the session"),
        ("encoder", f"{run.record.settings.net}, {section.width} x {section.height} grey to "
                    f"{bundle.manifest.embedding.size} values; {seen}, seed {seed}"),
        ("time", ", ".join(f"{stage} {taken:.0f} s" for stage, taken in seconds.items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
        ("commit", provenance.commit or "not a checkout"),
        ("bundle", f"{bundle.manifest.name}, {len(bundle.content):,} bytes, sha256 {bundle.sha256}"),
        *((f"fingerprint {v.name}", v.fingerprint) for v in bundle.manifest.variants),
    )  # fmt: skip
