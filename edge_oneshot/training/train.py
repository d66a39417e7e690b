"""Training a siamese encoder: begin a run, or resume it from its last checkpoint."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from edge_oneshot import __version__
from edge_oneshot.data.archives import Skipped
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import is_named
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.training.images import load_held_out, load_oversampled
from edge_oneshot.training.logs import no_log, open_log
from edge_oneshot.training.loop import TrainingLoop, TrainingProgress
from edge_oneshot.training.options import ExecutionOptions, Recipe, TrainOptions
from edge_oneshot.training.presets import preset
from edge_oneshot.training.run_folder import held, require_no_run
from edge_oneshot.training.runs import RECORD_FORMAT, Run, RunRecord, RunSettings
from edge_oneshot.training.speech_augmentation import SpeechAugmentation
from edge_oneshot.training.strategies import Devices, open_devices
from edge_oneshot.training.trainable import TrainableEncoder, encoder_to_train
from edge_oneshot.training.validation import require_enough
from edge_oneshot_export.formats.conversion import MAX_SIZE
from edge_oneshot_export.formats.keras_models import require_settings

_SPLIT_SEED = 0  # not the run's: runs of several seeds are validated on the same groups

Report = Callable[[TrainingProgress], None]
"""Called after each step, and before and after them with what is being done."""


def train(
    data: str,
    out: str | Path,
    options: TrainOptions | None = None,
    execution: ExecutionOptions | None = None,
    *,
    report: Report | None = None,
    skipped: Skipped | None = None,
) -> Run:
    """Train an encoder and leave it in a run folder.

    Args:
        data: ``glyphs``, ``omniglot``, both as ``glyphs+omniglot``, ``words``, ``voices``, or a folder with one folder
            of images or recordings per identity.
        out: The run folder; it is made, and refused when it holds a run already.
        options: What determines the result; the defaults if None.
        execution: Where the training runs; the defaults if None. Of several workers the first alone writes the run.
        report: Called with the progress.
        skipped: Called with each photo that has no face to use, and why, see `edge_oneshot.training.images`.

    Returns:
        The run, finished.

    Raises:
        DataError: The data is missing, broken or too little, or the extra ``faces`` is not installed.
        TrainingError: The folder holds a run or another training is at work in it, `start` is no run or one of
            another net, the loss diverged, or options do not go together.
        ModelError: Keras has other settings in this process than training needs.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
    """
    out, options, execution = Path(out), options or TrainOptions(), execution or ExecutionOptions()
    require_no_run(out)
    require_settings()
    encoder = encoder_to_train(data, options)
    options = _completed(data, options, encoder)
    devices = _open_devices(execution, options)
    with _locked(out, devices, make=True):
        require_no_run(out)
        everything = load_oversampled(data, encoder.input, execution.data_dir, skipped)
        settings = _settings(data, options, groups=len(everything.group_names))
        training, validation = everything.split(settings.held_out, _SPLIT_SEED)
        require_enough(training, validation)
        record = RunRecord(
            format=RECORD_FORMAT,
            version=__version__,
            settings=settings,
            input=encoder.input,
            classes=_classes(training, settings),
            trained_on=training.group_names,
            held_out=validation.group_names,
            compiler="graph",
            images_seen=0,
            seconds=0.0,
            finished=False,
            similarity=None,
        )
        return _loop(Run(out, record), training, devices, execution, report).run(None)


def resume(
    out: str | Path,
    execution: ExecutionOptions | None = None,
    *,
    report: Report | None = None,
    skipped: Skipped | None = None,
) -> Run:
    """Resume a run from its last checkpoint, to the result that it would have had without the interruption.

    Args:
        out: The run folder.
        execution: As for `train`.
        report: As for `train`.
        skipped: As for `train`.

    Returns:
        The run, finished; at once when it was finished before.

    Raises:
        DataError: The data is missing, or is not what the run was trained on.
        TrainingError: There is no run, it is damaged or of another version, or another training is at work in it.
    """
    execution = execution or ExecutionOptions()
    require_settings()
    run = Run.open(out)
    if run.record.finished:
        return run
    settings = run.record.settings
    devices = _open_devices(execution, settings)
    with _locked(run.path, devices):
        run = Run.open(out)  # as it is now that no other training is at work
        if run.record.finished:
            return run
        everything = load_oversampled(settings.data, run.record.input, execution.data_dir, skipped)
        if set(everything.group_names) != {*run.record.trained_on, *run.record.held_out}:
            raise DataError(f"{settings.data}: not the data that {out} was trained on", reason="other_data")
        training = everything.only(run.record.trained_on)
        if _classes(training, settings) != run.record.classes:
            raise DataError(f"{settings.data}: not the identities that {out} was trained on", reason="other_data")
        return _loop(run, training, devices, execution, report).run(run.variables())


def require_same(out: str | Path, data: str, given: Mapping[str, object]) -> None:
    """Refuse to resume a run with other options than its own.

    Args:
        out: The run folder.
        data: As given to `train`.
        given: The options that the user wrote, by field of `TrainOptions`.

    Raises:
        TrainingError: There is no run, or an option differs.
    """
    record = Run.open(out).record
    section = record.input
    own = {**msgspec.structs.asdict(record.settings), "size": section.width, "framing": section.framing}
    own["faces"] = section.face is not None
    for name, value in {"data": _recorded(data), **given}.items():
        if own[name] != value:
            raise TrainingError(
                f"{out}: was started with {name.replace('_', '-')} {own[name]}, not {value}; "
                "resume it as it was, or train into another folder",
                reason="other_settings",
            )


def _completed(data: str, options: TrainOptions, encoder: TrainableEncoder) -> TrainOptions:
    """The options with every default that follows from the encoder, or from the kind of data.

    Raises:
        TrainingError: Two views of an encoder that never sees turned images, or more than fit into a bundle; an
            augmentation of other data.
    """
    augment = options.augment or _usual_augmentation(data, encoder)
    augmentation = preset(augment, options.orientations)
    if isinstance(augmentation, SpeechAugmentation) != (encoder.input.audio is not None):
        fitting = "speech or voices" if encoder.input.audio else "drawings or photos"
        raise TrainingError(f"augment {augment}: does not fit {data}; name {fitting}", reason="wrong_use")
    orientations = augmentation.orientations
    turned = orientations > 1 and encoder.turns
    if options.views == 2 and not turned:
        message = "2 views need orientations of 4 or more: else the encoder never saw a turned image"
        raise TrainingError(message, reason="wrong_use")
    views = options.views or (2 if turned else 1)
    if views * encoder.embedding > MAX_SIZE:
        most = f"with {views} views at most {MAX_SIZE // views} fit into a bundle"
        raise TrainingError(f"embedding {encoder.embedding}: {most}; lower it", reason="wrong_use")
    timed = options.minutes is None and options.images is None
    return msgspec.structs.replace(
        options,
        minutes=encoder.minutes if timed else options.minutes,
        augment=augment,
        orientations=orientations,
        learning_rate=options.learning_rate or encoder.learning_rate,
        net=encoder.net,
        embedding=encoder.embedding,
        views=views,
    )


def _usual_augmentation(data: str, encoder: TrainableEncoder) -> str:
    """The preset for data that says no other: words are told apart, unless it is named for its voices."""
    if encoder.input.audio is not None:
        return "voices" if data == "voices" else "speech"
    return "drawings" if is_named(data) else "photos"


def _settings(data: str, options: TrainOptions, *, groups: int) -> RunSettings:
    """What run.json keeps of completed options; of so many groups a sixth is held out unless told otherwise."""
    kept = {name: getattr(options, name) for name in Recipe.__struct_fields__}
    held_out = options.held_out or max(min(4, groups // 2), groups // 6)
    return RunSettings(**{**kept, "data": _recorded(data), "held_out": held_out})


def _recorded(data: str) -> str:
    return data if is_named(data) else str(Path(data).resolve())


def _classes(training: Dataset, settings: RunSettings) -> int:
    return len(training.identities) * preset(settings.augment, settings.orientations).orientations


def _loop(
    run: Run, training: Dataset, devices: Devices, execution: ExecutionOptions, report: Report | None
) -> TrainingLoop:
    log = open_log(run.path) if execution.tensorboard and not devices.worker else no_log
    return TrainingLoop(run, training, load_held_out(run.record, execution.data_dir), devices, log, report)


def _locked(out: Path, devices: Devices, *, make: bool = False) -> AbstractContextManager[None]:
    """Lock the run folder; of several workers only the first does so, which alone writes there."""
    return nullcontext() if devices.worker else held(out, make=make)


def _open_devices(execution: ExecutionOptions, recipe: Recipe) -> Devices:
    devices = open_devices(execution.strategy, recipe.batch)
    if devices.workers > 1 and recipe.minutes is not None:
        message = "several workers have several clocks: give the length as --images"
        raise TrainingError(message, reason="bad_length")
    return devices
