"""A bundle with thresholds from other people: the same files and fingerprints, so that nobody enrols again."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.text import spelt_out
from edge_oneshot_export.assembling import ExportReport, check_images, check_target
from edge_oneshot_export.judging.calibration import better_rule, calibrate_embeddings, draw_sample
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.packing import created, write_bundle

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def recalibrate(
    bundle: Bundle,
    path: str | os.PathLike[str],
    *,
    calibration: LabelledImages,
    data: str,
    target_far: float | None = None,
    key: "Ed25519PrivateKey | None" = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Calibrate every variant of a bundle on other images, without training, into a new bundle.

    Args:
        bundle: The bundle; its models, preprocessing, drift and fingerprints stay as they are.
        path: The new bundle.
        calibration: Preprocessed images of identities that the encoder was not trained on.
        data: What the figures come from, in words.
        target_far: As `edge_oneshot_export.export` takes it.
        key: Signs the new bundle; a signature of the old one does not carry over.
        progress: Called with the name of each step as it begins.

    Raises:
        ModelError: The images allow no calibration, or do not support `target_far`.
        IntegrityError: A variant fails its self-test.
        MachineError: A runtime is missing, or the file cannot be written. In every case nothing was written.
    """
    started = time.monotonic()
    target, manifest = Path(path), bundle.manifest
    check_target(target)
    check_images(calibration.images, "calibration.images", manifest.input, at_least=2)
    sample = draw_sample(calibration, manifest.input, target_far=target_far)
    images = calibration.images[sample.chosen]
    calibrations: list[Calibration] = []
    for variant in manifest.variants:
        if progress:
            progress(f"{variant.name}: calibrating")
        encoder = Encoder.open(bundle, variant.name)
        calibrations += calibrate_embeddings(
            encoder.embed_many(images),
            sample.labels,
            manifest.embedding.metric,
            empty=sample.empty,
            failures_by_reason=sample.failures_by_reason,
            variant=variant.name,
            target_far=target_far,
            data=spelt_out(data),
        )
    renewed = msgspec.structs.replace(
        manifest, created=created(), rule=better_rule(calibrations), calibration=tuple(calibrations)
    )
    written = write_bundle(target, renewed, bundle.members, key=key)
    return ExportReport(target, written.manifest, (), time.monotonic() - started)
