"""Fit thresholds for target false accept rates on identities that the encoder was not trained on.

For k templates, galleries are drawn in which each identity has k templates. Its other images are probes, and
`edge_oneshot_device.matching.decision` compares each probe with every person.

- Identities with too few images for this are strangers, who are probes at galleries of the others.
- The targets are the FARs that the identities support, see `bounds.supports`.
- The threshold of a target comes from all impostor comparisons, and its FRR from all genuine comparisons at that
  threshold. An image without content is a failure to acquire, and an identity with too few others is a failure to
  enrol; the FRR includes both, as the generalized false reject rate of ISO/IEC 19795-1 does. The FAR and its upper
  bound are cross-fitted, see `bounds.far_bounds`.
- The tail is a generalized Pareto distribution (Pickands 1975), fitted by maximum likelihood to the scores above a
  lower threshold and anchored at the smallest supported target.
- The degree of similarity is the isotonic posterior at equal priors.
- The margin is the smallest lead over the runner-up that keeps wrong acceptances within the default target, or
  within the rate that is kept for so many people, in closed-set 1:N trials of these identities; it is at least
  what rounding makes.
"""

from collections.abc import Callable, Iterator, Sequence
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
)
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import has_content
from edge_oneshot_device.matching.thresholds import threshold_for
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.bounds import (
    far_bounds,
    pairs_of_people,
    people_needed,
    supported_targets,
    supports,
)
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.metrics import frr_at
from edge_oneshot_export.judging.protocols import ROUNDING, LabelledImages, Trials, gallery_trials
from edge_oneshot_export.judging.score_fits import fit_tail, similarity_map

MIN_PEOPLE: Final = 4
"""Fewer identities give at most 3 pairs of people, which support no target."""

_MAX_PEOPLE: Final = 1000
_MAX_STRANGERS: Final = 3000  # identities with a single image
_MAX_IMAGES: Final = 25  # per person: five templates and twenty probes
_COMPARISONS: Final = 1_500_000  # about, for each number of templates


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How a calibration is made.

    Attributes:
        data: Where the images come from, in words, for the manifest.
        target_far: The default target FAR; None takes the smallest that the people support.
        counts: Templates per person to calibrate for; counts that the data cannot give are left out.
        seed: Random seed of the galleries.
        provisional: Whether the thresholds are not from people like the users'.
    """

    data: str
    target_far: float | None = None
    counts: tuple[int, ...] = (1, 3, 5)
    seed: int = 0
    provisional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The images that a calibration rests on.

    Attributes:
        chosen: int64 (m,), positions of images that have content.
        labels: int64 (m,), the identity of each.
        empty: int64 (identities,), for each identity how many further images have no content.
        failures_by_reason: The number of these by reason.
    """

    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]
    empty: NDArray[np.int64]
    failures_by_reason: dict[str, int]

    @classmethod
    def whole(cls, labels: Integers) -> "Sample":
        """All images, integers (n,) with the identity of each, where every image has content."""
        return cls(np.arange(len(labels)), labels.astype(np.int64), np.zeros(int(labels.max()) + 1, np.int64), {})


def draw_sample(
    people: LabelledImages, section: InputSection, *, seed: int = 0, target_far: float | None = None
) -> Sample:
    """Draw at most 1,000 identities and 25 images of each, and 3,000 identities with a single image.

    Args:
        people: Preprocessed images of identities that the encoder was not trained on.
        section: The encoder's input, which says how much contrast counts as content.
        seed: Random seed.
        target_far: The target FAR that the identities have to support.

    Returns:
        The sample.

    Raises:
        ModelError: ``too_few_people``: no calibration is possible; ``unsupported_target``: none for `target_far`.
    """
    rng = np.random.default_rng(seed)
    every = _people(people.labels, 1)
    kept = np.sort(rng.permutation(len(every))[:_MAX_PEOPLE])
    drawn = [np.zeros(0, np.int64), *(rng.permutation(every[person])[:_MAX_IMAGES] for person in kept)]
    single = np.flatnonzero(np.bincount(people.labels)[people.labels] == 1)
    chosen = np.sort(np.concatenate([*drawn, rng.permutation(single)[:_MAX_STRANGERS]]))
    shown = has_content(people.images[chosen], section)
    empty = np.bincount(people.labels[chosen[~shown]], minlength=len(people.names))
    sample = Sample(chosen[shown], people.labels[chosen[shown]], empty, people.count_faults(chosen[~shown]))
    if len(_people(sample.labels, 1)) < MIN_PEOPLE:
        raise _too_few(sample.labels, 1)
    count, strangers = len(_people(sample.labels, 1)), len(_strangers(sample, 1))
    if target_far is not None and not supports(count, target_far, strangers):
        raise _unsupported(target_far, count, supported_targets(count, strangers)[-1])
    return sample


