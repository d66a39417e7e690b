"""Thresholds for target false accept rates, fitted on identities the encoder was not trained on."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.manifest import Calibration, Metric, OperatingPoint, Rule, SimilarityMap, Tail
from edge_oneshot_device.matching import threshold_for
from edge_oneshot_export.bounds import far_bounds, supported_targets
from edge_oneshot_export.cells import Integers
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.metrics import Scores, frr_at, threshold_at
from edge_oneshot_export.protocols import ROUNDING, LabelledImages, Trials, gallery_trials

MIN_PEOPLE: Final = 4
"""Fewer identities make at most 3 pairs of people, which support no target."""

_MAX_PEOPLE: Final = 1000
_MAX_IMAGES: Final = 25  # of a person: five templates and twenty probes
_COMPARISONS: Final = 1_500_000  # made for a count of templates, about
_KNOTS: Final = 64
_FEWEST_EXCEEDANCES: Final = 50  # that the shape of the tail is fitted to
_MOST_EXCEEDANCES: Final = 10_000  # that are looked at: more change nothing but the time
_SHAPES: Final = (-0.5, 0.5)  # outside, the likelihood is not regular or the variance infinite (Smith 1985)


def calibrate(
    encoder: Encoder,
    people: LabelledImages,
    *,
    rule: Rule = "best",
    counts: Sequence[int] = (1, 3, 5),
    data: str,
    seed: int = 0,
    provisional: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[Calibration, ...]:
    """Calibrate an exported variant for each count of templates a person, as the device runs it.

    For a count of k, galleries are drawn in which each identity has k templates; its other
    images are probes, compared with every person by `edge_oneshot_device.matching`.

    - Targets are those that the identities support, see `bounds.supports`.
    - The threshold of a target comes from all impostor comparisons, the FRR from all genuine
      ones at that threshold. The FAR and its upper bound are cross-fitted, see `bounds.far_bounds`.
    - The tail is a generalized Pareto distribution, fitted by maximum likelihood to the scores
      above a lower threshold (Pickands 1975) and anchored at the smallest supported target.
    - The degree of similarity is the isotonic posterior at equal priors.
    - The margin is the smallest lead over the runner-up that keeps wrong acceptances within
      the smallest supported target, in closed-set 1:N trials of these identities at the
      threshold for so many people; at least what rounding makes.

    Args:
        encoder: The variant on its runtime.
        people: Held-out identities; for a count of k those with more than k images. At most
            1,000 identities and 25 images of each are used, drawn with the seed.
        rule: How the scores of a person's templates are joined.
        counts: Templates a person; those that the data cannot give are left out.
        data: What the figures come from, in words.
        seed: The same seed gives the same calibration.
        provisional: Whether the user's own people were not seen.
        progress: Handed to `Encoder.embed_many`.

    Raises:
        ModelError: Reason ``too_few_people``: not even the lowest count can be given.
    """
    chosen = _subsample(people.labels, min(counts), np.random.default_rng(seed))
    embeddings = encoder.embed_many(people.images[chosen], progress)
    return calibrate_embeddings(
        embeddings,
        people.labels[chosen],
        encoder.embedding.metric,
        variant=encoder.variant,
        rule=rule,
        counts=counts,
        data=data,
        seed=seed,
        provisional=provisional,
    )


def calibrate_embeddings(
    embeddings: NDArray[np.float32],
    labels: Integers,
    metric: Metric,
    *,
    variant: str,
    rule: Rule = "best",
    counts: Sequence[int] = (1, 3, 5),
    data: str,
    seed: int = 0,
    provisional: bool = False,
) -> tuple[Calibration, ...]:
    """`calibrate` from embeddings, float32 (n, d), and the identity of each, integers (n,)."""
    calibrations = []
    for count in sorted(set(counts)):
        rng = np.random.default_rng((seed, count))
        people = _people(labels, count)
        if len(people) < MIN_PEOPLE:
            continue
        trials = gallery_trials(embeddings, people, count, metric, rule, rng, comparisons=_COMPARISONS)
        thresholds, tail = _fit(trials.impostor, supported_targets(len(people)))
        points = _points(trials, thresholds, rng)
        draft = Calibration(
            variant=variant,
            rule=rule,
            templates=count,
            points=points,
            target_far=points[-1].target_far,
            tail=tail,
            margin=0.0,
            similarity=similarity_map(trials.genuine, trials.impostor),
            genuine=len(trials.genuine),
            impostor=len(trials.impostor),
            people=len(people),
            data=data,
            provisional=provisional,
        )
        calibrations.append(msgspec.structs.replace(draft, margin=_margin(trials, draft)))
    if not calibrations:
        raise _too_few(labels, min(counts))
    return tuple(calibrations)


def _people(labels: Integers, count: int) -> list[NDArray[np.int64]]:
    """Positions of the images of each identity that has more than `count`."""
    order = np.argsort(labels, kind="stable")
    images = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return [own for own in images if len(own) > count]


def _subsample(labels: Integers, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    people = _people(labels, count)
    if len(people) < MIN_PEOPLE:
        raise _too_few(labels, count)
    kept = rng.permutation(len(people))[:_MAX_PEOPLE]
    return np.sort(np.concatenate([rng.permutation(people[person])[:_MAX_IMAGES] for person in kept]))


def _too_few(labels: Integers, count: int) -> ModelError:
    message = (
        f"calibration for {count} template{'s' * (count > 1)} a person needs at least {MIN_PEOPLE} identities with at"
        f" least {count + 1} images each, got {len(_people(labels, count))}: give more images"
    )
    return ModelError(message, reason="too_few_people")


def _fit(impostor: Scores, targets: Sequence[float]) -> tuple[dict[float, float], Tail]:
    """Threshold of each target, and the tail from the smallest on."""
    from scipy.stats import genpareto

    thresholds = {target: threshold_at(impostor, target) for target in targets}
    smallest = targets[-1]
    enough = [target for target in targets if target * len(impostor) >= _FEWEST_EXCEEDANCES] or targets[:1]
    start = thresholds[min(enough, key=lambda target: abs(np.log(target / (10 * smallest))))]
    excess = np.sort(impostor[impostor >= start]).astype(np.float64) - start
    if len(excess) > _MOST_EXCEEDANCES:
        excess = excess[np.linspace(0, len(excess) - 1, _MOST_EXCEEDANCES).astype(int)]
    least = ROUNDING * max(1.0, abs(start))
    shape, scale = 0.0, float(excess.mean()) if len(excess) else least
    if len(excess) >= _FEWEST_EXCEEDANCES and excess[-1] > least:
        shape, _, scale = genpareto.fit(excess, 0.0, floc=0.0, scale=scale)
        if not _SHAPES[0] <= shape <= _SHAPES[1]:
            shape = float(np.clip(shape, *_SHAPES))
            scale = genpareto.fit(excess, fc=shape, floc=0.0, scale=scale)[2]
    # beyond any higher score the excess has the same shape
    scale = float(scale + shape * (thresholds[smallest] - start))
    return thresholds, Tail(threshold=thresholds[smallest], far=smallest, scale=max(scale, least), shape=float(shape))


def _points(trials: Trials, thresholds: dict[float, float], rng: np.random.Generator) -> tuple[OperatingPoint, ...]:
    probe, person = np.nonzero(trials.owners[:, np.newaxis] != np.arange(trials.people))
    sides = np.stack([trials.owners[probe], person], axis=1)
    bounds = far_bounds(trials.impostor, sides, list(thresholds), rng)
    return tuple(
        OperatingPoint(
            target_far=target,
            threshold=threshold,
            far=bound.far,
            far_upper_95=bound.upper_95,
            frr=frr_at(trials.genuine, threshold),
        )
        for (target, threshold), bound in zip(thresholds.items(), bounds, strict=True)
    )


def _margin(trials: Trials, draft: Calibration) -> float:
    threshold = threshold_for(draft, draft.target_far, trials.people).value
    second, best = np.sort(np.partition(trials.joined, -2, axis=1)[:, -2:], axis=1).astype(np.float64).T
    wrong = (trials.genuine < best) & (best >= threshold)
    leads = np.sort((best - second)[wrong])[::-1]
    allowed = int(draft.target_far * len(best))
    # two people with the same template are never told apart by rounding
    least = ROUNDING * max(1.0, abs(draft.points[-1].threshold))
    return least if len(leads) <= allowed else max(float(np.nextafter(leads[allowed], np.inf)), least)


def similarity_map(genuine: Scores, impostor: Scores) -> SimilarityMap:
    """Degree of similarity from scores of each kind: the isotonic posterior at equal priors, in at most 64 knots."""
    from scipy.optimize import isotonic_regression

    values, place = np.unique(np.concatenate([genuine, impostor]), return_inverse=True)
    values = values.astype(np.float64)
    same = np.bincount(place[: len(genuine)], minlength=len(values)) / len(genuine)
    weight = same + np.bincount(place[len(genuine) :], minlength=len(values)) / len(impostor)
    posterior = isotonic_regression(same / weight, weights=weight).x
    starts = np.flatnonzero(np.diff(posterior, prepend=-1.0))
    degrees = posterior[starts]
    knots = np.add.reduceat(values * weight, starts) / np.add.reduceat(weight, starts)
    if len(starts) == 1:
        knots, degrees = np.array([values[0], max(values[-1], values[0] + 1e-6)]), np.repeat(degrees, 2)
    else:
        # the outer steps end where the slope begins
        knots[0], knots[-1] = values[starts[1] - 1], values[starts[-1]]
    wanted = np.linspace(degrees[0], degrees[-1], _KNOTS)
    kept = np.unique([0, len(knots) - 1, *np.abs(degrees - wanted[1:-1, np.newaxis]).argmin(axis=1)])
    return SimilarityMap(scores=tuple(knots[kept].tolist()), degrees=tuple(np.clip(degrees[kept], 0.0, 1.0).tolist()))
