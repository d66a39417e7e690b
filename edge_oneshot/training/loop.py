"""Training a siamese encoder: from a data set to a run folder, resumable at every checkpoint."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import msgspec

from edge_oneshot import __version__
from edge_oneshot.data.archives import Skipped
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import default_input, is_named, load_data
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.faces import tuning
from edge_oneshot.faces.inputs import face_input, small_face_input
from edge_oneshot.faces.weights import EMBEDDING
from edge_oneshot.training.augmentation import OVERSAMPLING, Orientations, preset
from edge_oneshot.training.encoders import Precision, Views
from edge_oneshot.training.folder import held, require_no_run
from edge_oneshot.training.logs import no_log, open_log
from edge_oneshot.training.objectives import ObjectiveName
from edge_oneshot.training.photos import load_faces
from edge_oneshot.training.runs import RECORD_FORMAT, Record, Run, Settings
from edge_oneshot.training.session import Progress, Session
from edge_oneshot.training.strategies import Devices, StrategyName, open_devices
from edge_oneshot.training.validation import require_enough
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.formats.conversion import MAX_SIZE
from edge_oneshot_export.formats.keras_models import require_settings

_SPLIT_SEED = 0  # not the run's: runs of several seeds are judged on the same groups
_LEARNING_RATE = 2e-3


def train(
    data: str,
    out: str | Path,
    *,
    minutes: float | None = None,
    images: int | None = None,
    seed: int = 0,
    size: int = 48,
    embedding: int = 128,
    batch: int = 64,
    held_out: int | None = None,
    augment: str | None = None,
    orientations: Orientations | None = None,
    views: Views | None = None,
    framing: Literal["whole", "ink"] | None = None,
    learning_rate: float | None = None,
    net: str = "base",
    objective: ObjectiveName = "cosine",
    precision: Precision = "float32",
    start: str | Path | None = None,
    faces: bool = False,
    strategy: StrategyName = "one",
    tensorboard: bool = False,
    data_dir: Path | None = None,
    report: Callable[[Progress], None] | None = None,
    skipped: Skipped | None = None,
) -> Run:
    """Train an encoder and leave it in a run folder.

    Args:
        data: ``glyphs``, ``omniglot``, both as ``glyphs+omniglot``, or a folder with one folder of
            images an identity.
        out: The run folder; made, and refused when it holds a run already.
        minutes: Length by the clock; the learning rate falls with the time.
        images: Length in images seen instead; such a run is the same for the same seed.
        seed: Of everything random but what is held out.
        size: Side of the encoder's square input in pixels.
        embedding: Size of the embedding of a view.
        batch: Images a step.
        held_out: Groups (alphabets, people) kept for validation and calibration; by default a
            sixth, and four at least where there are as many again to train on.
        augment: How images vary, a preset of `edge_oneshot.training.augmentation`; drawings for
            the named data sets, photos for a folder.
        orientations: 1, 4, 8 or 16 in which each identity is a class of its own; the preset's,
            unless given. 8 and 16 pay in long trainings.
        views: 2: the encoder sees each image also turned by a quarter, and its embedding is that of
            both, side by side; goes without saying where turned images are classes of their own,
            and is refused elsewhere.
        framing: What of an image is seen; the ink of drawings, the whole of photos.
        learning_rate: The highest; warmed up to, then falling as a cosine. 2e-3, or a twentieth of it
            for an encoder that begins as ``faces``.
        net: The encoder: ``base``, ``tiny``, or layers as in `edge_oneshot.training.encoders.NETS`.
        objective: See `edge_oneshot.training.objectives`.
        precision: See `edge_oneshot.training.encoders.build_trainee`.
        start: A run whose encoder the training begins with, in place of a random one; or ``faces``,
            which is dlib's face encoder, of which the last stage goes on learning.
        faces: The images are photos of people: the faces are cut out of them, as the device does.
            Goes without saying for `start` ``faces``.
        strategy: See `edge_oneshot.training.strategies`. Of several workers the first alone
            writes the run.
        tensorboard: Keep logs for TensorBoard in the run folder.
        data_dir: Where Omniglot lies.
        report: Called after each step.
        skipped: Called with each photo that has no face to use, see `edge_oneshot.training.photos`.

    Returns:
        The run, finished.

    Raises:
        DataError: The data is missing, broken or too little, or the extra ``faces`` is not installed.
        TrainingError: The folder holds a run or another training is at work in it, `start` is none or of
            another net, the loss ran away, or settings do not go together.
        ModelError: Keras has other settings in this process than training needs.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
    """
    out = Path(out)
    require_no_run(out)
    require_settings()
    if (minutes is None) == (images is None):
        raise TrainingError("give either minutes or images", reason="bad_length")
    devices = _open_devices(strategy, batch, minutes)
    tuned, drawn = start == tuning.START, is_named(data)
    if framing and (faces or tuned):
        raise TrainingError("a face is framed by its points: leave out framing", reason="wrong_use")
    if tuned and (size, embedding, net, precision, views or 1) != (48, 128, "base", "float32", 1):
        message = "the encoder faces has its own net: leave out size, embedding, net, precision and views"
        raise TrainingError(message, reason="wrong_use")
    if tuned:
        section, net, embedding = face_input(), tuning.NET, EMBEDDING
    else:
        section = small_face_input(size) if faces else default_input(data, size, framing)
    augment = augment or ("drawings" if drawn else "photos")
    variation = preset(augment, orientations)
    turns = variation.orientations > 1 and not tuned
    if views == 2 and not turns:
        message = "2 views need orientations of 4 or more: else the encoder never saw a turned image"
        raise TrainingError(message, reason="wrong_use")
    views = views or (2 if turns else 1)
    if views * embedding > MAX_SIZE:
        message = f"embedding {embedding}: with {views} views at most {MAX_SIZE // views} fit into a bundle; lower it"
        raise TrainingError(message, reason="wrong_use")
    with _alone(out, devices, make=True):
        require_no_run(out)
        everything = _load(data, section, data_dir, skipped, enlarged=True)
        groups = len(everything.group_names)
        settings = Settings(
            data=data if drawn else str(Path(data).resolve()),
            minutes=minutes,
            images=images,
            seed=seed,
            augment=augment,
            orientations=variation.orientations,
            held_out=held_out or max(min(4, groups // 2), groups // 6),
            batch=batch,
            embedding=embedding,
            learning_rate=learning_rate or (tuning.LEARNING_RATE if tuned else _LEARNING_RATE),
            net=net,
            objective=objective,
            precision=precision,
            start=str(start) if start else None,
            views=views,
        )
        training, validation = everything.split(settings.held_out, _SPLIT_SEED)
        require_enough(training, validation)
        record = Record(
            format=RECORD_FORMAT,
            version=__version__,
            settings=settings,
            input=section,
            classes=len(training.identities) * preset(settings.augment, settings.orientations).orientations,
            trained_on=training.group_names,
            held_out=validation.group_names,
            compiler="graph",
            images_seen=0,
            seconds=0.0,
            finished=False,
            similarity=None,
        )
        log = open_log(out) if tensorboard and not devices.worker else no_log
        session = Session(Run(out, record), training, load_held_out(record, data_dir), devices, log, report)
        return session.run(None)


def resume(
    out: str | Path,
    *,
    strategy: StrategyName = "one",
    tensorboard: bool = False,
    data_dir: Path | None = None,
    report: Callable[[Progress], None] | None = None,
    skipped: Skipped | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    Returns:
        The run, finished; at once when it was finished before.

    Raises:
        DataError: The data is missing, or is not what the run was trained on.
        TrainingError: There is no run, it is damaged or of another version, or another training is at work in it.
    """
    require_settings()
    run = Run.open(out)
    if run.record.finished:
        return run
    settings = run.record.settings
    devices = _open_devices(strategy, settings.batch, settings.minutes)
    with _alone(run.path, devices):
        run = Run.open(out)  # as it is now that no other training is at work
        if run.record.finished:
            return run
        everything = _load(settings.data, run.record.input, data_dir, skipped, enlarged=True)
        if set(everything.group_names) != {*run.record.trained_on, *run.record.held_out}:
            raise DataError(f"{settings.data}: not the data that {out} was trained on", reason="other_data")
        training = everything.only(run.record.trained_on)
        if (
            len(training.identities) * preset(settings.augment, settings.orientations).orientations
            != run.record.classes
        ):
            raise DataError(f"{settings.data}: not the identities that {out} was trained on", reason="other_data")
        log = open_log(run.path) if tensorboard and not devices.worker else no_log
        session = Session(run, training, load_held_out(run.record, data_dir), devices, log, report)
        return session.run(run.variables())


