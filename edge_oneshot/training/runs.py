"""A training run on disk: what it was asked, how far it got, and the encoder it made.

RUN/run.json        the record: data, settings, alphabets, progress; written last
RUN/encoder.keras   the encoder, whole and usable after every checkpoint
RUN/checkpoint.npz  every variable of encoder, prototypes and optimizer, for --resume
RUN/history.jsonl   one line a checkpoint: images, seconds, loss, images/s, validation
"""

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import keras
import msgspec
import numpy as np
import numpy.typing as npt

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.augmentation import Orientations
from edge_oneshot.training.encoders import Precision, Views, build_siamese
from edge_oneshot.training.folder import CHECKPOINT, ENCODER, HISTORY, RECORD
from edge_oneshot.training.objectives import ObjectiveName
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.files import write_atomically

RECORD_FORMAT = 2


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run was asked to do; with the data it determines the result.

    Attributes:
        data: glyphs, omniglot, or the folder's path.
        minutes: Length of the training by the clock, or None.
        images: Length of the training in images seen, or None; just one of both is set.
        seed: Of the initial weights, the order and the augmentation.
        augment: A preset of `edge_oneshot.training.augmentation`.
        orientations: In which each identity is a class of its own, see there.
        held_out: Groups (alphabets, or people of a folder) kept out of training.
        embedding: Size of the embedding of a view.
        net: The encoder, see `edge_oneshot.training.encoders.NETS`.
        objective: What it is trained by, see `edge_oneshot.training.objectives`.
        precision: What the step computes in; the encoder is kept in float32.
        start: The run whose encoder it began with, as it was given; None: with a random one.
        views: 2: the encoder sees each image turned as well, `edge_oneshot.training.encoders.beside_turned`.
    """

    data: str
    minutes: Annotated[float, msgspec.Meta(gt=0)] | None
    images: Annotated[int, msgspec.Meta(ge=1)] | None
    seed: Annotated[int, msgspec.Meta(ge=0)]
    augment: str
    orientations: Orientations
    held_out: Annotated[int, msgspec.Meta(ge=1)]
    batch: Annotated[int, msgspec.Meta(ge=2)]
    embedding: Annotated[int, msgspec.Meta(ge=2, le=4096)]
    learning_rate: Annotated[float, msgspec.Meta(gt=0)]
    net: str
    objective: ObjectiveName
    precision: Precision
    start: str | None = None
    views: Views = 1


class Similarity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Logistic curve from the cosine of two embeddings to a degree of similarity in 0..1."""

    slope: float
    offset: float


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """run.json: settings and progress.

    Attributes:
        trained_on, held_out: Group names, apart from each other.
        compiler: What ran the step faster on this machine, kept for an exact resume.
        images_seen, seconds: Progress; the seconds of all sessions, validation
            included; the clock begins at each one's first step.
        finished: False after Ctrl-C or a crash; --resume goes on.
        similarity: Fitted on held-out groups when training ended.
    """

    format: int
    version: str
    settings: Settings
    input: InputSection
    classes: int
    trained_on: tuple[str, ...]
    held_out: tuple[str, ...]
    compiler: Literal["graph", "xla"]
    images_seen: int
    seconds: float
    finished: bool
    similarity: Similarity | None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history.jsonl.

    Attributes:
        loss: Mean over the images since the line before.
        accuracy: One-shot accuracy on held-out groups, 0..1.
        interval: 95 % interval of `accuracy`, see `edge_oneshot_export.judging.bounds.mean_interval`.
        ways: Of the one-shot tasks that `accuracy` is over.
    """

    images: int
    seconds: float
    loss: float
    images_per_second: float
    accuracy: float
    interval: tuple[float, float]
    ways: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, opened."""

    path: Path
    record: Record

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run folder.

        Raises:
            TrainingError: It is no run, is damaged, or was made by another version.
        """
        path = Path(path)
        try:
            content = (path / RECORD).read_bytes()
        except OSError as error:
            raise TrainingError(
                f"{path}: no run here ({RECORD}: {error.strerror}); make one with 'edge-oneshot train'",
                reason="no_run",
            ) from None
        try:
            plain = _decoded(content)
            version = msgspec.convert(plain, dict[str, object]).get("format")
            if version != RECORD_FORMAT:
                made_by = f"run format {version!r}, this version reads {RECORD_FORMAT}"
                raise TrainingError(f"{path}: made by another version ({made_by}); train again", reason="run_version")
            return cls(path, msgspec.convert(plain, Record))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise TrainingError(f"{path}/{RECORD}: {error}; train again", reason="run_damaged") from None

    def encoder(self) -> keras.Model:
        """The encoder: float32 (n, h, w, c), scaled, to float32 (n, views * embedding).

        Raises:
            TrainingError: The file is missing or damaged.
        """
        try:
            return keras.models.load_model(self.path / ENCODER, compile=False)
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0]
            raise TrainingError(f"{self.path}/{ENCODER}: {first}; train again", reason="run_damaged") from None

    def siamese(self) -> keras.Model:
        """The siamese view: two images, as for `encoder`, to a degree of similarity in 0..1.

        Raises:
            TrainingError: The run has not finished, so the curve is not fitted yet.
        """
        if self.record.similarity is None:
            raise TrainingError(f"{self.path}: not finished; go on with --resume", reason="run_unfinished")
        return build_siamese(self.encoder(), self.record.similarity.slope, self.record.similarity.offset)

    def history(self) -> list[Moment]:
        """The checkpoints so far, oldest first."""
        try:
            lines = (self.path / HISTORY).read_bytes().splitlines()
            return [msgspec.json.decode(line, type=Moment) for line in lines]
        except (OSError, msgspec.DecodeError) as error:
            raise TrainingError(f"{self.path}/{HISTORY}: {error}; train again", reason="run_damaged") from None

    def variables(self) -> list[npt.NDArray[np.generic]]:
        """The checkpoint, in the order that `save_checkpoint` was given."""
        try:
            with (self.path / CHECKPOINT).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return [stored[f"v{index}"] for index in range(len(stored.files))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{self.path}/{CHECKPOINT}: {error}; train again", reason="run_damaged") from None


def save_checkpoint(
    path: Path, record: Record, encoder: keras.Model, variables: list[npt.NDArray[np.generic]], history: list[Moment]
) -> Run:
    """Write a checkpoint; a kill at any instant leaves the former one or this one.

    run.json comes last and names the progress; `variables` carries its own step, so that a
    checkpoint newer than run.json resumes from where it really is.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **{f"v{index}": value for index, value in enumerate(variables)})  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder) / ENCODER)
        model = (Path(folder) / ENCODER).read_bytes()
    write_atomically(path / CHECKPOINT, buffer.getvalue())
    write_atomically(path / ENCODER, model)
    write_atomically(path / HISTORY, b"".join(msgspec.json.encode(moment) + b"\n" for moment in history))
    write_atomically(path / RECORD, _encoded(record) + b"\n")
    return Run(path, record)


def _encoded(record: Record) -> bytes:
    try:
        return msgspec.json.format(msgspec.json.encode(record), indent=1)
    except UnicodeEncodeError:  # of a folder or a person: kept as it is, for --resume and export have to find it
        return json.dumps(msgspec.to_builtins(record), indent=1).encode()


def _decoded(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:  # it refuses what stands for bytes that are no UTF-8
        return json.loads(content)
