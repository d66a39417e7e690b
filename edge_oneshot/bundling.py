"""From a run to a bundle: gathers what the exporter asks for from the data of the run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot.data.catalogue import DATASETS, names_in
from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.faces.inputs import face_files, open_finder
from edge_oneshot.faces.packages import FINDING
from edge_oneshot.faces.representative import golden_faces
from edge_oneshot.judging import published_data, published_names
from edge_oneshot.training.objectives import OBJECTIVES
from edge_oneshot.training.runs import Run
from edge_oneshot.training.trainable import encoder_of
from edge_oneshot_device.bundle.manifest import Provenance
from edge_oneshot_device.encoding.preprocessing import has_content
from edge_oneshot_export.assembling import ExportReport
from edge_oneshot_export.exporting import check_arguments, export
from edge_oneshot_export.judging.protocols import LabelledImages

DEFAULT_VARIANTS = ("int8", "float32")
_REPRESENTATIVE = 400


def export_run(
    run: Run,
    out: str | Path,
    *,
    variants: Sequence[str] = DEFAULT_VARIANTS,
    target_far: float | None = None,
    asked: bool = False,
    data_dir: Path | None = None,
    key: Ed25519PrivateKey | None = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export a run's encoder, measured and calibrated on the groups that it was not trained on.

    Args:
        run: Finished, or stopped after a checkpoint.
        out: ``NAME.oneshot``.
        variants: Of `edge_oneshot_export.variants.VARIANTS`.
        target_far: See `edge_oneshot_export.export`.
        asked: The user named them, so that one that fails is an error and not left out.
        data_dir: Where Omniglot lies.
        key: Signs the bundle; None leaves it unsigned.
        progress: Called with each step's name as it begins.

    Raises:
        DataError: The run's data is missing or has changed.
        TrainingError: The run is damaged, or has no checkpoint yet.
        ModelError, ExportError: See `edge_oneshot_export.export`.
    """
    record = run.record
    check_arguments(Path(out), variants)
    if record.images_seen == 0:
        raise TrainingError(f"{run.path}: nothing is trained yet; go on with --resume", reason="run_unfinished")
    if progress:
        progress("loading the run's data")
    section = record.input
    finder = open_finder(section) if section.face else None
    data = load_data(record.settings.data, section, data_dir=data_dir, faces=finder)
    groups = {*record.trained_on, *record.held_out}
    # people of whom too few photos show a face are in neither
    if not groups <= set(data.group_names) or (finder is None and groups != set(data.group_names)):
        raise DataError(f"{data.name}: not the data that {run.path} was trained on", reason="other_data")
    trained, held_out = data.only(record.trained_on), data.only(record.held_out)
    shown = np.flatnonzero(has_content(trained.images, section))
    chosen = np.random.default_rng(record.settings.seed).permutation(shown)[:_REPRESENTATIVE]
    return export(
        run.encoder(),
        out,
        images=trained.images[chosen],
        calibration=LabelledImages(held_out.images, held_out.labels, held_out.identities, held_out.faults),
        input=section,
        metric=OBJECTIVES[record.settings.objective].metric,
        variants=variants,
        provenance=_provenance(run),
        target_far=target_far,
        golden=golden_faces(finder) if finder else None,
        files=face_files() if finder else None,
        asked=asked,
        key=key,
        progress=progress,
    )


def _provenance(run: Run) -> Provenance:
    record = run.record
    name = published_data(record.settings.data)
    origin = encoder_of(record).origin
    licences = [licence for part in names_in(record.settings.data) if (licence := DATASETS[part].licence)]
    licences += [origin.licence] if origin else []
    licences += [file.licence for file in FINDING if record.input.face]
    return Provenance(
        data=f"{name}, from {origin.name}" if origin else name,
        seed=record.settings.seed,
        images_seen=record.images_seen,
        trained_on=published_names(record.settings.data, record.trained_on),
        held_out=published_names(record.settings.data, record.held_out),
        versions={},
        commit=None,
        licences=tuple(licences),
    )
