"""Recalibrate a bundle: new thresholds from other people. The models stay, so nobody has to enrol again."""

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
from edge_oneshot_export.judging.calibration import CalibrationSettings, better_rule, calibrate_embeddings
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.judging.sampling import draw_sample
from edge_oneshot_export.options import CalibrateOptions
from edge_oneshot_export.packing.bundle_file import write_bundle
from edge_oneshot_export.packing.packer import ExportReport, check_images, check_target
from edge_oneshot_export.packing.provenance import created
from edge_oneshot_export.packing.signing import load_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def recalibrate(
    bundle: Bundle,
    path: str | os.PathLike[str],
    *,
    calibration: LabelledImages,
    data: str,
    options: CalibrateOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Calibrate every variant of a bundle on other images, without training, and write a new bundle.

    The thresholds that the bundle has are the prior, see `edge_oneshot_export.judging.prior`: a few people loosen none
    of them, and leave the new calibration provisional.

    Args:
        bundle: The bundle; its models, preprocessing, drift and fingerprints stay as they are.
        path: The new bundle.
        calibration: Preprocessed images of identities that the encoder was not trained on.
        data: Where the images come from, in words, for the manifest.
        options: What the user chooses; None takes the defaults. A signature of the old bundle does not carry over.
        progress: Called with the name of each step as it begins.

    Returns:
        What was written.

    Raises:
        InputError: The key cannot be used, or nothing may be written at `path`.
        ModelError: The images allow no calibration, or do not support the target FAR.
        IntegrityError: A variant fails its self-test.
        MachineError: A runtime is missing, or the file cannot be written. In every case nothing was written.
    """
    started = time.monotonic()
    options = options or CalibrateOptions()
    target, manifest = Path(path), bundle.manifest
    key = check_recalibration(target, options)
    check_images(calibration.images, "calibration.images", manifest.input, at_least=2)
    single = [one for one in manifest.calibration if one.templates == 1]
    sample = draw_sample(calibration, manifest.input, target_far=options.target_far, prior=single)
    images = calibration.images[sample.chosen]
    settings = CalibrationSettings(spelt_out(data), options.target_far)
    calibrations: list[Calibration] = []
    for variant in manifest.variants:
        if progress:
            progress(f"{variant.name}: calibrating")
        embeddings = Encoder.open(bundle, variant.name).embed_many(images)
        calibrations += calibrate_embeddings(
            embeddings,
            sample,
            manifest.embedding.metric,
            variant=variant.name,
            settings=settings,
            prior=[one for one in manifest.calibration if one.variant == variant.name],
        )
    rule = manifest.rule if any(one.provisional for one in calibrations) else better_rule(calibrations)
    renewed = msgspec.structs.replace(
        manifest,
        created=created(),
        rule=rule,
        calibration=tuple(calibrations),
    )
    written = write_bundle(target, renewed, bundle.members, key=key)
    return ExportReport(target, written.manifest, (), time.monotonic() - started)


def check_recalibration(path: Path, options: CalibrateOptions) -> "Ed25519PrivateKey | None":
    """Refuse what `recalibrate` would refuse about its path and its key, before the work for it begins.

    Args:
        path: The new bundle.
        options: What the user chooses.

    Returns:
        The key that signs the bundle, if one is named.

    Raises:
        InputError: The key cannot be used, or nothing may be written at `path`.
        ModelError: The path does not end in .oneshot, or its folder is missing.
    """
    check_target(path)
    return None if options.sign is None else load_key(options.sign)
