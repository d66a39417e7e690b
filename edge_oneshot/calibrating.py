"""A bundle with thresholds from one's own images, without training."""

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot.judging import load_unseen, published_data
from edge_oneshot_device import Bundle
from edge_oneshot_device.encoder import open_faces
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_export.assembling import ExportReport, check_target
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.recalibration import recalibrate


def calibrate_bundle(
    bundle: str | Path,
    out: str | Path,
    data: str,
    *,
    target_far: float | None = None,
    data_dir: Path | None = None,
    key: Ed25519PrivateKey | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[ExportReport, tuple[str, ...]]:
    """Calibrate a bundle on other images; identities that its encoder is known to be trained on are left out.

    Args:
        bundle: ``NAME.oneshot``.
        out: The new one.
        data: As `load_data` takes it.
        target_far: See `edge_oneshot_export.export`.
        data_dir: Where Omniglot lies.
        key: Signs the new bundle.
        progress: Called with each step's name as it begins.

    Returns:
        The report, and the groups left out.

    Raises:
        DataError: The data is missing, or the encoder was trained on all of it.
        InputError, IntegrityError: The bundle cannot be opened.
        ModelError: See `edge_oneshot_export.recalibration.recalibrate`.
    """
    check_target(Path(out))
    opened = Bundle.open(bundle)
    for variant in opened.manifest.variants:
        try_variant(opened, variant.name)
    if progress:
        progress("loading the images")
    people, seen = load_unseen(data, opened.manifest, data_dir, faces=open_faces(opened))
    report = recalibrate(
        opened,
        out,
        calibration=LabelledImages(people.images, people.labels, people.identities, people.faults),
        data=f"{len(people.identities)} identities of {published_data(data)}",
        target_far=target_far,
        key=key,
        progress=progress,
    )
    return report, seen
