"""Evaluate an exported variant through the device's runtime: one-shot tasks and verification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.drift_section import Change
from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import has_content, scale
from edge_oneshot_device.image_files import PassedOver
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.bounds import mean_interval
from edge_oneshot_export.judging.cells import Integers, largest_ways
from edge_oneshot_export.judging.metrics import proportion_interval
from edge_oneshot_export.judging.protocols import (
    PAIR_LIMIT,
    Episodes,
    LabelledImages,
    genuine_and_impostor,
    one_shot,
    one_shot_episodes,
)
from edge_oneshot_export.judging.rankings import Accuracy, accuracies, rank
from edge_oneshot_export.judging.verification import Linearised, RocPoint, rate_changes, verification_rates

Run = tuple[NDArray[np.uint8], NDArray[np.uint8], Integers]
"""Support images (n, h, w, c), queries (q, h, w, c), and for each query the position of its answer in the support."""

OneShotProtocol = Literal["within-alphabet", "random"]
Progress = Callable[[int], None]

_HIGHEST: Final = PAIR_LIMIT // 2
"""Number of the highest impostor scores that are kept of millions; the others of `PAIR_LIMIT` are a sample."""


@dataclass(frozen=True, slots=True)
class OneShotResult:
    """Accuracy on N-way one-shot tasks.

    Attributes:
        protocol: ``lake``, ``within-alphabet`` or ``random``.
        ways: N.
        episodes: Number of tasks; for a range of N the number of rankings that stand for all tasks.
        accuracy, error: Shares of the tasks that are solved and not solved.
        interval: 95 % interval of the accuracy (Wilson). Drawn tasks are clustered by the identity of the query, see
            `bounds.mean_interval`; given tasks are independent.
        alphabets: Names of the groups that the tasks come from.
        seed: Random seed of the tasks; None for given tasks.
        variant, runtime, fingerprint: The encoder that made the embeddings.
        chance: Accuracy of guessing.
        pixel_accuracy: Accuracy of the nearest neighbour on pixels, on the same tasks.
        passed_over: Files of the data folder that were skipped.
    """

    protocol: str
    ways: int
    episodes: int
    accuracy: float
    error: float
    interval: tuple[float, float]
    alphabets: tuple[str, ...]
    seed: int | None
    variant: str
    runtime: str
    fingerprint: str
    chance: float
    pixel_accuracy: float
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """Verification on all pairs of images, with one template per person.

    Photos that the quality gate of a bundle for faces refuses are left out, as at the door; `ungated` has them too.

    Attributes:
        eer: Equal error rate.
        tpr_at_fpr: Share of genuine pairs that are accepted at a false positive rate of at most the key.
        intervals: 95 % intervals of ``eer`` and of each key of `tpr_at_fpr`, over other people.
        far_upper_95: For each key of `tpr_at_fpr`, the upper 95 % bound of the true false accept rate of a threshold
            that is fitted to such people; None where there are too few people.
        roc: The ROC, from strict to lenient, in about twenty points per decade.
        genuine, impostor: Number of pairs of each kind.
        people: Number of identities.
        images: Number of images.
        failures_to_acquire: Number of images that were left out because they have no content or the gate refuses them.
        failures_by_reason: The number of these by reason.
        variant, runtime, fingerprint: The encoder that made the embeddings.
        passed_over: Files of the data folder that were skipped.
        beside: The same of another variant on the same images.
        changes: For ``eer`` and each key of `tpr_at_fpr` that the people support, what this variant changes against
            `beside`, with a paired interval; see `edge_oneshot_export.judging.verification.rate_changes`.
        ungated: The same with the photos that the quality gate refuses; None where it refuses none.
    """

    eer: float
    tpr_at_fpr: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    far_upper_95: dict[str, float | None]
    roc: tuple[RocPoint, ...]
    genuine: int
    impostor: int
    people: int
    images: int
    failures_to_acquire: int
    failures_by_reason: dict[str, int]
    variant: str
    runtime: str
    fingerprint: str
    passed_over: tuple[PassedOver, ...] = ()
    beside: "VerificationResult | None" = None
    changes: dict[str, Change] | None = None
    ungated: "VerificationResult | None" = None


def evaluate_runs(
    encoder: Encoder, runs: Sequence[Run], *, alphabets: Sequence[str] = (), progress: Progress | None = None
) -> OneShotResult:
    """Accuracy on given one-shot tasks, such as the 20 official within-alphabet runs (Lake et al. 2015).

    Args:
        encoder: The variant on its runtime.
        runs: At least one run; all have the same number of support images.
        alphabets: Names of the alphabets, for the result.
        progress: Called with the number of images embedded so far.

    Returns:
        The accuracy over all queries.

    Raises:
        ModelError: The runs have different sizes, or there is none.
    """
    ways = {len(support) for support, _, _ in runs}
    if len(ways) != 1:
        message = f"runs with {', '.join(map(str, sorted(ways))) or 'no'} support images: all need the same number"
        raise ModelError(message, reason="bad_protocol")
    images, supports, queries, answers = [], [], [], []
    start = 0
    for support, query, answer in runs:
        places = np.asarray(answer, dtype=np.int64)
        if places.shape != (len(query),) or not ((places >= 0) & (places < len(support))).all():
            message = f"answers of a run must be {len(query)} places among its {len(support)} support images"
            raise ModelError(message, reason="bad_protocol")
        images += [support, query]
        supports.append(np.tile(start + np.arange(len(support)), (len(query), 1)))
        queries.append(start + len(support) + np.arange(len(query)))
        answers.append(places)
        start += len(support) + len(query)
    episodes = Episodes(np.concatenate(supports), np.concatenate(queries), np.concatenate(answers))
    pixels = np.concatenate(images)
    embeddings = encoder.embed_many(pixels, progress)
    correct = one_shot(embeddings, episodes, encoder.embedding.metric)
    interval = proportion_interval(int(correct.sum()), len(correct))
    found = Accuracy(episodes.support.shape[1], len(correct), float(correct.mean()), interval)
    by_pixels = float(one_shot(_as_vectors(encoder, pixels), episodes, "euclidean").mean())
    return _one_shot_result(encoder, "lake", found, by_pixels, alphabets, None)


def evaluate_episodes(
    encoder: Encoder,
    people: LabelledImages,
    *,
    protocol: OneShotProtocol,
    ways: Sequence[int],
    episodes: int,
    seed: int,
    progress: Progress | None = None,
) -> list[OneShotResult]:
    """Accuracy on N-way one-shot episodes, for each N; every image is embedded once.

    Args:
        encoder: The variant on its runtime.
        people: Images of identities that the encoder was not trained on.
        protocol: ``within-alphabet``: all of one group, the support by one drawer and the query by another.
            ``random``: from all identities, by any drawer. This is far easier; never compare one with the other.
        ways: The values of N.
        episodes: Tasks for each N.
        seed: Random seed of the tasks.
        progress: Called with the number of images embedded so far.

    Returns:
        The accuracy for each N.

    Raises:
        ModelError: No group is large enough, or ``within-alphabet`` has no groups.
    """
    groups, drawers = _protocol_labels(protocol, people)
    drawn = [one_shot_episodes(people.labels, n, episodes, seed, groups=groups, drawers=drawers) for n in ways]
    embeddings = encoder.embed_many(people.images, progress)
    vectors = _as_vectors(encoder, people.images)
    identities = np.unique(people.labels, return_inverse=True)[1]
    results = []
    for n, tasks in zip(ways, drawn, strict=True):
        correct = one_shot(embeddings, tasks, encoder.embedding.metric).astype(np.float64)
        found = Accuracy(n, episodes, float(correct.mean()), mean_interval(correct, identities[tasks.query]))
        by_pixels = float(one_shot(vectors, tasks, "euclidean").mean())
        results.append(_one_shot_result(encoder, protocol, found, by_pixels, people.group_names, seed))
    return results


def evaluate_range(
    encoder: Encoder,
    people: LabelledImages,
    *,
    protocol: OneShotProtocol,
    lowest: int,
    highest: int | None,
    seed: int,
    progress: Progress | None = None,
) -> list[OneShotResult]:
    """Accuracy on all N-way one-shot tasks for every N of a range, from one ranking of each query.

    Args:
        encoder: The variant on its runtime.
        people: Images of identities that the encoder was not trained on.
        protocol: As `evaluate_episodes` takes it.
        lowest: The smallest N, at least 2.
        highest: The largest N; None for the largest that there are tasks of.
        seed: Random seed of the supports, where one drawer made several images of an identity.
        progress: Called with the number of images embedded so far.

    Returns:
        The accuracy for each N.

    Raises:
        ModelError: No group is large enough, or ``within-alphabet`` has no groups.
    """
    groups, drawers = _protocol_labels(protocol, people)
    possible = largest_ways(people.labels, groups=groups, drawers=drawers)
    last = possible if highest is None else highest
    if not 2 <= lowest <= last <= possible:
        wanted = f"{lowest}-way" if highest is None else f"{lowest}- to {highest}-way"
        allowed = f"2 to {possible} ways; take a range within" if possible >= 2 else "none: give more images"
        raise ModelError(f"{wanted} tasks: the data allow {allowed}", reason="too_few_identities")
    vectors = (encoder.embed_many(people.images, progress), _as_vectors(encoder, people.images))
    metrics: tuple[Metric, Metric] = (encoder.embedding.metric, "euclidean")
    found, by_pixels = (
        accuracies(rank(rows, people.labels, metric, seed=seed, groups=groups, drawers=drawers), lowest, last)
        for rows, metric in zip(vectors, metrics, strict=True)
    )
    return [
        _one_shot_result(encoder, protocol, one, pixels.share, people.group_names, seed)
        for one, pixels in zip(found, by_pixels, strict=True)
    ]


def evaluate_verification(
    encoder: Encoder,
    people: LabelledImages,
    *,
    beside: Encoder | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> VerificationResult:
    """Error rates over all pairs of images, with and without a quality gate where the images come with its faults.

    Of millions of impostor pairs the highest scores are kept and a sample of the rest, so that the rates are those of
    all pairs.

    Args:
        encoder: The variant on its runtime.
        people: Images of identities that the encoder was not trained on. An image with content and a fault is one that
            the quality gate refuses.
        beside: Another variant, to compare with.
        seed: Random seed of the sample of pairs and of the halvings of the people.
        progress: Called with the number of images embedded so far.

    Returns:
        The error rates.

    Raises:
        ModelError: There is no genuine or no impostor pair.
    """
    shown = has_content(people.images, encoder.input)
    faults = people.faults or (None,) * len(shown)
    passed = shown & np.array([fault is None for fault in faults], bool)
    _require_pairs(people.labels[passed])
    both = (encoder,) if beside is None else (encoder, beside)
    rows = [_embedded(one, people.images, shown, progress) for one in both]
    result = _verified(both, rows, people, passed, seed)
    if passed.all() or (passed == shown).all():
        return result
    return replace(result, ungated=_verified(both, rows, people, shown, seed))


def _embedded(
    encoder: Encoder, images: NDArray[np.uint8], shown: NDArray[np.bool_], progress: Progress | None
) -> NDArray[np.float32]:
    """The embeddings (n, d) of images (n, h, w, c) where they show something, else zeros."""
    rows = np.zeros((len(images), encoder.embedding.size), np.float32)
    rows[shown] = encoder.embed_many(images[shown], progress)
    return rows


def _verified(
    encoders: Sequence[Encoder],
    embedded: Sequence[NDArray[np.float32]],
    people: LabelledImages,
    used: NDArray[np.bool_],
    seed: int,
) -> VerificationResult:
    """The result of the first encoder over the images that are used, with the second beside it if there is one."""
    identities, labels = np.unique(people.labels[used], return_inverse=True)
    results, linear = [], []
    for encoder, rows in zip(encoders, embedded, strict=True):
        metric = encoder.embedding.metric
        pairs = genuine_and_impostor(rows[used], labels, metric, seed=seed, highest=_HIGHEST)
        rates = verification_rates(pairs, labels, seed=seed)
        if len(encoders) > 1:
            linear.append(Linearised.of(pairs, labels))
        results.append(
            VerificationResult(
                eer=rates.eer,
                tpr_at_fpr=rates.tpr_at_fpr,
                intervals=rates.intervals,
                far_upper_95=rates.far_upper_95,
                roc=rates.roc,
                genuine=len(pairs.genuine),
                impostor=pairs.impostors,
                people=len(identities),
                images=len(labels),
                failures_to_acquire=int((~used).sum()),
                failures_by_reason=people.count_faults(np.flatnonzero(~used)),
                variant=encoder.variant,
                runtime=encoder.runtime,
                fingerprint=encoder.fingerprint,
            )
        )
    if len(results) == 1:
        return results[0]
    return replace(results[0], beside=results[1], changes=rate_changes(linear[1], linear[0]))


def _require_pairs(labels: Integers) -> None:
    people = len(np.unique(labels))
    if people < 2 or len(labels) == people:
        message = f"verification needs two identities and two images of one, got {len(labels)} usable images of"
        raise ModelError(f"{message} {people} identities: give more images", reason="too_few_people")


def _protocol_labels(protocol: OneShotProtocol, people: LabelledImages) -> tuple[Integers | None, Integers | None]:
    """The groups and drawers that a protocol keeps apart."""
    if protocol == "random":
        return None, None
    if people.groups is None:
        raise ModelError("within-alphabet episodes need the group of each image", reason="bad_protocol")
    return people.groups, people.drawers


def _as_vectors(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return scale(images, encoder.input).reshape(len(images), -1)


def _one_shot_result(
    encoder: Encoder,
    protocol: str,
    found: Accuracy,
    pixel_accuracy: float,
    alphabets: Sequence[str],
    seed: int | None,
) -> OneShotResult:
    return OneShotResult(
        protocol=protocol,
        ways=found.ways,
        episodes=found.tasks,
        accuracy=found.share,
        error=round(1.0 - found.share, 12),
        interval=found.interval,
        alphabets=tuple(alphabets),
        seed=seed,
        variant=encoder.variant,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
        chance=1 / found.ways,
        pixel_accuracy=pixel_accuracy,
    )
