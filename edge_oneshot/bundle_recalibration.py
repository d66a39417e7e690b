"""Recalibrate a bundle on images of a data set or folder, without training."""

from collections.abc import Callable
from pathlib import Path

from edge_oneshot.data.archives import Unreadable
from edge_oneshot.unseen_data import load_unseen, published_data
from edge_oneshot_device import Bundle
from edge_oneshot_device.encoder import open_faces
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_export.options import CalibrateOptions
from edge_oneshot_export.packing.packer import ExportReport
from edge_oneshot_export.recalibration import check_recalibration, recalibrate


def recalibrate_bundle(
    bundle: str | Path,
    out: str | Path,
    data: str,
    options: CalibrateOptions | None = None,
    *,
    data_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
    unreadable: Unreadable | None = None,
) -> tuple[ExportReport, tuple[str, ...]]:
    """Write a bundle with thresholds from other images; identities that its encoder was trained on are left out.

    Args:
        bundle: ``NAME.oneshot``.
        out: The new bundle.
        data: A data set's name or a folder, see `load_data`.
        options: What the user chooses; None takes the defaults.
        data_dir: Folder of Omniglot's archives.
        progress: Called with the name of each step as it begins.
        unreadable: Called with each image of the folder that cannot be read, and the reason; it is left out. Without
            it such an image is an error.

    Returns:
        What was written, and the names of the groups that were left out.

    Raises:
        DataError: The data is missing, or the encoder was trained on all of it.
        InputError: The bundle or the key cannot be opened.
        IntegrityError: The bundle is damaged.
        ModelError: The images allow no calibration, see `edge_oneshot_export.recalibration.recalibrate`.
    """
    options = options or CalibrateOptions()
    check_recalibration(Path(out), options)
    opened = Bundle.open(bundle)
    for variant in opened.manifest.variants:
        try_variant(opened, variant.name)
    if progress:
        progress("loading the images")
    people, seen = load_unseen(data, opened.manifest, data_dir, faces=open_faces(opened), unreadable=unreadable)
    report = recalibrate(
        opened,
        out,
        calibration=people.labelled(),
        data=f"{len(people.identities)} identities of {published_data(data)}",
        options=options,
        progress=progress,
    )
    return report, seen
