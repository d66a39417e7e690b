"""A summary of what a bundle holds, for `inspect` and `init`."""

from typing import Final

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.drift_section import Drift
from edge_oneshot_device.bundle.manifest import (
    Calibration,
    EmbeddingSection,
    InputSection,
    Manifest,
    Metric,
    OperatingPoint,
    Provenance,
    Variant,
)
from edge_oneshot_device.formatting import percent
from edge_oneshot_device.matching.support import people_needed, supported_by
from edge_oneshot_device.matching.thresholds import threshold_for

_GALLERIES: Final = (1, 10, 100, 1000)


class ModelFile(msgspec.Struct, frozen=True):
    """A variant: its file, and its drift from the float model, where that was measured."""

    variant: str
    format: str
    bytes: int
    input_dtype: str
    output_dtype: str
    runtimes: list[str]
    drift: Drift | None
    fingerprint: str
    compiled: str | None


class GalleryThreshold(msgspec.Struct, frozen=True):
    """The threshold of an attempt at the default target FAR with this many people enrolled."""

    people: int
    threshold: float
    provisional: bool


class Operation(msgspec.Struct, frozen=True):
    """A calibration at its default target FAR; failures as in `Calibration`, rates as in `OperatingPoint`.

    Attributes:
        why_provisional: Why the thresholds are provisional, in one sentence; None where they are not.
    """

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
    why_provisional: str | None
    gallery: list[GalleryThreshold]


class Summary(msgspec.Struct, frozen=True):
    """A summary of a bundle.

    Attributes:
        name, format, created: From the manifest.
        variants: Names of the variants.
        default_variant: The first of them, which is used unless another is named.
        fingerprints: Fingerprint of each variant.
        rule: How the device combines the scores of a person's templates.
        calibration: One entry for each variant, rule and number of templates; empty when uncalibrated.
        signed_by: The public key that signed the bundle, in hex; None when it is unsigned.
        bytes, sha256: Size and digest of the bundle file.
        files: The variants in more detail.
        input, embedding, provenance: From the manifest.
    """

    name: str
    format: int
    created: str
    variants: list[str]
    default_variant: str
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
    """The summary of a bundle."""
    manifest = bundle.manifest
    return Summary(
        name=manifest.name,
        format=manifest.format,
        created=manifest.created,
        variants=[variant.name for variant in manifest.variants],
        default_variant=manifest.default_variant,
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
    """Every calibration of a manifest at its default target FAR."""
    metric = manifest.embedding.metric
    return [_operation(calibration, metric) for calibration in manifest.calibration]


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
        why_provisional=_why_provisional(calibration) if calibration.provisional else None,
        gallery=[_threshold(calibration, metric, people) for people in _GALLERIES],
    )


def _why_provisional(calibration: Calibration) -> str:
    people, target = calibration.people - calibration.strangers, calibration.target_far
    if supported_by(calibration, target):
        return "the thresholds come from other people than yours: calibrate with your own"
    return (
        f"{people:,} people are too few for a false accept rate of {percent(target)}: with fewer than"
        f" {people_needed(target):,}, no threshold becomes looser than it was before them"
    )


def _threshold(calibration: Calibration, metric: Metric, people: int) -> GalleryThreshold:
    found = threshold_for(calibration, metric, calibration.target_far, people)
    return GalleryThreshold(people, found.value, found.provisional)


def _default_point(calibration: Calibration) -> OperatingPoint:
    return next(point for point in calibration.points if point.target_far == calibration.target_far)
