"""What `inspect` prints: a bundle, or what two bundles differ in."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.drift_section import Change
from edge_oneshot_device.bundle.face_section import FaceSection
from edge_oneshot_device.bundle.manifest import InputSection, Provenance
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.formatting import align, percent
from edge_oneshot_device.inspection.bundle_comparison import BundleComparison, compare
from edge_oneshot_device.inspection.bundle_summary import ModelFile, Operation, Summary, summarise
from edge_oneshot_device.presentation.results import UNCALIBRATED, UNSIGNED
from edge_oneshot_device.text import printable

_COLUMNS: Final = 80
_CELL: Final = 52
_ABSENT: Final = "-"


def inspect(
    path: str | os.PathLike[str], other: str | os.PathLike[str] | None = None, *, everything: bool = False
) -> tuple[Summary | BundleComparison, str]:
    """What `inspect` shows, as a value and as text.

    Args:
        path: The bundle file.
        other: A second bundle to compare with the first.
        everything: Show all that the bundle holds, not one screen of it.

    Returns:
        A summary of one bundle, or a comparison of two; and its text.

    Raises:
        InputError: A bundle cannot be read; or, with reason ``wrong_use``, `everything` of two bundles.
        IntegrityError: As `Bundle.open`.
        MachineError: As `Bundle.open`.
    """
    if other is None:
        summary = summarise(Bundle.open(path))
        return summary, describe_all(summary) if everything else describe(summary)
    if everything:
        raise InputError("--all works for one bundle only: leave it out to compare two", reason="wrong_use")
    comparison = compare(Bundle.open(path), Bundle.open(other))
    return comparison, describe_comparison(comparison, os.fspath(path), os.fspath(other))


def describe(summary: Summary) -> str:
    """A summary as plain text for a screen of 80 columns and 24 lines; `describe_all` has the rest."""
    facts = [
        ("bundle", f"{summary.name}, format {summary.format}, {summary.created}, {summary.bytes:,} bytes"),
        ("sha256", summary.sha256),
        ("signed by", summary.signed_by or UNSIGNED),
        ("encoder", f"{_size(summary.input)} to {_values(summary)}; default variant {summary.default_variant}"),
        *_special(summary.input),
        ("data", _data(summary.provenance)),
        *(("calibrated", data) for data in list(dict.fromkeys(one.data for one in summary.calibration))[:1]),
    ]
    used = [one for one in summary.calibration if one.rule == summary.rule and one.variant == summary.default_variant]
    facts += [("provisional", why) for why in _why(used[:1])]
    rows = [row for fact in facts for row in _wrapped(*fact)]
    blocks = [align(rows), align(_variant_rows(summary.files, brief=True))]
    blocks.append(align(_calibration_rows(used, brief=True)) if used else UNCALIBRATED)
    rest = "inspect --all shows the rest: drift, every calibration, versions, licences"
    return "\n\n".join(blocks) + f"\n{rest}"


def describe_all(summary: Summary) -> str:
    """Everything in a summary as plain text."""
    section, provenance = summary.input, summary.provenance
    scaling = ", ".join(f"(pixel - {m:g}) / {s:g}" for m, s in zip(section.mean, section.scale, strict=True))
    low, high = section.value_range
    facts = [
        ("bundle", f"{summary.name}, format {summary.format}, {summary.created}, {summary.bytes:,} bytes"),
        ("sha256", summary.sha256),
        ("signed by", summary.signed_by or UNSIGNED),
        (
            "input",
            f"{_size(section)}, {section.resize}, {scaling}: {low:g}..{high:g}",
        ),
        *_special(section),
        ("embedding", _values(summary)),
        ("default", f"{summary.default_variant}, the first variant"),
        ("data", _data(provenance)),
        ("trained on", _groups(provenance.trained_on)),
        ("held out", _groups(provenance.held_out)),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items()) or "unknown"),
        ("commit", provenance.commit or "unknown"),
        *(("calibrated", data) for data in dict.fromkeys(operation.data for operation in summary.calibration)),
        *(("provisional", why) for why in _why(summary.calibration)),
        *(("licence", f"{part.what}: {part.licence} ({part.source})") for part in provenance.licences),
    ]
    blocks = [align(facts), align(_variant_rows(summary.files)), align(drift_rows(summary.files))]
    used = [operation for operation in summary.calibration if operation.rule == summary.rule]
    blocks.append(align(_calibration_rows(used)) if used else UNCALIBRATED)
    return "\n\n".join(blocks)


def describe_comparison(comparison: BundleComparison, a: str, b: str) -> str:
    """A comparison as plain text: one line for each difference, each drift and each threshold of the rule in use.

    Args:
        comparison: What `compare` found.
        a: The name of the first bundle.
        b: The name of the second bundle.

    Returns:
        The text.
    """
    if comparison.same:
        return f"{a} and {b} are identical"
    shown = [
        (one.field, _cell(one.a, one.b), _cell(one.b, one.a))
        for one in comparison.differences
        if not one.field.startswith("calibration.") and ".drift" not in one.field
    ]
    drifts, thresholds = (
        [(what, _cell(of_a.get(what)), _cell(of_b.get(what))) for what in dict.fromkeys([*of_a, *of_b])]
        for of_a, of_b in (
            (_drifts(comparison.a), _drifts(comparison.b)),
            (_thresholds(comparison.a), _thresholds(comparison.b)),
        )
    )
    data = ("calibrated on", _calibrated_on(comparison.a), _calibrated_on(comparison.b))
    rows = [row for row in (*shown, *drifts, data, *thresholds) if row[1] != row[2]]
    return f"{align([('', f'A: {a}', f'B: {b}'), *rows])}\n\n{_templates_text(comparison.templates)}"


def drift_rows(files: Sequence[ModelFile]) -> list[tuple[str, ...]]:
    """The drift of each variant from the float model: changes in percentage points, with 95 % intervals."""
    known = [(file.variant, file.drift) for file in files if file.drift is not None]
    rates = list(dict.fromkeys(rate for _, drift in known for rate in drift.tpr_at_fpr))
    ways = known[0][1].ways if known else 0
    tprs = [f"TPR at FAR {rate}" for rate in rates]
    head = ("drift", "cosine", "1 %", "min", "neighbour", "EER", *tprs, f"{ways}-way")
    rows = [
        (
            variant,
            f"{drift.cosine_mean:.4f}",
            f"{drift.cosine_p01:.4f}",
            f"{drift.cosine_min:.4f}",
            percent(drift.neighbour_changed),
            points(drift.eer),
            *(points(drift.tpr_at_fpr[rate]) if rate in drift.tpr_at_fpr else "" for rate in rates),
            points(drift.one_shot),
        )
        for variant, drift in known
    ]
    unknown = [file.variant for file in files if file.drift is None]
    if unknown and not known:
        return [("drift", f"unknown for {', '.join(unknown)}: there was no float file to compare with")]
    return [head, *rows]


def points(change: Change) -> str:
    """A change of a rate in percentage points: ``-0.31 (-0.52 to -0.10)``."""
    low, high = (100.0 * end for end in change.interval)
    return f"{100.0 * change.difference:+.2f} ({low:+.2f} to {high:+.2f})"


def _variant_rows(files: list[ModelFile], *, brief: bool = False) -> list[tuple[str, ...]]:
    middle = ("cosine",) if brief else ("in", "out")
    head = ("variant", "bytes", *middle, "runtimes", "fingerprint")
    rows = []
    for file in files:
        cosine = "" if file.drift is None else f"{file.drift.cosine_mean:.4f}"
        middle = (cosine,) if brief else (file.input_dtype, file.output_dtype)
        runtimes = ", ".join([*file.runtimes, *(["Edge TPU"] if file.compiled else [])])
        rows.append((file.variant, f"{file.bytes:,}", *middle, runtimes, file.fingerprint[:12]))
    return [head, *rows]


def _calibration_rows(operations: list[Operation], *, brief: bool = False) -> list[tuple[str, ...]]:
    enrolled = [f"of {threshold.people:,}" for threshold in operations[0].gallery]
    people = () if brief else ("people",)
    head = ("calibration", "templates", "target FAR", "at most (95 %)", "FRR", *people, "threshold")
    rows = [
        (
            operation.variant,
            f"{operation.rule} of {operation.templates}",
            percent(operation.target_far),
            percent(operation.far_upper_95),
            percent(operation.frr),
            *(() if brief else (str(operation.people),)),
            *(f"{one.threshold:.4f}{'?' * one.provisional}" for one in operation.gallery[: 1 if brief else None]),
            "provisional" if operation.provisional else "",
        )
        for operation in operations
    ]
    return [(*head, *(() if brief else enrolled[1:]), ""), *rows]


def _why(operations: list[Operation]) -> list[str]:
    """Each reason why thresholds are provisional."""
    return list(dict.fromkeys(one.why_provisional for one in operations if one.why_provisional is not None))


def _wrapped(name: str, value: str) -> list[tuple[str, str]]:
    """A fact wrapped to 80 columns, in at most three lines."""
    lines = textwrap.wrap(printable(value), _COLUMNS - 12, max_lines=3, placeholder=" ...") or [""]
    return list(zip([name, *[""] * (len(lines) - 1)], lines, strict=True))


def _size(section: InputSection) -> str:
    if section.audio is not None:
        return f"recordings of {section.audio.samples(section.width) / section.audio.sample_rate:.1f} s"
    return f"{section.width} x {section.height} {section.colour}"


def _values(summary: Summary) -> str:
    return f"{summary.embedding.size} values, {summary.embedding.metric}"


def _special(section: InputSection) -> list[tuple[str, str]]:
    """What the input is made from, where that is not the whole of an image."""
    if section.face is not None:
        return [("faces", _faces(section.face))]
    return [] if section.audio is None else [("speech", _speech(section, section.audio))]


def _speech(section: InputSection, audio: AudioSection) -> str:
    return (
        f"{section.height} mel bands of {audio.low_hz:g} to {audio.high_hz:g} Hz by {section.width} frames of"
        f" {1e3 * audio.window / audio.sample_rate:g} ms, one each {1e3 * audio.hop / audio.sample_rate:g} ms,"
        f" {audio.range_db:g} dB, {audio.sample_rate} Hz"
    )


def _faces(face: FaceSection) -> str:
    kinds = ", ".join(model.kind for model in face.models)
    return f"one in a photo, at least {face.min_eye_distance:g} pixels between the eyes; found by {kinds}"


def _data(provenance: Provenance) -> str:
    if provenance.seed is None:
        return provenance.data
    return f"{provenance.data}, seed {provenance.seed}, {provenance.images_seen:,} images seen"


def _groups(names: tuple[str, ...], shown: int = 4) -> str:
    if not names:
        return "unknown"
    some = ", ".join(name[:24] for name in names[:shown])
    return f"{len(names)}: {some}{', ...' if len(names) > shown else ''}"


def _drifts(summary: Summary) -> dict[str, str]:
    return {
        f"drift of {file.variant}": f"cosine {file.drift.cosine_mean:.4f}, EER {points(file.drift.eer)}"
        for file in summary.files
        if file.drift is not None
    }


def _thresholds(summary: Summary) -> dict[str, str]:
    return {
        f"threshold of {one.variant}, {one.rule} of {one.templates}": (
            f"{one.threshold:.4f} for FAR {percent(one.target_far)}, FRR {percent(one.frr)}, {one.people:,} people"
        )
        for one in summary.calibration
        if one.rule == summary.rule
    }


def _calibrated_on(summary: Summary) -> str:
    return _cell(list(dict.fromkeys(one.data for one in summary.calibration)))


def _templates_text(templates: Mapping[str, list[str]]) -> str:
    kept = [
        variant if variant in twins else f"{variant} (as {', '.join(twins)})"
        for variant, twins in templates.items()
        if twins
    ]
    lost = [variant for variant, twins in templates.items() if not twins]
    lines = []
    if kept:
        lines.append(f"templates of A can be used with B: {', '.join(kept)}")
    if lost:
        lines.append(f"templates of A cannot be used with B, so everybody has to enrol again: {', '.join(lost)}")
    return "\n".join(lines)


def _cell(value: Any, other: Any = None) -> str:
    """A value in one cell; of a list only the entries that the other list lacks."""
    if value is None:
        return _ABSENT
    if isinstance(value, dict):
        text = "present"
    elif isinstance(value, list) and isinstance(other, list):
        alone = ", ".join(str(entry) for entry in value if entry not in other)
        text = f"{len(value):,}" + (f", only here: {alone}" if alone else "")
    elif isinstance(value, list):
        text = ", ".join(map(str, value)) or "none"
    else:
        text = f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 3]}..."
