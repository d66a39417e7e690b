"""Judge an exported variant through the device's runtime: one-shot tasks and verification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.preprocessing import require_content, scale
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.metrics import crossing, eer, proportion_interval, tpr_at_fpr
from edge_oneshot_export.protocols import (
    Episodes,
    Integers,
    LabelledImages,
    Pairs,
    genuine_and_impostor,
    one_shot,
    one_shot_episodes,
)

Run = tuple[NDArray[np.uint8], NDArray[np.uint8], Integers]
"""Support images (n, h, w, c), queries (q, h, w, c), and for each query its place in the support."""

Progress = Callable[[int], None]

FALSE_POSITIVE_RATES: Final = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}

_RESAMPLES: Final = 200
_HIGHEST: Final = 200_000  # impostor pairs that the resamples look at one by one; of the others at some


@dataclass(frozen=True, slots=True)
class OneShotResult:
    """Accuracy on N-way one-shot tasks.

    Attributes:
        protocol: ``lake``, ``within-alphabet`` or ``random``.
        ways: N.
        episodes: Tasks.
        accuracy, error: Shares of the tasks solved and not.
        interval: 95 % interval of the accuracy (Wilson), the tasks taken as independent.
        alphabets: Where the characters come from.
        seed: What drew the tasks; None when they are given.
        variant, runtime, fingerprint: What made the embeddings.
        chance: Accuracy of guessing.
        pixel_accuracy: Accuracy of the nearest neighbour on pixels, on the same tasks.
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


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """Verification on all pairs of images, one template a person.

    Attributes:
        eer: Equal error rate.
        tpr_at_fpr: Share of genuine pairs accepted at a false positive rate of at most the key.
        intervals: 95 % intervals of ``eer`` and of each key of `tpr_at_fpr`: the 2.5th and
            97.5th percentile over resampled identities.
        genuine, impostor: Counts of pairs.
        people: Identities.
        failures_to_acquire: Images left out because they have no content.
        variant, runtime, fingerprint: What made the embeddings.
    """

    eer: float
    tpr_at_fpr: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    genuine: int
    impostor: int
    people: int
    failures_to_acquire: int
    variant: str
    runtime: str
    fingerprint: str