def calibrate(
    encoder: Encoder,
    people: LabelledImages,
    settings: CalibrationSettings,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[Calibration, ...]:
    """Calibrate an exported variant as the device runs it, for each rule and each number of templates.

    The docstring of this module has the method.

    Args:
        encoder: The variant on its runtime.
        people: Images of identities that the encoder was not trained on; of these `draw_sample` takes some.
        settings: How the calibration is made.
        progress: Called with the number of images embedded so far.

    Returns:
        A calibration for each number of templates and each rule.

    Raises:
        ModelError: ``too_few_people``: not even the smallest number of templates is possible;
            ``unsupported_target``: the identities do not support the target FAR.
    """
    sample = draw_sample(people, encoder.input, seed=settings.seed)
    embeddings = encoder.embed_many(people.images[sample.chosen], progress)
    return calibrate_embeddings(
        embeddings, sample, encoder.embedding.metric, variant=encoder.variant, settings=settings
    )


def calibrate_embeddings(
    embeddings: NDArray[np.float32], sample: Sample, metric: Metric, *, variant: str, settings: CalibrationSettings
) -> tuple[Calibration, ...]:
    """Calibrate from embeddings.

    The docstring of this module has the method.

    Args:
        embeddings: float32 (m, d), of the images of `sample`.
        sample: Whom the images show.
        metric: How embeddings are compared.
        variant: The variant's name.
        settings: How the calibration is made.

    Returns:
        As `calibrate`.

    Raises:
        ModelError: As `calibrate`.
    """
    calibrations: list[Calibration] = []
    for count, people, strangers, targets in _possible_counts(sample, settings):
        rng = np.random.default_rng((settings.seed, count))
        wanted = targets[-1] if settings.target_far is None else settings.target_far
        failures = _count_failures(sample, count)
        by_rule = gallery_trials(embeddings, people, count, metric, rng, comparisons=_COMPARISONS, strangers=strangers)
        pairs = pairs_of_people(len(people), len(strangers))
        for rule, trials in by_rule.items():
            if count == 1 and calibrations:  # every rule is the same
                calibrations.append(msgspec.structs.replace(calibrations[0], rule=rule))
                continue
            thresholds, tail = fit_tail(trials.impostor, sorted({*targets, wanted}, reverse=True))
            draft = Calibration(
                variant=variant,
                rule=rule,
                templates=count,
                points=_points(trials, thresholds, failures, rng, pairs),
                target_far=wanted,
                tail=tail,
                margin=0.0,
                similarity=similarity_map(trials.genuine, trials.impostor),
                genuine=len(trials.genuine),
                impostor=len(trials.impostor),
                people=len(people) + len(strangers),
                failures_to_enrol=failures.to_enrol,
                failures_to_acquire=failures.to_acquire,
                failures_by_reason=sample.failures_by_reason,
                data=settings.data,
                provisional=settings.provisional,
            )
            calibrations.append(msgspec.structs.replace(draft, margin=_margin(trials, draft, metric)))
    return tuple(calibrations)


def better_rule(calibrations: Sequence[Calibration]) -> Rule:
    """The rule with the lower FRR at the default targets, summed over variants and all numbers of templates above 1."""
    rejected: dict[Rule, list[float]] = {"best": [], "mean": []}
    for calibration in calibrations:
        point = next(point for point in calibration.points if point.target_far == calibration.target_far)
        if calibration.templates > 1:
            rejected[calibration.rule].append(point.frr)
    return "mean" if sum(rejected["mean"]) < sum(rejected["best"]) else "best"


@dataclass(frozen=True, slots=True)
class _Failures:
    """Identities that cannot be enrolled, out of `people`, and images that cannot be probes, out of `images`."""

    to_enrol: int
    people: int
    to_acquire: int
    images: int

    def counted_in(self, frr: float) -> float:
        """The generalized false reject rate, from the share of genuine comparisons that are rejected."""
        enrolled = 1.0 - self.to_enrol / self.people
        acquired = 1.0 - self.to_acquire / self.images
        return 1.0 - enrolled * acquired * (1.0 - frr)


def _possible_counts(
    sample: Sample, settings: CalibrationSettings
) -> Iterator[tuple[int, list[NDArray[np.int64]], list[NDArray[np.int64]], tuple[float, ...]]]:
    """Each number of templates that is possible: images of each person and of each stranger, supported targets."""
    labels, smallest, found = sample.labels, min(settings.counts), False
    for count in sorted(set(settings.counts)):
        people = _people(labels, count)
        if len(people) < MIN_PEOPLE:
            continue
        strangers = _strangers(sample, count)
        targets = supported_targets(len(people), len(strangers))
        if settings.target_far is not None and not supports(len(people), settings.target_far, len(strangers)):
            if count == smallest:
                raise _unsupported(settings.target_far, len(people), targets[-1])
            continue
        found = True
        yield count, people, strangers, targets
    if not found:
        raise _too_few(labels, smallest)


def _count_failures(sample: Sample, count: int) -> _Failures:
    shown = np.bincount(sample.labels, minlength=len(sample.empty))
    enrolled = shown > count
    wanted = shown + sample.empty > count
    images = int((shown + sample.empty)[enrolled].sum())
    return _Failures(int((wanted & ~enrolled).sum()), int(wanted.sum()), int(sample.empty[enrolled].sum()), images)


def _people(labels: Integers, count: int) -> list[NDArray[np.int64]]:
    """Positions of the images of each identity that has more than `count` images."""
    return [own for own in _by_identity(labels) if len(own) > count]


def _strangers(sample: Sample, count: int) -> list[NDArray[np.int64]]:
    """Positions of the images of each identity that has no more than `count`, also of those without content."""
    identities = _by_identity(sample.labels)
    return [own for own in identities if 0 < len(own) + sample.empty[sample.labels[own[:1]]].sum() <= count]


def _by_identity(labels: Integers) -> list[NDArray[np.int64]]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _too_few(labels: Integers, count: int) -> ModelError:
    message = (
        f"calibration for {count} template{'s' * (count > 1)} a person needs at least {MIN_PEOPLE} identities with at"
        f" least {count + 1} images each that have content, got {len(_people(labels, count))}: give more images"
    )
    return ModelError(message, reason="too_few_people")


def _unsupported(target_far: float, people: int, smallest: float) -> ModelError:
    message = (
        f"a false accept rate of {target_far:g} needs at least {people_needed(target_far):,} identities;"
        f" the data has {people}, which support {smallest:g}: give more people, or a larger rate"
    )
    return ModelError(message, reason="unsupported_target")


def _points(
    trials: Trials, thresholds: dict[float, float], failures: _Failures, rng: np.random.Generator, pairs: int
) -> tuple[OperatingPoint, ...]:
    probe, person = np.nonzero(trials.owners[:, np.newaxis] != np.arange(trials.people))
    sides = np.stack([trials.owners[probe], person], axis=1)
    bounds = far_bounds(trials.impostor, sides, list(thresholds), rng, pairs=pairs)
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
    joined = trials.known.joined
    second, best = np.sort(np.partition(joined, -2, axis=1)[:, -2:], axis=1).astype(np.float64).T
    wrong = (trials.genuine < best) & (best >= threshold.value)
    leads = np.sort((best - second)[wrong])[::-1]
    allowed = int(threshold.kept_far * len(best))
    # two people with the same template are never told apart by rounding
    least = ROUNDING * max(1.0, abs(draft.points[-1].threshold))
    return least if len(leads) <= allowed else max(float(np.nextafter(leads[allowed], np.inf)), least)
