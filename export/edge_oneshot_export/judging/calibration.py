"""Thresholds for target false accept rates, fitted on identities the encoder was not trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import (
    Calibration,
    InputSection,
    Metric,
    OperatingPoint,
    Rule,
    SimilarityMap,
    Tail,
)
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import has_content
from edge_oneshot_device.matching.thresholds import threshold_for
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.bounds import far_bounds, people_needed, supported_targets, supports
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.metrics import Scores, frr_at, thresholds_at
from edge_oneshot_export.judging.protocols import ROUNDING, LabelledImages, Trials, gallery_trials

MIN_PEOPLE: Final = 4
"""Fewer identities make at most 3 pairs of people, which support no target."""

_MAX_PEOPLE: Final = 1000
_MAX_IMAGES: Final = 25  # of a person: five templates and twenty probes
_COMPARISONS: Final = 1_500_000  # made for a count of templates, about
_KNOTS: Final = 64
_FEWEST_EXCEEDANCES: Final = 50  # that the shape of the tail is fitted to
_MOST_EXCEEDANCES: Final = 10_000  # that are looked at: more change nothing but the time
_SHAPES: Final = (-0.5, 0.5)  # outside, the likelihood is not regular or the variance infinite (Smith 1985)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The images that a calibration rests on.

    Attributes:
        chosen: int64 (m,), positions of images that show something.
        labels: int64 (m,), the identity of each.
        empty: int64 (identities,), of each identity the images that show nothing.
        failures_by_reason: How many these are for each reason.
    """

    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]
    empty: NDArray[np.int64]
    failures_by_reason: dict[str, int]


def draw_sample(
    people: LabelledImages, section: InputSection, *, seed: int = 0, target_far: float | None = None
) -> Sample:
    """At most 1,000 identities and 25 images of each, drawn with the seed.

    Raises:
        ModelError: Reason ``too_few_people``: they allow no calibration; ``unsupported_target``: none for `target_far`.
    """
    rng = np.random.default_rng(seed)
    every = _people(people.labels, 1)
    kept = np.sort(rng.permutation(len(every))[:_MAX_PEOPLE])
    drawn = [np.zeros(0, np.int64), *(rng.permutation(every[person])[:_MAX_IMAGES] for person in kept)]
    chosen = np.sort(np.concatenate(drawn))
    shown = has_content(people.images[chosen], section)
    empty = np.bincount(people.labels[chosen[~shown]], minlength=len(people.names))
    sample = Sample(chosen[shown], people.labels[chosen[shown]], empty, people.count_faults(chosen[~shown]))
    if len(_people(sample.labels, 1)) < MIN_PEOPLE:
        raise _too_few(sample.labels, 1)
    count = len(_people(sample.labels, 1))
    if target_far is not None and not supports(count, target_far):
        raise _unsupported(target_far, count, supported_targets(count)[-1])
    return sample


