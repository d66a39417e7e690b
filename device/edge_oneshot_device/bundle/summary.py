"""What is in a bundle, in brief: for `inspect` and `init`."""

import textwrap
from collections.abc import Sequence
from typing import Final

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import (
    Calibration,
    Change,
    Drift,
    EmbeddingSection,
    FaceSection,
    InputSection,
    Manifest,
    Metric,
    OperatingPoint,
    Provenance,
    Variant,
)
from edge_oneshot_device.console import printable
from edge_oneshot_device.matching.thresholds import threshold_for

UNCALIBRATED: Final = "uncalibrated: verify and identify will refuse; export it with calibration images"

_COLUMNS: Final = 80
_GALLERIES: Final = (1, 10, 100, 1000)

UNSIGNED: Final = "nobody: the digests say that it is intact, not where it comes from"


class ModelFile(msgspec.Struct, frozen=True):
    """One variant: its file, and how far it is from the float model, where that is known."""

    variant: str
    format: str
    bytes: int
    input_dtype: str
    output_dtype: str
    runtimes: list[str]
    drift: Drift | None
    fingerprint: str
    compiled: str | None


class Threshold(msgspec.Struct, frozen=True):
    """The threshold of an attempt at the default target against so many people enrolled."""

    people: int
    threshold: float
    provisional: bool


class Operation(msgspec.Struct, frozen=True):
    """A calibration at its default target; failures as in `Calibration`, rates as in `OperatingPoint`."""

    variant: str
    rule: str
    templates: int
    target_far: float
    threshold: float
    far_upper_95: float
    frr: float
    people: int
    failures_to_enrol: int
    failures_to_acquire: int
    failures_by_reason: dict[str, int]
    data: str
    provisional: bool
    gallery: list[Threshold]


class Summary(msgspec.Struct, frozen=True):
    """A bundle in brief.

    Attributes:
        name, format, created: As the manifest says.
        variants: Names of the variants.
        fingerprints: Fingerprint of each.
        rule: How the device joins the scores of a person's templates.
        calibration: One line a variant, rule and count of templates; empty when uncalibrated.
        signed_by: The public key that signed it, in hex; None when it is unsigned.
        bytes, sha256: Of the bundle file.
        files: The variants in more detail.
        input, embedding, provenance: As the manifest says.
    """

    name: str
    format: int
    created: str
    variants: list[str]
    fingerprints: dict[str, str]
    rule: str
    calibration: list[Operation]
    signed_by: str | None
    bytes: int
    sha256: str
    files: list[ModelFile]
    input: InputSection
    embedding: EmbeddingSection
    provenance: Provenance


def summarise(bundle: Bundle) -> Summary:
    """The bundle in brief."""
    manifest = bundle.manifest
    return Summary(
        name=manifest.name,
        format=manifest.format,
        created=manifest.created,
        variants=[variant.name for variant in manifest.variants],
        fingerprints={variant.name: variant.fingerprint for variant in manifest.variants},
        rule=manifest.rule,
        calibration=operations(manifest),
        signed_by=bundle.signed_by,
        bytes=len(bundle.content),
        sha256=bundle.sha256,
        files=[_model_file(variant) for variant in manifest.variants],
        input=manifest.input,
        embedding=manifest.embedding,
        provenance=manifest.provenance,
    )


def operations(manifest: Manifest) -> list[Operation]:
    """Every calibration of a manifest at its default target."""
    metric = manifest.embedding.metric
    return [_operation(calibration, metric) for calibration in manifest.calibration]


def describe(summary: Summary) -> str:
    """The summary as plain text for a screen of 80 columns and 24 lines; `describe_all` has the rest."""
    facts = [
        ("bundle", f"{summary.name}, format {summary.format}, {summary.created}, {summary.bytes:,} bytes"),
        ("sha256", summary.sha256),
        ("signed by", summary.signed_by or UNSIGNED),
        ("input", f"{_size(summary.input)} to {summary.embedding.size} values, {summary.embedding.metric}"),
        *([("faces", _faces(summary.input.face))] if summary.input.face is not None else []),
        ("data", _data(summary.provenance)),
        *(("calibrated", data) for data in list(dict.fromkeys(one.data for one in summary.calibration))[:1]),
    ]
    used = [one for one in summary.calibration if one.rule == summary.rule and one.variant == summary.variants[0]]
    rows = [row for fact in facts for row in _wrapped(*fact)]
    blocks = [align(rows), align(_variant_rows(summary.files, brief=True))]
    blocks.append(align(_calibration_rows(used, brief=True)) if used else UNCALIBRATED)
    return "\n\n".join([*blocks, "inspect --all shows the rest: drift, every calibration, versions, licences"])


