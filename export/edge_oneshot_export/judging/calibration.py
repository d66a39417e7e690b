"""Fit thresholds for target false accept rates on identities that the encoder was not trained on.

For k templates, galleries are drawn in which each identity has k templates. Its other images are probes, and
`edge_oneshot_device.matching.decision` compares each probe with every person.

- Identities with too few images for this are strangers, who are probes at galleries of the others.
- The targets are the FARs that the identities support, see `edge_oneshot_device.matching.support`.
- The threshold of a target comes from all impostor comparisons, and its FRR from all genuine comparisons at that
  threshold. An image without content is a failure to acquire, and an identity with too few others is a failure to
  enrol; the FRR includes both, as the generalized false reject rate of ISO/IEC 19795-1 does. The FAR and its upper
  bound are cross-fitted, see `bounds.far_bounds`.
- The tail is a generalized Pareto distribution (Pickands 1975), fitted by maximum likelihood to the scores above a
  lower threshold and anchored at the smallest supported target.
- The degree of similarity is the isotonic posterior at equal priors.
- Where a bundle has thresholds already, they are the prior, see `prior.combine`.
- The margin is the smallest lead over the runner-up that keeps wrong acceptances within the default target, or
  within the rate that is kept for so many people, in closed-set 1:N trials of these identities; it is at least
  what rounding makes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import (
    Calibration,
    Metric,
    OperatingPoint,
    Rule,
)
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.matching.support import pairs_of_people
from edge_oneshot_device.matching.thresholds import threshold_for
from edge_oneshot_export.judging.bounds import far_bounds
from edge_oneshot_export.judging.metrics import frr_at
from edge_oneshot_export.judging.prior import combine, keep, lead, smallest_target
from edge_oneshot_export.judging.protocols import ROUNDING, LabelledImages, Trials, gallery_trials
from edge_oneshot_export.judging.sampling import Sample, draw_sample, template_counts
from edge_oneshot_export.judging.score_fits import fit_tail, similarity_map

_COMPARISONS: Final = 1_500_000  # about, for each number of templates


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How a calibration is made.

    Attributes:
        data: Where the images come from, in words, for the manifest.
        target_far: The default target FAR; None takes the smallest that the people support, or the bundle's own where
            that is smaller still.
        counts: Templates per person to calibrate for; counts that the data cannot give are left out.
        seed: Random seed of the galleries.
        provisional: Whether the thresholds are not from people like the users'.
    """

    data: str
    target_far: float | None = None
    counts: tuple[int, ...] = (1, 3, 5)
    seed: int = 0
    provisional: bool = False


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
    embeddings: NDArray[np.float32],
    sample: Sample,
    metric: Metric,
    *,
    variant: str,
    settings: CalibrationSettings,
    prior: Sequence[Calibration] = (),
) -> tuple[Calibration, ...]:
    """Calibrate from embeddings.

    The docstring of this module has the method.

    Args:
        embeddings: float32 (m, d), of the images of `sample`.
        sample: Whom the images show.
        metric: How embeddings are compared.
        variant: The variant's name.
        settings: How the calibration is made.
        prior: The calibrations that a bundle has for this variant; `prior.combine` says what they do.

    Returns:
        As `calibrate`.

    Raises:
        ModelError: As `calibrate`.
    """
    calibrations: list[Calibration] = []
    raised: dict[Rule, float] = {}
    for given in template_counts(sample, settings.counts, settings.target_far, prior):
        count, people, strangers, wanted = given.templates, given.people, given.strangers, given.target_far
        rng = np.random.default_rng((settings.seed, count))
        failures = _count_failures(sample, count)
        by_rule = gallery_trials(embeddings, people, count, metric, rng, comparisons=_COMPARISONS, strangers=strangers)
        pairs = pairs_of_people(len(people), len(strangers))
        for rule, trials in by_rule.items():
            known = next((one for one in prior if (one.rule, one.templates) == (rule, count)), None)
            if known is None and wanted not in given.targets:
                continue  # the bundle has thresholds for another rule only
            if count == 1 and calibrations and known is None:  # every rule is the same
                calibrations.append(msgspec.structs.replace(calibrations[0], rule=rule))
                continue
            thresholds, tail = fit_tail(trials.impostor, given.targets)
            draft = Calibration(
                variant=variant,
                rule=rule,
                templates=count,
                points=_points(trials, thresholds, failures, rng, pairs),
                target_far=wanted if wanted in given.targets else given.targets[-1],
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
                strangers=len(strangers),
                provisional=settings.provisional,
            )
            if known is not None:
                raised[rule] = lead(draft, known, metric)
                draft = combine(draft, known, metric, wanted, partial(_frr, trials, failures))
            least = known.margin if known is not None and draft.provisional else 0.0
            margin = max(_margin(trials, draft, metric), least)
            calibrations.append(msgspec.structs.replace(draft, margin=margin))
    made = {(one.rule, one.templates) for one in calibrations}
    for known in prior:
        wanted = settings.target_far or known.target_far
        if (known.rule, known.templates) not in made and known.rule in raised and wanted >= smallest_target([known]):
            calibrations.append(keep(known, metric, wanted, raised[known.rule]))
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


def _count_failures(sample: Sample, count: int) -> _Failures:
    shown = np.bincount(sample.labels, minlength=len(sample.empty))
    enrolled = shown > count
    wanted = shown + sample.empty > count
    images = int((shown + sample.empty)[enrolled].sum())
    return _Failures(int((wanted & ~enrolled).sum()), int(wanted.sum()), int(sample.empty[enrolled].sum()), images)


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
            frr=_frr(trials, failures, threshold),
        )
        for (target, threshold), bound in zip(thresholds.items(), bounds, strict=True)
    )


def _frr(trials: Trials, failures: _Failures, threshold: float) -> float:
    return failures.counted_in(frr_at(trials.genuine, threshold))


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
