"""The summary of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.runs import Run, RunRecord


@dataclass(frozen=True, slots=True)
class SkippedPhoto:
    """A photo or a person left out of training, and the reason, see `edge_oneshot.training.images`."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """The summary of a run, as ``train --json`` prints it.

    Attributes:
        seconds: Duration of the training, validation included.
        accuracy: One-shot accuracy of the Keras encoder on held-out groups, 0..1, `ways`-way; where there are
            alphabets, within an alphabet and by random pairs of drawers.
        interval: 95 % confidence interval of `accuracy`.
        skipped: Photos without a face to use, and people of whom too few are left.
        warning: A reason why the encoder may be of no use, such as a training that was too short; or None.
    """

    run: str
    data: str
    finished: bool
    images: int
    seconds: float
    images_per_second: float
    loss: float
    ways: int
    accuracy: float
    interval: tuple[float, float]
    held_out: tuple[str, ...]
    compiler: str
    seed: int
    skipped: tuple[SkippedPhoto, ...]
    warning: str | None


def summarise(run: Run, skipped: Sequence[SkippedPhoto] = ()) -> TrainingSummary:
    """The summary of a run.

    Args:
        run: With one checkpoint at least.
        skipped: Photos and people left out of training.

    Raises:
        TrainingError: Reason ``run_unfinished``: there is no checkpoint yet.
    """
    record = run.record
    history = run.history()
    if not history:
        raise TrainingError(f"{run.path}: no checkpoint yet; resume it with --resume", reason="run_unfinished")
    return TrainingSummary(
        run=str(run.path),
        data=record.settings.data,
        finished=record.finished,
        images=record.images_seen,
        seconds=record.seconds,
        images_per_second=record.images_seen / max(record.seconds, 1e-9),
        loss=history[-1].loss,
        ways=history[-1].ways,
        accuracy=history[-1].accuracy,
        interval=history[-1].interval,
        held_out=record.held_out,
        compiler=record.compiler,
        seed=record.settings.seed,
        skipped=tuple(skipped),
        warning=_too_short(record),
    )


def _too_short(record: RunRecord) -> str | None:
    if not record.finished or record.images_seen >= record.classes:
        return None
    seen = f"{record.images_seen:,} images, fewer than its {record.classes:,} classes"
    return f"the training was too short: it saw {seen}; train again with more --minutes or --images"
