"""Whom a calibration rests on: the images that are drawn, and who of them can be enrolled with how many templates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Calibration, InputSection
from edge_oneshot_device.encoding.preprocessing import has_content
from edge_oneshot_device.matching.support import people_needed, supported_targets, supports
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.judging.cells import Integers
from edge_oneshot_export.judging.prior import smallest_target
from edge_oneshot_export.judging.protocols import LabelledImages

MIN_PEOPLE: Final = 4
"""Fewer identities give at most 3 pairs of people, which support no target."""

_MAX_PEOPLE: Final = 1000
_MAX_STRANGERS: Final = 3000  # identities with a single image
_MAX_IMAGES: Final = 25  # per person: five templates and twenty probes


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
    people: LabelledImages,
    section: InputSection,
    *,
    seed: int = 0,
    target_far: float | None = None,
    prior: Sequence[Calibration] = (),
) -> Sample:
    """Draw at most 1,000 identities and 25 images of each, and 3,000 identities with a single image.

    Args:
        people: Preprocessed images of identities that the encoder was not trained on.
        section: The encoder's input, which says how much contrast counts as content.
        seed: Random seed.
        target_far: The target FAR that the identities have to support, or `prior` to have thresholds for.
        prior: The calibrations of a bundle for one template.

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
    known = smallest_target(prior)
    if target_far is not None and not supports(count, target_far, strangers) and target_far < known:
        raise _unsupported(target_far, count, min(known, supported_targets(count, strangers)[-1]))
    return sample


@dataclass(frozen=True, slots=True, eq=False)
class TemplateCount:
    """What a sample gives for one number of templates a person.

    Attributes:
        templates: The number.
        people: For each identity that has more images, their positions.
        strangers: For each of the others, the positions of its images.
        targets: The target FARs that get a threshold from these people, falling; they support each of them.
        target_far: The default target FAR. Where it is not among `targets`, a bundle has a threshold for it.
    """

    templates: int
    people: list[NDArray[np.int64]]
    strangers: list[NDArray[np.int64]]
    targets: list[float]
    target_far: float


def template_counts(
    sample: Sample, counts: Sequence[int], target_far: float | None, prior: Sequence[Calibration] = ()
) -> Iterator[TemplateCount]:
    """Each number of templates that a sample can give.

    Args:
        sample: The images.
        counts: The numbers that are wanted.
        target_far: The default target FAR; None takes the smallest that the people support, or that of `prior` where
            it is smaller still.
        prior: The calibrations that a bundle has for the variant.

    Raises:
        ModelError: As `edge_oneshot_export.judging.calibration.calibrate`.
    """
    labels, smallest, found = sample.labels, min(counts), False
    for count in sorted(set(counts)):
        people = _people(labels, count)
        if len(people) < MIN_PEOPLE:
            continue
        strangers = _strangers(sample, count)
        targets = supported_targets(len(people), len(strangers))
        known = [one for one in prior if one.templates == count]
        wanted = target_far or min([targets[-1], *(one.target_far for one in prior)])
        if not supports(len(people), wanted, len(strangers)) and wanted < smallest_target(known):
            if count == smallest:
                raise _unsupported(wanted, len(people), min(targets[-1], smallest_target(known)))
            continue
        found = True
        others = {wanted, *(point.target_far for one in known for point in one.points)}
        supported = {*targets, *(target for target in others if supports(len(people), target, len(strangers)))}
        yield TemplateCount(count, people, strangers, sorted(supported, reverse=True), wanted)
    if not found:
        raise _too_few(labels, smallest)


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
    own = supported_targets(people)[-1]
    message = (
        f"a false accept rate of {target_far:g} needs at least {people_needed(target_far):,} identities;"
        f" the data has {people}, which support {own:g}"
    )
    message += f", and with what the bundle knows {smallest:g}" if smallest < own else ""
    return ModelError(f"{message}: give more people, or a larger rate", reason="unsupported_target")
