"""Export the encoder of a training run as a bundle, calibrated on the groups that were held out."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edge_oneshot.data.catalogue import DATASETS, names_in
from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.faces import tuning
from edge_oneshot.faces.inputs import face_files, open_finder
from edge_oneshot.faces.packages import FINDING
from edge_oneshot.faces.representative import golden_faces
from edge_oneshot.faces.sface import DEFAULT_VARIANTS
from edge_oneshot.training.objectives import OBJECTIVES
from edge_oneshot.training.runs import Run
from edge_oneshot.training.trainable import encoder_of
from edge_oneshot.unseen_data import published_data, published_names
from edge_oneshot_device.bundle.manifest import Provenance
from edge_oneshot_device.encoding.preprocessing import has_content
from edge_oneshot_export.keras_export import check_export, export
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec, ExportReport

_REPRESENTATIVE = 400


def export_run(
    run: Run,
    out: str | Path,
    options: ExportOptions | None = None,
    *,
    data_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export a run's encoder, measured and calibrated on the groups that it was not trained on.

    Args:
        run: A run that is finished, or stopped after a checkpoint.
        out: ``NAME.oneshot``.
        options: What the user chooses; None takes the defaults.
        data_dir: Folder of Omniglot's archives.
        progress: Called with the name of each step as it begins.

    Returns:
        What was written and what was left out.

    Raises:
        DataError: The run's data is missing or has changed.
        TrainingError: The run is damaged, or has no checkpoint yet.
        InputError, ModelError, ExportError: See `edge_oneshot_export.export`.
    """
    record = run.record
    options = options or ExportOptions()
    if options.variants is None and record.settings.net == tuning.NET:
        options = msgspec.structs.replace(options, variants=DEFAULT_VARIANTS)
    check_export(Path(out), options)
    if record.images_seen == 0:
        raise TrainingError(f"{run.path}: nothing is trained yet; go on with --resume", reason="run_unfinished")
    if progress:
        progress("loading the run's data")
    section = encoder_of(record).input
    finder = open_finder(section) if section.face else None
    data = load_data(record.settings.data, section, data_dir=data_dir, faces=finder)
    groups = {*record.trained_on, *record.held_out}
    # people of whom too few photos show a face are in neither
    if not groups <= set(data.group_names) or (finder is None and groups != set(data.group_names)):
        raise DataError(f"{data.name}: not the data that {run.path} was trained on", reason="other_data")
    trained, held_out = data.only(record.trained_on), data.only(record.held_out)
    shown = np.flatnonzero(has_content(trained.images, section))
    chosen = np.random.default_rng(record.settings.seed).permutation(shown)[:_REPRESENTATIVE]
    spec = BundleSpec(
        input=section,
        metric=OBJECTIVES[record.settings.objective].metric,
        provenance=_provenance(run),
        golden=golden_faces(finder) if finder else None,
        files=face_files() if finder else {},
    )
    return export(
        run.encoder(),
        out,
        spec,
        images=trained.images[chosen],
        calibration=held_out.labelled(),
        options=options,
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
