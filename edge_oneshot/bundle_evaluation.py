"""Evaluate a bundle: the exported file, through the device's runtime, on data that its encoder was not trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from edge_oneshot.bundle_options import EvaluateOptions, WaysRange
from edge_oneshot.data.archives import Unreadable
from edge_oneshot.data.lfw import load_lfw
from edge_oneshot.data.loading import is_named, kind_of
from edge_oneshot.data.omniglot import load_lake_runs
from edge_oneshot.errors import DataError
from edge_oneshot.unseen_data import load_unseen
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.encoding.options import choose_variant
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_export.judging.evaluation import (
    OneShotProtocol,
    OneShotResult,
    VerificationResult,
    evaluate_episodes,
    evaluate_range,
    evaluate_runs,
    evaluate_verification,
)
from edge_oneshot_export.judging.folds import FoldsResult, evaluate_folds
from edge_oneshot_export.judging.protocols import LabelledImages

Progress = Callable[[str, int], None]
Result = list[OneShotResult] | VerificationResult | FoldsResult


def evaluate(
    bundle: str | Path,
    data: str,
    options: EvaluateOptions,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    unreadable: Unreadable | None = None,
) -> Result:
    """Evaluate a bundle's variant on groups (alphabets, people) that its encoder was not trained on.

    Args:
        bundle: ``NAME.oneshot``.
        data: ``omniglot``, ``glyphs`` or a folder. Of Omniglot the evaluation alphabets are taken if they are there,
            else those of the background set that the encoder was not trained on.
        options: Protocol and variant. ``lake``: the official 20 runs of the 20-way task within an alphabet.
            ``within-alphabet``, ``random``: episodes, see `one_shot_episodes`; for a range of N no episodes are drawn,
            but one ranking of each query gives the accuracy at every N. ``verification``: all pairs of images.
            ``lfw``: the ten folds of pairs of Labeled Faces in the Wild, in the protocol for encoders that were
            trained on other photos.
        data_dir: Folder of Omniglot's archives.
        progress: Called with the current step and a number of images, 0 where nothing is counted.
        unreadable: Called with each image of a folder that cannot be read, and the reason; it is left out, except of
            LFW. Without it such an image is an error.

    Returns:
        A result for each N, the error rates of verification, or the accuracy over folds.

    Raises:
        DataError: The data is missing, or the encoder was trained on all of it.
        InputError: The bundle or the variant cannot be opened.
        IntegrityError: The bundle is damaged.
        ModelError: The data cannot give such episodes.
    """
    say = progress or (lambda _step, _count: None)
    say("opening the bundle", 0)
    opened = Bundle.open(bundle)
    if options.beside is not None and options.protocol != "verification":
        raise DataError(f"--beside is for --protocol verification, not {options.protocol}", reason="bad_protocol")
    encoder = _open(opened, choose_variant(opened.manifest, options.variant), options.runtime)
    if options.protocol == "lake":
        return _evaluate_lake(encoder, data, data_dir, say)
    if options.protocol == "lfw":
        return _evaluate_lfw(encoder, data, say)
    say("loading the data", 0)
    unseen, _ = load_unseen(
        data,
        opened.manifest,
        data_dir,
        faces=encoder.faces,
        unreadable=unreadable,
        gate=options.protocol != "verification",  # which is judged with and without it
        progress=lambda done, _total: say("loading the data", done),
    )
    people = unseen.labelled()
    if options.protocol == "verification":
        beside = None if options.beside is None else _open(opened, options.beside, None)
        return evaluate_verification(encoder, people, beside=beside, seed=options.seed, progress=_embedding(say))
    if options.protocol == "within-alphabet" and people.drawers is None:
        raise DataError(f"{data}: a folder of folders has no alphabets; say --protocol random", reason="bad_protocol")
    return _evaluate_one_shot(encoder, people, options.protocol, options, say)


def _open(bundle: Bundle, variant: str, runtime: str | None) -> Encoder:
    try_variant(bundle, variant, runtime)
    return Encoder.open(bundle, variant, runtime=runtime)


def _evaluate_one_shot(
    encoder: Encoder, people: LabelledImages, protocol: OneShotProtocol, options: EvaluateOptions, say: Progress
) -> list[OneShotResult]:
    ways, progress = options.ways, _embedding(say)
    if isinstance(ways, WaysRange):
        return evaluate_range(
            encoder,
            people,
            protocol=protocol,
            lowest=ways.lowest,
            highest=ways.highest,
            seed=options.seed,
            progress=progress,
        )
    return evaluate_episodes(
        encoder,
        people,
        protocol=protocol,
        ways=ways,
        episodes=options.episodes,
        seed=options.seed,
        progress=progress,
    )


def _evaluate_lake(encoder: Encoder, data: str, data_dir: Path | None, say: Progress) -> list[OneShotResult]:
    if data != "omniglot":
        raise DataError(f"the lake protocol is Omniglot's, not {data}'s; say --data omniglot", reason="bad_protocol")
    say("loading the data", 0)
    runs = [(run.support, run.queries, run.answers) for run in load_lake_runs(encoder.input, data_dir)]
    return [evaluate_runs(encoder, runs, progress=_embedding(say))]


def _evaluate_lfw(encoder: Encoder, data: str, say: Progress) -> FoldsResult:
    if is_named(data):
        raise DataError(
            f"{data}: {kind_of(data)}; the lfw protocol needs the folder of LFW's photos", reason="bad_protocol"
        )
    pairs = load_lfw(
        Path(data),
        encoder.input,
        faces=encoder.faces,
        progress=lambda done, _total: say("loading the photos", done),
    )
    return evaluate_folds(encoder, pairs, progress=_embedding(say))


def _embedding(say: Progress) -> Callable[[int], None]:
    """Tell the number of images embedded so far."""
    return lambda count: say("judging", count)


def handful(results: Sequence[OneShotResult]) -> list[OneShotResult]:
    """All results if they are few; of many N those that are worth a line."""
    if len(results) <= 10:
        return list(results)
    return [one for one in results if one.ways in (2, 5, 10, 20, 50, 100) or one in (results[0], results[-1])]
