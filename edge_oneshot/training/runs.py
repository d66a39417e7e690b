"""A training run on disk: its settings, its progress, and the encoder that it made.

RUN/run.json        the record: data, settings, alphabets, progress; written last
RUN/encoder.keras   the encoder, complete and usable after every checkpoint
RUN/checkpoint.npz  every variable of encoder, prototypes and optimizer, for --resume
RUN/history.jsonl   one line per checkpoint: images, seconds, loss, images/s, validation
"""

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import msgspec
import numpy as np
import numpy.typing as npt

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.nets import build_siamese
from edge_oneshot.training.options import Orientations, Recipe, Views
from edge_oneshot.training.run_folder import CHECKPOINT, ENCODER, HISTORY, RECORD
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.files import write_atomically

RECORD_FORMAT = 2

_ALWAYS_STATED = ("minutes", "images", "seed", "batch", "embedding", "net", "objective", "precision")
"""Settings with a default that every run of this format states: a record without one of them is damaged."""


class RunSettings(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The recipe of a run, with its data and with every default filled in; a run from before an option has its default.

    Attributes:
        data: glyphs, omniglot, both with a + between, or the folder's path.
    """

    data: str
    learning_rate: Annotated[float, msgspec.Meta(gt=0)]
    held_out: Annotated[int, msgspec.Meta(ge=1)]
    augment: str
    net: str
    embedding: int
    orientations: Orientations
    views: Views = 1


class Similarity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Logistic curve from the cosine of two embeddings to a degree of similarity in 0..1."""

    slope: float
    offset: float


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """run.json: settings and progress.

    Attributes:
        trained_on, held_out: Group names; no group is in both.
        compiler: The compiler that ran the step faster on this machine, kept for an exact resume.
        images_seen, seconds: Progress. The seconds are those since the first step, and since that of each resume;
            validation counts.
        finished: False after Ctrl-C or a crash, until --resume has finished the run.
        similarity: Fitted on the held-out groups when the training ended.
    """

    format: int
    version: str
    settings: RunSettings
    input: InputSection
    classes: int
    trained_on: tuple[str, ...]
    held_out: tuple[str, ...]
    compiler: Literal["graph", "xla"]
    images_seen: int
    seconds: float
    finished: bool
    similarity: Similarity | None


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history.jsonl: the figures of a checkpoint.

    Attributes:
        loss: Mean over the images since the checkpoint before.
        accuracy: One-shot accuracy on held-out groups, 0..1.
        interval: 95 % confidence interval of `accuracy`, see `edge_oneshot_export.judging.bounds.mean_interval`.
        ways: N of the one-shot tasks.
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
    record: RunRecord

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run folder.

        Raises:
            TrainingError: Reason ``no_run``, ``run_damaged`` or ``run_version``.
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
            plain = msgspec.convert(_decoded(content), dict[str, Any])
            version = plain.get("format")
            if version != RECORD_FORMAT:
                made_by = f"run format {version!r}, this version reads {RECORD_FORMAT}"
                raise TrainingError(f"{path}: made by another version ({made_by}); train again", reason="run_version")
            record = msgspec.convert(plain, RunRecord)
            for name in _ALWAYS_STATED:
                if name not in plain["settings"]:
                    raise msgspec.ValidationError(f"Object missing required field `{name}` - at `$.settings`")
            return cls(path, record)
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
        """The siamese model: two images, as for `encoder`, to a degree of similarity in 0..1.

        Raises:
            TrainingError: Reason ``run_unfinished``: the curve is fitted when the training ends.
        """
        if self.record.similarity is None:
            raise TrainingError(f"{self.path}: not finished; resume it with --resume", reason="run_unfinished")
        return build_siamese(self.encoder(), self.record.similarity.slope, self.record.similarity.offset)

    def history(self) -> list[HistoryEntry]:
        """The figures of the checkpoints, oldest first."""
        try:
            lines = (self.path / HISTORY).read_bytes().splitlines()
            return [msgspec.json.decode(line, type=HistoryEntry) for line in lines]
        except (OSError, msgspec.DecodeError) as error:
            raise TrainingError(f"{self.path}/{HISTORY}: {error}; train again", reason="run_damaged") from None

    def variables(self) -> list[npt.NDArray[np.generic]]:
        """The variables of the checkpoint, in the order in which `save_checkpoint` was given them."""
        try:
            with (self.path / CHECKPOINT).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return [stored[f"v{index}"] for index in range(len(stored.files))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{self.path}/{CHECKPOINT}: {error}; train again", reason="run_damaged") from None


def save_checkpoint(
    path: Path,
    record: RunRecord,
    encoder: keras.Model,
    variables: list[npt.NDArray[np.generic]],
    history: list[HistoryEntry],
) -> Run:
    """Write a checkpoint; a kill at any instant leaves a folder that can be resumed.

    run.json is written last. `variables` begins with the progress, so that a checkpoint that is newer than run.json
    resumes from its own step.

    Args:
        path: The run folder.
        record: The settings and the progress.
        encoder: What is exported.
        variables: What the training resumes from.
        history: The figures of all checkpoints so far.

    Returns:
        The run.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **{f"v{index}": value for index, value in enumerate(variables)})  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder) / ENCODER)
        model = (Path(folder) / ENCODER).read_bytes()
    write_atomically(path / CHECKPOINT, buffer.getvalue())
    write_atomically(path / ENCODER, model)
    write_atomically(path / HISTORY, b"".join(msgspec.json.encode(entry) + b"\n" for entry in history))
    write_atomically(path / RECORD, _encoded(record) + b"\n")
    return Run(path, record)


def _encoded(record: RunRecord) -> bytes:
    try:
        return msgspec.json.format(msgspec.json.encode(record), indent=1)
    except UnicodeEncodeError:  # a name of a folder or person that is not UTF-8: --resume and export need it unchanged
        return json.dumps(msgspec.to_builtins(record), indent=1).encode()


def _decoded(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:  # msgspec refuses the escapes that stand for bytes that are not UTF-8
        return json.loads(content)