def evaluate_runs(
    encoder: Encoder, runs: Sequence[Run], *, alphabets: Sequence[str] = (), progress: Progress | None = None
) -> OneShotResult:
    """Accuracy on given one-shot tasks, such as the 20 official within-alphabet runs (Lake et al. 2015).

    Args:
        encoder: The variant on its runtime.
        runs: Each with the same number of support images; at least one.
        alphabets: Where they come from, for the result.
        progress: Called with the number of images embedded so far.

    Raises:
        ModelError: Runs of different sizes, or none.
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
    return _one_shot_result(encoder, "lake", pixels, embeddings, episodes, tuple(alphabets), None)


def evaluate_episodes(
    encoder: Encoder,
    people: LabelledImages,
    *,
    protocol: Literal["within-alphabet", "random"],
    ways: Sequence[int],
    episodes: int,
    seed: int,
    groups: Integers | None = None,
    drawers: Integers | None = None,
    alphabets: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[OneShotResult]:
    """Accuracy on N-way one-shot episodes, for each N; every image is embedded once.

    Args:
        encoder: The variant on its runtime.
        people: Images of identities that the encoder was not trained on.
        protocol: ``within-alphabet``: from one group, the support by one drawer, the query by
            another. ``random``: from all identities, by anybody; far easier, never to be
            compared with the former.
        ways: The values of N.
        episodes: Tasks for each N.
        seed: The same seed gives the same tasks.
        groups: Integers (n,), the alphabet of each image; within-alphabet needs it.
        drawers: Integers (n,), who drew each image, if known; unused by ``random``.
        alphabets: Names of the groups, for the result.
        progress: Called with the number of images embedded so far.

    Raises:
        ModelError: No group is large enough, or within-alphabet without groups.
    """
    if protocol == "random":
        groups = drawers = None
    elif groups is None:
        raise ModelError("within-alphabet episodes need the group of each image", reason="bad_protocol")
    drawn = [one_shot_episodes(people.labels, n, episodes, seed, groups=groups, drawers=drawers) for n in ways]
    embeddings = encoder.embed_many(people.images, progress)
    return [
        _one_shot_result(encoder, protocol, people.images, embeddings, tasks, tuple(alphabets), seed) for tasks in drawn
    ]


def evaluate_verification(
    encoder: Encoder, people: LabelledImages, *, seed: int = 0, progress: Progress | None = None
) -> VerificationResult:
    """Error rates over all pairs of images, a sample of the impostor pairs when they are millions.

    Args:
        encoder: The variant on its runtime.
        people: Images of identities that the encoder was not trained on.
        seed: Draws the sample and the resampled identities.
        progress: Called with the number of images embedded so far.

    Raises:
        ModelError: There is no genuine or no impostor pair.
    """
    usable = np.array([_has_content(encoder, pixels) for pixels in people.images], dtype=bool)
    identities, labels = np.unique(people.labels[usable], return_inverse=True)
    if len(identities) < 2 or len(labels) == len(identities):
        message = f"verification needs two identities and two images of one, got {len(labels)} usable images of"
        raise ModelError(f"{message} {len(identities)} identities: give more images", reason="too_few_people")
    embeddings = encoder.embed_many(people.images[usable], progress)
    pairs = genuine_and_impostor(embeddings, labels, encoder.embedding.metric, seed=seed)
    equal = eer(pairs.genuine, pairs.impostor)
    return VerificationResult(
        eer=equal,
        tpr_at_fpr={name: tpr_at_fpr(pairs.genuine, pairs.impostor, fpr) for name, fpr in FALSE_POSITIVE_RATES.items()},
        intervals=_intervals(pairs, labels, equal, np.random.default_rng(seed)),
        genuine=len(pairs.genuine),
        impostor=len(pairs.impostor),
        people=len(identities),
        failures_to_acquire=int((~usable).sum()),
        variant=encoder.variant,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
    )


def _one_shot_result(
    encoder: Encoder,
    protocol: str,
    images: NDArray[np.uint8],
    embeddings: NDArray[np.float32],
    episodes: Episodes,
    alphabets: tuple[str, ...],
    seed: int | None,
) -> OneShotResult:
    correct = one_shot(embeddings, episodes, encoder.embedding.metric)
    pixels = scale(images, encoder.input).reshape(len(images), -1)
    tasks, ways = episodes.support.shape
    solved = int(correct.sum())
    return OneShotResult(
        protocol=protocol,
        ways=ways,
        episodes=tasks,
        accuracy=solved / tasks,
        error=(tasks - solved) / tasks,
        interval=proportion_interval(solved, tasks),
        alphabets=alphabets,
        seed=seed,
        variant=encoder.variant,
        runtime=encoder.runtime,
        fingerprint=encoder.fingerprint,
        chance=1 / ways,
        pixel_accuracy=float(one_shot(pixels, episodes, "euclidean").mean()),
    )


def _has_content(encoder: Encoder, pixels: NDArray[np.uint8]) -> bool:
    try:
        require_content(pixels, encoder.input)
    except InputError:
        return False
    return True


def _intervals(
    pairs: Pairs, labels: Integers, equal: float, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Percentiles of the rates when identities are drawn anew (both sides of a pair, Snijders and Borgatti 1999)."""
    images = np.bincount(labels)
    made = (len(labels) ** 2 - int((images**2).sum())) / 2
    # no resample gets as far down as to the scores left out here
    rank = min(max(int((0.05 + 4 * equal) * len(pairs.impostor)), _HIGHEST), len(pairs.impostor))
    step = max(1, (rank - _HIGHEST) // _HIGHEST)
    looked_at = np.append(np.arange(min(rank, _HIGHEST)), np.arange(_HIGHEST + step - 1, rank, step))
    stands_for = np.diff(looked_at, prepend=-1)
    highest = np.argsort(-pairs.impostor, kind="stable")[looked_at]
    one, other = labels[pairs.impostor_pairs[highest]].T
    distinct = np.append(np.flatnonzero(np.diff(pairs.impostor[highest])), len(highest) - 1)
    order = np.argsort(-pairs.genuine, kind="stable")
    whose = labels[pairs.genuine_pairs[order, 0]]
    above = np.searchsorted(-pairs.genuine[order], -pairs.impostor[highest][distinct], side="left")
    drawn: dict[str, list[float]] = {name: [] for name in ("eer", *FALSE_POSITIVE_RATES)}
    for weights in rng.multinomial(len(images), np.full(len(images), 1 / len(images)), size=_RESAMPLES):
        weighed = images * weights
        impostor = float(weighed.sum() ** 2 - (weighed**2).sum()) / 2 * len(pairs.impostor) / made
        genuine = np.append(0.0, np.cumsum(weights[whose]))
        if impostor == 0.0 or genuine[-1] == 0.0:
            continue
        far = np.append(0.0, np.cumsum(stands_for * weights[one] * weights[other])[distinct] / impostor)
        # threshold just above each distinct impostor score
        tpr = genuine[above] / genuine[-1]
        drawn["eer"].append(crossing(far, np.append(1.0 - tpr, 0.0)))
        for name, fpr in FALSE_POSITIVE_RATES.items():
            place = np.searchsorted(far[1:], fpr, side="right")
            drawn[name].append(float(tpr[min(place, len(tpr) - 1)]))
    return {name: tuple(np.quantile(values, (0.025, 0.975)).tolist()) for name, values in drawn.items()}
