"""What is in a bundle, in brief: for `inspect` and `init`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_oneshot_device.bundle import Bundle
from edge_oneshot_device.manifest import (
    Calibration,
    Drift,
    EmbeddingSection,
    InputSection,
    Manifest,
    OperatingPoint,
    Provenance,
    Variant,
)

UNCALIBRATED: Final = "uncalibrated: verify and identify will refuse; export it with calibration images"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One variant: its file, and how far it is from the float model."""

    variant: str
    format: str
    bytes: int
    input_dtype: str
    output_dtype: str
    runtimes: list[str]
    drift: Drift
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A calibration at its default target, the smallest that its data supports."""

    variant: str
    templates: int
    target_far: float
    threshold: float
    far_upper_95: float
    frr: float
    people: int
    data: str
    provisional: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """A bundle in brief.

    Attributes:
        name, format, created: As the manifest says.
        variants: Names of the variants.
        fingerprints: Fingerprint of each.
        calibration: One line a variant and count of templates; empty when uncalibrated.
        signed_by: None: signatures are not supported yet.
        bytes, sha256: Of the bundle file.
        files: The variants in more detail.
        input, embedding, provenance: As the manifest says.
    """

    name: str
    format: int
    created: str
    variants: list[str]
    fingerprints: dict[str, str]
    calibration: list[Operation]
    signed_by: None
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
        calibration=operations(manifest),
        signed_by=None,
        bytes=len(bundle.content),
        sha256=bundle.sha256,
        files=[_model_file(variant) for variant in manifest.variants],
        input=manifest.input,
        embedding=manifest.embedding,
        provenance=manifest.provenance,
    )


def operations(manifest: Manifest) -> list[Operation]:
    """Every calibration of a manifest at its default target."""
    return [_operation(calibration) for calibration in manifest.calibration]


def describe(summary: Summary) -> str:
    """The summary as plain text for one screen."""
    section, provenance = summary.input, summary.provenance
    scaling = ", ".join(f"(pixel - {m:g}) / {s:g}" for m, s in zip(section.mean, section.scale, strict=True))
    low, high = section.value_range
    facts = [
        ("bundle", f"{summary.name}, format {summary.format}, {summary.created}, {summary.bytes:,} bytes, unsigned"),
        ("sha256", summary.sha256),
        (
            "input",
            f"{section.width} x {section.height} {section.colour}, {section.resize}, {scaling}: {low:g}..{high:g}",
        ),
        ("embedding", f"{summary.embedding.size} values, {summary.embedding.metric}"),
        ("data", f"{provenance.data}, seed {provenance.seed}, {provenance.images_seen:,} images seen"),
        ("trained on", _groups(provenance.trained_on)),
        ("held out", _groups(provenance.held_out)),
        ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items()) or "unknown"),
        ("commit", provenance.commit or "unknown"),
        *(("calibrated", data) for data in dict.fromkeys(operation.data for operation in summary.calibration)),
        *(("licence", f"{part.what}: {part.licence} ({part.source})") for part in provenance.licences),
    ]
    blocks = [align(facts), align(_variant_rows(summary.files))]
    blocks.append(align(_calibration_rows(summary.calibration)) if summary.calibration else UNCALIBRATED)
    return "\n\n".join(blocks)


def align(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length as lines with aligned columns."""
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
    )


def _operation(calibration: Calibration) -> Operation:
    point = _default_point(calibration)
    return Operation(
        variant=calibration.variant,
        templates=calibration.templates,
        target_far=point.target_far,
        threshold=point.threshold,
        far_upper_95=point.far_upper_95,
        frr=point.frr,
        people=calibration.people,
        data=calibration.data,
        provisional=calibration.provisional,
    )


def _default_point(calibration: Calibration) -> OperatingPoint:
    return next(point for point in calibration.points if point.target_far == calibration.target_far)


def _variant_rows(files: list[ModelFile]) -> list[tuple[str, ...]]:
    head = ("variant", "bytes", "in", "out", "drift: mean", "1 %", "least", "neighbour changed", "fingerprint")
    rows = [
        (
            file.variant,
            f"{file.bytes:,}",
            file.input_dtype,
            file.output_dtype,
            f"{file.drift.cosine_mean:.4f}",
            f"{file.drift.cosine_p01:.4f}",
            f"{file.drift.cosine_min:.4f}",
            percent(file.drift.neighbour_changed),
            file.fingerprint[:12],
        )
        for file in files
    ]
    return [head, *rows]


def _calibration_rows(operations: list[Operation]) -> list[tuple[str, ...]]:
    head = ("calibration", "templates", "target FAR", "at most (95 %)", "FRR", "threshold", "people", "")
    rows = [
        (
            operation.variant,
            str(operation.templates),
            percent(operation.target_far),
            percent(operation.far_upper_95),
            percent(operation.frr),
            f"{operation.threshold:.4f}",
            str(operation.people),
            "provisional" if operation.provisional else "",
        )
        for operation in operations
    ]
    return [head, *rows]


def _groups(names: tuple[str, ...], shown: int = 4) -> str:
    if not names:
        return "unknown"
    some = ", ".join(name[:24] for name in names[:shown])
    return f"{len(names)}: {some}{', ...' if len(names) > shown else ''}"