def calibrate(
    encoder: Encoder,
    people: LabelledImages,
    *,
    counts: Sequence[int] = (1, 3, 5),
    target_far: float | None = None,
    data: str,
    seed: int = 0,
    provisional: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[Calibration, ...]:
    """Calibrate an exported variant for each rule and count of templates, as the device runs it.

    For a count of k, galleries are drawn in which each identity has k templates; its other
    images are probes, compared with every person by `edge_oneshot_device.matching.decision`.

    - Targets are those that the identities support, see `bounds.supports`.
    - The threshold of a target comes from all impostor comparisons, the FRR from all genuine
      ones at that threshold. Images that show nothing are failures to acquire, identities
      with too few others failures to enrol; the FRR counts both in, as the generalized false
      reject rate of ISO/IEC 19795-1 does. The FAR and its upper bound are cross-fitted, see
      `bounds.far_bounds`.
    - The tail is a generalized Pareto distribution, fitted by maximum likelihood to the scores
      above a lower threshold (Pickands 1975) and anchored at the smallest supported target.
    - The degree of similarity is the isotonic posterior at equal priors.
    - The margin is the smallest lead over the runner-up that keeps wrong acceptances within
      the default target, or the rate that is kept for so many people, in closed-set 1:N trials of
      these identities at the threshold for them; at least what rounding makes.

    Args:
        encoder: The variant on its runtime.
        people: Held-out identities; for a count of k those with more than k images. See `draw_sample`.
        counts: Templates a person; those that the data cannot give are left out.
        target_far: The default target; otherwise the smallest that is supported.
        data: What the figures come from, in words.
        seed: The same seed gives the same calibration.
        provisional: Whether the user's own people were not seen.
        progress: Handed to `Encoder.embed_many`.

    Raises:
        ModelError: Reason ``too_few_people``: not even the lowest count can be given;
            ``unsupported_target``: the identities do not support `target_far`.
    """
    sample = draw_sample(people, encoder.input, seed=seed)
    embeddings = encoder.embed_many(people.images[sample.chosen], progress)
    return calibrate_embeddings(
        embeddings,
        sample.labels,
        encoder.embedding.metric,
        empty=sample.empty,
        failures_by_reason=sample.failures_by_reason,
        variant=encoder.variant,
        counts=counts,
        target_far=target_far,
        data=data,
        seed=seed,
        provisional=provisional,
    )


def calibrate_embeddings(
    embeddings: NDArray[np.float32],
    labels: Integers,
    metric: Metric,
    *,
    empty: Integers | None = None,
    failures_by_reason: Mapping[str, int] | None = None,
    variant: str,
    counts: Sequence[int] = (1, 3, 5),
    target_far: float | None = None,
    data: str,
    seed: int = 0,
    provisional: bool = False,
) -> tuple[Calibration, ...]:
    """`calibrate` from embeddings, float32 (n, d), the identity of each, integers (n,), and images without content.

    Args:
        embeddings: Of images that show something.
        labels: The identity of each, 0..identities-1.
        metric: How embeddings are compared.
        empty: Integers (identities,), further images of each identity, which show nothing.
        failures_by_reason: How many these are for each reason.
        variant: As `calibrate` takes it, as are the others.
        counts: See there.
        target_far: See there.
        data: See there.
        seed: See there.
        provisional: See there.
    """
    calibrations: list[Calibration] = []
    for count in sorted(set(counts)):
        rng = np.random.default_rng((seed, count))
        people = _people(labels, count)
        if len(people) < MIN_PEOPLE:
            continue
        targets = supported_targets(len(people))
        if target_far is not None and not supports(len(people), target_far):
            if count == min(counts):
                raise _unsupported(target_far, len(people), targets[-1])
            continue
        wanted = targets[-1] if target_far is None else target_far
        failures = _failures(labels, empty, count)
        by_rule = gallery_trials(embeddings, people, count, metric, rng, comparisons=_COMPARISONS)
        for rule, trials in by_rule.items():
            if count == 1 and calibrations:  # every rule is the same
                calibrations.append(msgspec.structs.replace(calibrations[0], rule=rule))
                continue
            thresholds, tail = _fit(trials.impostor, sorted({*targets, wanted}, reverse=True))
            draft = Calibration(
                variant=variant,
                rule=rule,
                templates=count,
                points=_points(trials, thresholds, failures, rng),
                target_far=wanted,
                tail=tail,
                margin=0.0,
                similarity=similarity_map(trials.genuine, trials.impostor),
                genuine=len(trials.genuine),
                impostor=len(trials.impostor),
                people=len(people),
                failures_to_enrol=failures.to_enrol,
                failures_to_acquire=failures.to_acquire,
                failures_by_reason=dict(failures_by_reason or {}),
                data=data,
                provisional=provisional,
            )
            calibrations.append(msgspec.structs.replace(draft, margin=_margin(trials, draft, metric)))
    if not calibrations:
        raise _too_few(labels, min(counts))
    return tuple(calibrations)


def better_rule(calibrations: Sequence[Calibration]) -> Rule:
    """The rule that rejects fewer genuine attempts at the default targets, over variants and counts above one."""
    rejected: dict[Rule, list[float]] = {"best": [], "mean": []}
    for calibration in calibrations:
        point = next(point for point in calibration.points if point.target_far == calibration.target_far)
        if calibration.templates > 1:
            rejected[calibration.rule].append(point.frr)
    return "mean" if sum(rejected["mean"]) < sum(rejected["best"]) else "best"


@dataclass(frozen=True, slots=True)
class _Failures:
    """Identities that cannot be enrolled, of how many; images that cannot be probes, of how many."""

    to_enrol: int
    people: int
    to_acquire: int
    images: int

    def counted_in(self, frr: float) -> float:
        """The generalized false reject rate for a share of genuine comparisons that are rejected."""
        enrolled = 1.0 - self.to_enrol / self.people
        acquired = 1.0 - self.to_acquire / self.images
        return 1.0 - enrolled * acquired * (1.0 - frr)


def _failures(labels: Integers, empty: Integers | None, count: int) -> _Failures:
    shown = np.bincount(labels)
    if empty is None:
        empty = np.zeros_like(shown)
    shown = np.pad(shown, (0, len(empty) - len(shown)))
    enrolled = shown > count
    wanted = shown + empty > count
    images = int((shown + empty)[enrolled].sum())
    return _Failures(int((wanted & ~enrolled).sum()), int(wanted.sum()), int(empty[enrolled].sum()), images)


def _people(labels: Integers, count: int) -> list[NDArray[np.int64]]:
    """Positions of the images of each identity that has more than `count`."""
    order = np.argsort(labels, kind="stable")
    images = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return [own for own in images if len(own) > count]


def _too_few(labels: Integers, count: int) -> ModelError:
    message = (
        f"calibration for {count} template{'s' * (count > 1)} a person needs at least {MIN_PEOPLE} identities with at"
        f" least {count + 1} images each that show something, got {len(_people(labels, count))}: give more images"
    )
    return ModelError(message, reason="too_few_people")


def _unsupported(target_far: float, people: int, smallest: float) -> ModelError:
    message = (
        f"a false accept rate of {target_far:g} needs at least {people_needed(target_far):,} identities to be"
        f" measured on, the data has {people}, who support {smallest:g}: give more people, or ask for that"
    )
    return ModelError(message, reason="unsupported_target")


def _fit(impostor: Scores, targets: Sequence[float]) -> tuple[dict[float, float], Tail]:
    """Threshold of each target, and the tail from the smallest on."""
    from scipy.stats import genpareto

    thresholds = dict(zip(targets, thresholds_at(impostor, targets), strict=True))
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


def _points(
    trials: Trials, thresholds: dict[float, float], failures: _Failures, rng: np.random.Generator
) -> tuple[OperatingPoint, ...]:
    probe, person = np.nonzero(trials.owners[:, np.newaxis] != np.arange(trials.people))
    sides = np.stack([trials.owners[probe], person], axis=1)
    bounds = far_bounds(trials.impostor, sides, list(thresholds), rng)
    return tuple(
        OperatingPoint(
            target_far=target,
            threshold=threshold,
            far=bound.far,
            far_upper_95=bound.upper_95,
            frr=failures.counted_in(frr_at(trials.genuine, threshold)),
        )
        for (target, threshold), bound in zip(thresholds.items(), bounds, strict=True)
    )


def _margin(trials: Trials, draft: Calibration, metric: Metric) -> float:
    threshold = threshold_for(draft, metric, draft.target_far, trials.people)
    second, best = np.sort(np.partition(trials.joined, -2, axis=1)[:, -2:], axis=1).astype(np.float64).T
    wrong = (trials.genuine < best) & (best >= threshold.value)
    leads = np.sort((best - second)[wrong])[::-1]
    allowed = int(threshold.kept_far * len(best))
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
