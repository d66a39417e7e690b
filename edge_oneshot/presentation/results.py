"""The results of the workstation's commands as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_oneshot.bundle_evaluation import handful
from edge_oneshot_device.bundle.drift_section import Drift
from edge_oneshot_device.formatting import align, percent
from edge_oneshot_device.image_files import PassedOver, passed_over_text
from edge_oneshot_device.inspection.bundle_summary import Operation, Summary
from edge_oneshot_device.matching.thresholds import LOOSE_FAR
from edge_oneshot_device.presentation.bundles import describe, points
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.judging.folds import FoldsResult, GatedFolds
from edge_oneshot_export.packing.packer import ExportReport, LeftOut
from edge_oneshot_export.packing.signing import KeyPair

if TYPE_CHECKING:  # training imports TensorFlow, which evaluate does not need
    from edge_oneshot.deploying.archive import DeviceArchive
    from edge_oneshot.training.run_summary import TrainingSummary


def training_text(summary: "TrainingSummary") -> str:
    """The summary of a training in two lines, and a warning."""
    return (
        f"{summary.run}: {summary.images:,} images in {summary.seconds / 60:.1f} min "
        f"({summary.images_per_second:.0f} images/s, {summary.compiler}), loss {summary.loss:.3f}\n"
        f"held-out {summary.ways}-way one-shot accuracy {summary.accuracy:.1%} "
        f"[{summary.interval[0]:.1%}, {summary.interval[1]:.1%}] "
        f"({', '.join(summary.held_out[:6])}{', ...' if len(summary.held_out) > 6 else ''}); "
        f"next: edge-oneshot export {summary.run} --out NAME.oneshot"
        + (f"\nwarning: {summary.warning}" if summary.warning else "")
    )


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """The result of an export or a calibration, as ``--json`` prints it.

    Attributes:
        left_out: Variants that failed.
        trained_on_left_out: Groups of images left out of the calibration, because the encoder was trained on them.
        drift: Drift of each variant.
        passed_over: Files of the folder of images that were not used.
        warning: What makes the bundle unfit for a door; None if nothing does.
    """

    name: str
    format: int
    variants: list[str]
    fingerprints: dict[str, str]
    calibration: list[Operation]
    signed_by: str | None
    bytes: int
    path: str
    left_out: list[LeftOut]
    trained_on_left_out: list[str]
    drift: dict[str, Drift | None]
    seconds: float
    passed_over: list[PassedOver]
    warning: str | None


def bundle_summary(
    report: ExportReport, summary: Summary, seen: Sequence[str], passed: Sequence[PassedOver]
) -> BundleSummary:
    """The result of an export or a calibration, as ``--json`` prints it.

    Args:
        report: Of the export.
        summary: Of the new bundle.
        seen: Groups left out of the calibration, because the encoder was trained on them.
        passed: Files of the folder of images that were not used.
    """
    return BundleSummary(
        name=summary.name,
        format=summary.format,
        variants=summary.variants,
        fingerprints=summary.fingerprints,
        calibration=summary.calibration,
        signed_by=summary.signed_by,
        bytes=summary.bytes,
        path=str(report.path),
        left_out=list(report.left_out),
        trained_on_left_out=list(seen),
        drift={file.variant: file.drift for file in summary.files},
        seconds=report.seconds,
        passed_over=list(passed),
        warning=_unfit(summary),
    )


def with_passed_over(text: str, passed: Sequence[PassedOver]) -> str:
    """A command's result with a line on the files of the folder of images that were not used.

    Args:
        text: The result.
        passed: The files.
    """
    return f"{text}\n{passed_over_text(passed)}" if passed else text


def export_text(report: ExportReport, summary: Summary, seen: Sequence[str]) -> str:
    """The content of the new bundle, what was left out, and the next command.

    Args:
        report: Of the export.
        summary: Of the new bundle.
        seen: Groups left out of the calibration, because the encoder was trained on them.
    """
    lines = [describe(summary), ""]
    if summary.calibration:
        lines += _lost("not acquired", summary.calibration[0].failures_by_reason)
    if seen:
        some = ", ".join(seen[:4]) + (", ..." if len(seen) > 4 else "")
        lines.append(f"not calibrated on {len(seen)} groups that the encoder was trained on: {some}")
    lines += [f"left out: {left.reason}" for left in report.left_out]
    asked = ""
    if warning := _unfit(summary):
        asked = f" --target-far {_default_far(summary):g}"
        lines.append(warning)
    lines.append(f"{report.path} in {report.seconds:.0f} s; next: edge-oneshot-device init {report.path}{asked}")
    return "\n".join(lines)


def _default_far(summary: Summary) -> float:
    """The largest default target FAR; 0 for an uncalibrated bundle."""
    return max((one.target_far for one in summary.calibration), default=0.0)


def _unfit(summary: Summary) -> str | None:
    target = _default_far(summary)
    if target <= LOOSE_FAR:
        return None
    return (
        f"unfit for a door: with so few people and images the false accept rate is {percent(target)} at best; "
        "calibrate it with more (edge-oneshot calibrate), or init asks for an explicit --target-far"
    )


def key_pair_text(pair: KeyPair) -> str:
    """The paths of a new key pair, and how to use them."""
    return (
        f"{pair.private}: the private key; keep it secret, and keep a safe copy\n"
        f"{pair.public}: the public key {pair.key}\n"
        f"next: edge-oneshot export RUN --out NAME.oneshot --sign {pair.private}; "
        f"edge-oneshot-device init NAME.oneshot --trust {pair.public}"
    )


def archive_text(made: "DeviceArchive") -> str:
    """A new archive for a device, and how to install it there."""
    name = Path(made.file).name
    return (
        f"{made.file}: {made.bytes:,} bytes, for {made.machine} and Python {made.python}\n"
        f"sha256 {made.sha256}: sha256sum {name} on the device has to print the same\n"
        f"next, on the device: tar xf {name} && cd edge-oneshot-{made.release} && sudo ./install.sh"
    )


def with_left_out(
    result: Sequence[OneShotResult] | VerificationResult, passed: Sequence[PassedOver]
) -> list[OneShotResult] | VerificationResult:
    """The same results, each with the files of the data folder that were skipped.

    Args:
        result: Of the evaluation.
        passed: The files.
    """
    if isinstance(result, VerificationResult):
        return replace(result, passed_over=tuple(passed))
    return [replace(one, passed_over=tuple(passed)) for one in result]


def evaluation_text(result: Sequence[OneShotResult] | VerificationResult | FoldsResult) -> str:
    """One-shot accuracy with one line per N (selected ones of many), or the verification rates."""
    if isinstance(result, VerificationResult):
        return _verification_text(result)
    if isinstance(result, FoldsResult):
        return _folds_text(result)
    head = ("protocol", "ways", "tasks", "accuracy", "95 % interval", "error", "pixels", "chance")
    rows = [
        (
            one.protocol,
            str(one.ways),
            f"{one.episodes:,}",
            f"{one.accuracy:.2%}",
            f"{one.interval[0]:.2%} to {one.interval[1]:.2%}",
            f"{one.error:.2%}",
            f"{one.pixel_accuracy:.1%}",
            f"{one.chance:.1%}",
        )
        for one in handful(result)
    ]
    first = result[0]
    drawn = "the official runs" if first.seed is None else f"{len(first.alphabets)} groups, seed {first.seed}"
    judged = f"{first.variant} on {first.runtime}, {drawn}"
    return f"{align([head, *rows])}\n{judged}"


def _verification_text(result: VerificationResult) -> str:
    parts = [(None if result.ungated is None else "with the quality gate", result)]
    if result.ungated is not None:
        parts.append(("without it", result.ungated))
    blocks = []
    for title, one in parts:
        lost = _lost("not acquired", one.failures_by_reason)
        blocks += [*([title] if title else []), align(_verification_rows(one)), _judged(one), *lost]
    return "\n".join(blocks)


def _verification_rows(result: VerificationResult) -> list[tuple[str, ...]]:
    """A line for each rate; with another variant beside it, its rates and the differences as well."""
    rates = {"eer": result.eer, **result.tpr_at_fpr}
    rows: list[tuple[str, ...]] = [("", "measured", "95 % interval", "true FAR at most")]
    rows += [
        (
            "EER" if name == "eer" else f"TPR at FPR {name}",
            f"{rate:.2%}",
            _interval(result.intervals.get(name)),
            "" if name == "eer" else _bound(result.far_upper_95[name]),
        )
        for name, rate in rates.items()
    ]
    beside, changes = result.beside, result.changes or {}
    if beside is None:
        return rows
    others = {"eer": beside.eer, **beside.tpr_at_fpr}
    more = [(beside.variant, "difference, points")]
    more += [(f"{rate:.2%}", points(changes[name]) if name in changes else "") for name, rate in others.items()]
    return [(*row, *added) for row, added in zip(rows, more, strict=True)]


def _judged(result: VerificationResult) -> str:
    return (
        f"{result.variant} on {result.runtime}, {result.people:,} identities, {result.images:,} images, "
        f"{result.genuine:,} genuine and {result.impostor:,} impostor pairs"
    )


def _folds_text(result: FoldsResult) -> str:
    spread = f"standard error {result.standard_error:.2%}, {len(result.folds)} folds"
    lost = f"{result.pairs_lost:,} others count as errors above"
    rows = [
        ("accuracy", f"{result.accuracy:.2%}", spread),
        ("of acquired pairs", f"{result.accuracy_acquired:.2%}", lost),
        *_gated_rows(result.gated),
        ("EER", f"{result.eer:.2%}", ""),
        *((f"TPR at FPR {rate}", f"{tpr:.2%}", "") for rate, tpr in result.tpr_at_fpr.items()),
    ]
    judged = (
        f"{result.variant} on {result.runtime}, {result.people:,} people, {result.genuine:,} genuine and "
        f"{result.impostor:,} impostor pairs; {result.failures_to_acquire:,} photos show no face"
    )
    return "\n".join([align(rows), judged, *_lost("the gate refuses", result.refused)])


def _gated_rows(gated: GatedFolds | None) -> list[tuple[str, str, str]]:
    if gated is None:
        return []
    spread = f"standard error {gated.standard_error:.2%}, {gated.pairs_lost:,} pairs lost"
    return [
        ("that the gate takes", f"{gated.accuracy_acquired:.2%}", spread),
        ("lost ones as errors", f"{gated.accuracy:.2%}", ""),
    ]


def _lost(what: str, reasons: Mapping[str, int]) -> list[str]:
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    return [f"{what}: {counts}"] if reasons else []


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2%} to {interval[1]:.2%}"


def _bound(bound: float | None) -> str:
    return "too few people" if bound is None else f"{bound:.2g}"
