"""Judging a bundle: the exported file, through the device runtime, on data it was not trained on."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.lfw import load_lfw
from edge_oneshot.data.loading import is_named, load_data
from edge_oneshot.data.omniglot import has_evaluation, load_lake_runs
from edge_oneshot.errors import DataError
from edge_oneshot.ways import WaysRange
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoding.trial import try_variant
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_export.judging.evaluation import (
    OneShotResult,
    VerificationResult,
    evaluate_episodes,
    evaluate_range,
    evaluate_runs,
    evaluate_verification,
)
from edge_oneshot_export.judging.folds import FoldsResult, evaluate_folds
from edge_oneshot_export.judging.protocols import LabelledImages

Protocol = Literal["lake", "within-alphabet", "random", "verification", "lfw"]
Progress = Callable[[str, int], None]
PROTOCOLS: tuple[Protocol, ...] = ("lake", "within-alphabet", "random", "verification", "lfw")


def evaluate(
    bundle: str | Path,
    data: str,
    protocol: Protocol,
    *,
    ways: Sequence[int] | WaysRange = (5, 20),
    episodes: int = 2000,
    seed: int = 0,
    variant: str = "int8",
    runtime: str | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[OneShotResult] | VerificationResult | FoldsResult:
    """Judge a bundle's variant on groups (alphabets, people) that it was not trained on.

    Args:
        bundle: ``NAME.oneshot``.
        data: ``omniglot``, ``glyphs`` or a folder. Omniglot's evaluation alphabets are taken
            when they are there, else those of the background that the encoder did not train on.
        protocol: ``lake``: the official 20 runs of the 20-way task within an alphabet.
            ``within-alphabet``, ``random``: episodes by two drawers, see `one_shot_episodes`.
            ``verification``: all pairs of images. ``lfw``: the ten folds of pairs of Labeled Faces in
            the Wild, as an encoder is judged that was trained on other photos.
        ways: N of the episodes; the official runs are 20-way. For a range no episodes are drawn:
            one ranking of each query gives the accuracy at every N.
        episodes: Episodes for each N.
        seed: Draws the episodes, the supports of a range, the sample of pairs and the halvings of the people.
        variant: Of the bundle.
        runtime: See `edge_oneshot_device.encoding.runtimes`.
        data_dir: Where Omniglot lies.
        progress: Called with the step at hand and a count of images, 0 where nothing is counted.

    Raises:
        DataError: The data is missing, or the encoder was trained on all of it.
        InputError, IntegrityError: The bundle or the variant cannot be opened.
        ModelError: The data cannot give such episodes.
    """
    say = progress or (lambda _step, _count: None)
    say("opening the bundle", 0)
    opened = Bundle.open(bundle)
    try_variant(opened, variant, runtime)
    encoder = Encoder.open(opened, variant, runtime=runtime)

    def embedded(count: int) -> None:
        say("judging", count)

    if protocol == "lake":
        if data != "omniglot":
            raise DataError(
                f"the lake protocol is Omniglot's, not {data}'s; say --data omniglot", reason="bad_protocol"
            )
        say("loading the data", 0)
        runs = [(run.support, run.queries, run.answers) for run in load_lake_runs(encoder.input, data_dir)]
        return [evaluate_runs(encoder, runs, progress=embedded)]
    if protocol == "lfw":
        return _evaluate_lfw(encoder, data, say, embedded)
    say("loading the data", 0)
    unseen, _ = load_unseen(data, opened.manifest, data_dir, faces=encoder.faces)
    people = LabelledImages(unseen.images, unseen.labels, unseen.identities, unseen.faults)
    if protocol == "verification":
        return evaluate_verification(encoder, people, seed=seed, progress=embedded)
    if protocol == "within-alphabet" and unseen.drawers is None:
        raise DataError(f"{data}: a folder of folders has no alphabets; say --protocol random", reason="bad_protocol")
    if isinstance(ways, WaysRange):
        return evaluate_range(
            encoder,
            people,
            protocol=protocol,
            lowest=ways.lowest,
            highest=ways.highest,
            seed=seed,
            groups=unseen.groups,
            drawers=unseen.drawers,
            alphabets=unseen.group_names,
            progress=embedded,
        )
    return evaluate_episodes(
        encoder,
        people,
        protocol=protocol,
        ways=ways,
        episodes=episodes,
        seed=seed,
        groups=unseen.groups,
        drawers=unseen.drawers,
        alphabets=unseen.group_names,
        progress=embedded,
    )


def _evaluate_lfw(encoder: Encoder, data: str, say: Progress, embedded: Callable[[int], None]) -> FoldsResult:
    if is_named(data):
        raise DataError(f"{data}: drawings; the lfw protocol needs the folder of LFW's photos", reason="bad_protocol")
    loaded = load_lfw(
        Path(data),
        encoder.input,
        faces=encoder.faces,
        progress=lambda done, _total: say("loading the photos", done),
    )
    return evaluate_folds(
        encoder,
        loaded.images,
        loaded.shown,
        loaded.pairs,
        loaded.same,
        loaded.folds,
        people=loaded.people,
        refused=loaded.refused,
        progress=embedded,
    )


def handful(results: Sequence[OneShotResult]) -> list[OneShotResult]:
    """All of a few results; of many N those that are worth a line."""
    if len(results) <= 10:
        return list(results)
    return [one for one in results if one.ways in (2, 5, 10, 20, 50, 100) or one in (results[0], results[-1])]


def load_unseen(
    data: str, manifest: Manifest, data_dir: Path | None = None, *, faces: FaceFinder | None = None
) -> tuple[Dataset, tuple[str, ...]]:
    """The groups of a data set that a bundle's encoder was not trained on, and the names of those left out.

    With `faces` they are photos of people, see `load_data`.

    Raises:
        DataError: It was trained on all of them.
    """
    if faces is None and data == "omniglot" and has_evaluation(data_dir):
        return load_data(data, manifest.input, data_dir=data_dir, subset="evaluation"), ()
    everything = load_data(data, manifest.input, data_dir=data_dir, faces=faces)
    names = published_names(data, everything.group_names)
    trained = set(manifest.provenance.trained_on)
    seen = [group for group, name in zip(everything.group_names, names, strict=True) if name in trained]
    if len(seen) == len(everything.group_names):
        raise DataError(f"{data}: the encoder was trained on all of it; give other data", reason="all_seen")
    return everything.without(seen) if seen else everything, tuple(seen)


def published_names(name: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Group names as a bundle may carry them: alphabets in clear, people of a folder as digests."""
    if is_named(name):
        return tuple(groups)
    # of the name's own bytes, also where they are no UTF-8
    digests = (hashlib.sha256(group.encode(errors="surrogateescape")).hexdigest() for group in groups)
    return tuple(f"sha256:{digest}" for digest in digests)


def published_data(data: str) -> str:
    """What a bundle may say of where its images come from: no path of anybody's machine."""
    return data if is_named(data) else "a folder"