def require_same(out: str | Path, data: str, given: Mapping[str, object]) -> None:
    """Refuse to resume a run under other settings than its own.

    Raises:
        TrainingError: There is no run, or a given setting differs.
    """
    record = Run.open(out).record
    section = record.input
    own = {**msgspec.structs.asdict(record.settings), "size": section.width, "framing": section.framing}
    own["faces"] = section.face is not None
    asked = {"data": data if is_named(data) else str(Path(data).resolve()), **given}
    for name, value in asked.items():
        if own[name] != value:
            raise TrainingError(
                f"{out}: was begun with {name.replace('_', '-')} {own[name]}, not {value}; "
                "resume it as it was, or train anew into another folder",
                reason="other_settings",
            )


def load_held_out(record: Record, data_dir: Path | None = None) -> Dataset:
    """The groups that a run was not trained on, at the encoder's own resolution."""
    return _load(record.settings.data, record.input, data_dir).only(record.held_out)


def oversampled(section: InputSection) -> InputSection:
    """The section at the resolution that augmentation starts from."""
    return msgspec.structs.replace(section, height=section.height * OVERSAMPLING, width=section.width * OVERSAMPLING)


def _load(
    data: str, section: InputSection, data_dir: Path | None, skipped: Skipped | None = None, *, enlarged: bool = False
) -> Dataset:
    wide = oversampled(section)
    if section.face is not None:
        return load_faces(data, section, wide if enlarged else None, skipped)
    return load_data(data, wide if enlarged else section, data_dir=data_dir)


def _alone(out: Path, devices: Devices, *, make: bool = False) -> AbstractContextManager[None]:
    """Hold the run's folder; of several workers the first does, which alone writes there."""
    return nullcontext() if devices.worker else held(out, make=make)


def _open_devices(strategy: StrategyName, batch: int, minutes: float | None) -> Devices:
    devices = open_devices(strategy, batch)
    if devices.workers > 1 and minutes is not None:
        message = "several workers have several clocks: give the length as --images"
        raise TrainingError(message, reason="bad_length")
    return devices
