"""The measurements that the report shows of a bundle, made through the device's runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.demo.subject import Fresh
from edge_oneshot.report.report import EmbeddingMap, Scores, Task, VariantRow
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_device.matching.thresholds import calibration_for, similarity
from edge_oneshot_device.measuring.bench import bench
from edge_oneshot_device.measuring.options import BenchOptions
from edge_oneshot_export.judging.evaluation import OneShotResult, evaluate_episodes, evaluate_verification
from edge_oneshot_export.judging.protocols import LabelledImages, genuine_and_impostor, one_shot, one_shot_episodes

EPISODES: Final = 2000
MOST_WAYS: Final = 20
"""Largest N of tasks within an alphabet, as the literature on Omniglot reports it."""

_WAYS: Final = (2, 5, 10)
_MAPPED: Final = 12
_TIMED: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class BundleMeasurements:
    """What was measured of a bundle.

    Attributes:
        runtime: Of the headline variant.
        accuracy: Of the headline variant against N, on held-out identities.
        scores: Of the headline variant, on identities that neither training nor calibration saw.
        embedding_map: Of the headline variant.
        tasks: A solved and a failed one-shot task of the headline variant.
        variants: One row per variant of the bundle, the headline variant first.
    """

    runtime: str
    accuracy: tuple[OneShotResult, ...]
    scores: Scores
    embedding_map: EmbeddingMap
    tasks: tuple[Task, ...]
    variants: tuple[VariantRow, ...]


def measure_bundle(
    bundle: Bundle,
    variant: str,
    unseen: Dataset,
    fresh: Fresh,
    *,
    target_far: float,
    seed: int,
    progress: Callable[[str], None],
) -> BundleMeasurements:
    """Measure the headline variant in every way that the report shows, and each variant's accuracy and latency.

    Args:
        bundle: The bundle.
        variant: The headline variant.
        unseen: Identities that the encoder was not trained on.
        fresh: Identities that calibration did not see either.
        target_far: The false accept rate whose threshold is shown.
        seed: Random seed of the tasks.
        progress: Called with each step's name as it begins.
    """
    encoder = Encoder.open(bundle, variant)
    calibration = calibration_for(bundle.manifest, variant, 1)
    accuracy = one_shot_curves(encoder, unseen, seed=seed)
    progress("scores of pairs")
    source = f"All pairs of {fresh.source}, unseen in training and calibration."
    pairs = verification_scores(encoder, calibration, fresh.people, target_far=target_far, data=source, seed=seed)
    progress("a map of the embeddings")
    names = sorted((one.name for one in bundle.manifest.variants), key=lambda name: name != variant)
    return BundleMeasurements(
        runtime=encoder.runtime,
        accuracy=accuracy,
        scores=pairs,
        embedding_map=embedding_map(encoder, unseen, seed=seed),
        tasks=tasks(encoder, calibration, unseen, seed=seed),
        variants=measure_variants(bundle, tuple(names), unseen, seed=seed, progress=progress),
    )


def one_shot_curves(encoder: Encoder, data: Dataset, *, seed: int) -> tuple[OneShotResult, ...]:
    """Accuracy against N: within alphabets where the data has them, and among all identities.

    Args:
        encoder: The variant on its runtime.
        data: Identities that the encoder was not trained on.
        seed: Random seed of the tasks.

    Returns:
        By protocol and rising N.
    """
    found: list[OneShotResult] = []
    everybody = len(data.identities)
    if data.drawers is not None:
        ways = _headline_ways(data)
        found += _evaluate(encoder, data, [n for n in _WAYS if n < ways] + [ways], seed, within=True)
    ways_of_all = [n for n in (*_WAYS, MOST_WAYS) if n < everybody] + [everybody]
    found += _evaluate(encoder, data, ways_of_all, seed, within=False)
    return tuple(found)


def measure_variants(
    bundle: Bundle,
    variants: tuple[str, ...],
    data: Dataset,
    *,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[VariantRow, ...]:
    """One-shot accuracy, drift and latency of each variant; all solve the same tasks.

    Args:
        bundle: The bundle.
        variants: Names of its variants.
        data: Identities that the encoder was not trained on.
        seed: Random seed of the tasks.
        progress: Called with the name of each variant as its turn comes.
    """
    rows = []
    for name in variants:
        if progress is not None:
            progress(name)
        encoder = Encoder.open(bundle, name)
        accuracy = _evaluate(encoder, data, [_headline_ways(data)], seed, within=data.drawers is not None)
        model = next(variant for variant in bundle.manifest.variants if variant.name == name)
        assert model.drift is not None
        latency = bench(bundle, BenchOptions(variant=name, runs=_TIMED))
        rows.append(VariantRow(name, encoder.runtime, model.bytes, model.drift, accuracy[0], latency))
    return tuple(rows)


def embedding_map(encoder: Encoder, data: Dataset, *, seed: int) -> EmbeddingMap:
    """The embeddings of some identities projected to a plane by t-SNE (van der Maaten, Hinton 2008).

    Args:
        encoder: The variant on its runtime.
        data: Identities that the encoder was not trained on.
        seed: Random seed of the projection.
    """
    from sklearn.manifold import TSNE

    chosen = np.unique(np.linspace(0, len(data.identities) - 1, _MAPPED).astype(int))
    mask = np.isin(data.labels, chosen)
    images, labels = data.images[mask], np.searchsorted(chosen, data.labels[mask])
    perplexity = min(15.0, (len(images) - 1) / 3)
    # the exact method is faster for so few images, and gives the same on any number of cores
    projection = TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=seed)
    points = projection.fit_transform(encoder.embed_many(images)).astype(np.float64)
    method = (
        f"projected from {encoder.embedding.size} dimensions to two by t-SNE (perplexity {perplexity:g}, seed {seed})"
    )
    return EmbeddingMap(images, labels, tuple(data.identities[label] for label in chosen), points, method)


def tasks(encoder: Encoder, calibration: Calibration, data: Dataset, *, seed: int) -> tuple[Task, ...]:
    """The first one-shot task that the encoder solves, and the first that it fails.

    Args:
        encoder: The variant on its runtime.
        calibration: Turns scores into degrees of similarity.
        data: Identities that the encoder was not trained on.
        seed: Random seed of the tasks.
    """
    within = data.drawers is not None
    episodes = one_shot_episodes(
        data.labels,
        _headline_ways(data),
        EPISODES,
        seed,
        groups=data.groups if within else None,
        drawers=data.drawers if within else None,
    )
    embeddings = encoder.embed_many(data.images)
    metric = encoder.embedding.metric
    correct = one_shot(embeddings, episodes, metric)
    found = []
    for outcome in (True, False):
        if not (correct == outcome).any():
            continue
        number = int((correct == outcome).argmax())
        title = f"task {number + 1:,} of {EPISODES:,}"
        support, query = episodes.support[number], episodes.query[number]
        alike = scores(embeddings[query], embeddings[support], metric)
        degrees = np.array([similarity(calibration, float(score)) for score in alike])
        answer = int(episodes.answer[number])
        found.append(Task(title, data.images[support], data.images[query], answer, alike, degrees))
    return tuple(found)


def verification_scores(
    encoder: Encoder, calibration: Calibration, people: LabelledImages, *, target_far: float, data: str, seed: int
) -> Scores:
    """Scores of all pairs of images, and the error rates.

    Args:
        encoder: The variant on its runtime.
        calibration: Gives the threshold and the degrees of similarity.
        people: The images.
        target_far: The false accept rate whose threshold is shown.
        data: Where the images come from, in words.
        seed: Random seed of the sample of pairs.
    """
    embeddings = encoder.embed_many(people.images)
    pairs = genuine_and_impostor(embeddings, people.labels, encoder.embedding.metric, seed=seed)
    verification = evaluate_verification(encoder, people, seed=seed)
    return Scores(pairs.genuine, pairs.impostor, calibration, encoder.embedding.metric, target_far, verification, data)


def _headline_ways(data: Dataset) -> int:
    if data.drawers is None:
        return min(MOST_WAYS, len(data.identities))
    sizes = [len(np.unique(data.labels[data.groups == group])) for group in range(len(data.group_names))]
    return min(MOST_WAYS, max(sizes))


def _evaluate(encoder: Encoder, data: Dataset, ways: list[int], seed: int, *, within: bool) -> list[OneShotResult]:
    return evaluate_episodes(
        encoder,
        data.labelled(),
        protocol="within-alphabet" if within else "random",
        ways=ways,
        episodes=EPISODES,
        seed=seed,
    )