def describe_all(summary: Summary) -> str:
    """All of the summary as plain text."""
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
        *([("faces", _faces(section.face))] if section.face is not None else []),
        ("embedding", f"{summary.embedding.size} values, {summary.embedding.metric}"),
        ("data", _data(provenance)),
        ("trained on", _groups(provenance.trained_on)),
        ("held out", _groups(provenance.held_out)),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items()) or "unknown"),
        ("commit", provenance.commit or "unknown"),
        *(("calibrated", data) for data in dict.fromkeys(operation.data for operation in summary.calibration)),
        *(("licence", f"{part.what}: {part.licence} ({part.source})") for part in provenance.licences),
    ]
    blocks = [align(facts), align(_variant_rows(summary.files)), align(drift_rows(summary.files))]
    used = [operation for operation in summary.calibration if operation.rule == summary.rule]
    blocks.append(align(_calibration_rows(used)) if used else UNCALIBRATED)
    return "\n\n".join(blocks)


def align(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length as lines with aligned columns; what would steer a terminal is spelt out."""
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def percent(rate: float) -> str:
    """A rate for people: 0.001 is ``0.1 %``."""
    return f"{100.0 * rate:.3g} %"


def _model_file(variant: Variant) -> ModelFile:
    return ModelFile(
        variant=variant.name,
        format=variant.format,
        bytes=variant.bytes,
        input_dtype=variant.input.dtype,
        output_dtype=variant.output.dtype,
        runtimes=list(variant.runtimes),
        drift=variant.drift,
        fingerprint=variant.fingerprint,
        compiled=variant.compiled,
    )


def _operation(calibration: Calibration, metric: Metric) -> Operation:
    point = _default_point(calibration)
    return Operation(
        variant=calibration.variant,
        rule=calibration.rule,
        templates=calibration.templates,
        target_far=point.target_far,
        threshold=point.threshold,
        far_upper_95=point.far_upper_95,
        frr=point.frr,
        people=calibration.people,
        failures_to_enrol=calibration.failures_to_enrol,
        failures_to_acquire=calibration.failures_to_acquire,
        failures_by_reason=calibration.failures_by_reason,
        data=calibration.data,
        provisional=calibration.provisional,
        gallery=[_threshold(calibration, metric, people) for people in _GALLERIES],
    )


def _threshold(calibration: Calibration, metric: Metric, people: int) -> Threshold:
    found = threshold_for(calibration, metric, calibration.target_far, people)
    return Threshold(people, found.value, found.provisional)


def _default_point(calibration: Calibration) -> OperatingPoint:
    return next(point for point in calibration.points if point.target_far == calibration.target_far)


def drift_rows(files: Sequence[ModelFile]) -> list[tuple[str, ...]]:
    """What each variant costs beside the float model: changes in points, with 95 % intervals."""
    known = [(file.variant, file.drift) for file in files if file.drift is not None]
    rates = list(dict.fromkeys(rate for _, drift in known for rate in drift.tpr_at_fpr))
    ways = known[0][1].ways if known else 0
    tprs = [f"TPR at FAR {rate}" for rate in rates]
    head = ("drift", "cosine", "1 %", "least", "neighbour", "EER", *tprs, f"{ways}-way")
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
        return [("drift", f"unknown of {', '.join(unknown)}: there was no float file to compare with")]
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


def _wrapped(name: str, value: str) -> list[tuple[str, str]]:
    """A fact over as many lines as 80 columns take, three at most."""
    lines = textwrap.wrap(printable(value), _COLUMNS - 12, max_lines=3, placeholder=" ...") or [""]
    return list(zip([name, *[""] * (len(lines) - 1)], lines, strict=True))


def _size(section: InputSection) -> str:
    return f"{section.width} x {section.height} {section.colour}"


def _faces(face: FaceSection) -> str:
    kinds = ", ".join(model.kind for model in face.models)
    return f"one in a photo, {face.min_eye_distance:g} pixels between the eyes at least; found by {kinds}"


def _data(provenance: Provenance) -> str:
    if provenance.seed is None:
        return provenance.data
    return f"{provenance.data}, seed {provenance.seed}, {provenance.images_seen:,} images seen"


def _groups(names: tuple[str, ...], shown: int = 4) -> str:
    if not names:
        return "unknown"
    some = ", ".join(name[:24] for name in names[:shown])
    return f"{len(names)}: {some}{', ...' if len(names) > shown else ''}"
