"""The error rates of a door with the people who are enrolled: strangers accepted, genuine attempts rejected."""

import math
from collections.abc import Sequence
from typing import Final

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.formatting import percent
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.matching.thresholds import (
    LOOSE_FAR,
    Outlook,
    calibration_for,
    highest_score,
    outlook,
    threshold_for,
)
from edge_oneshot_device.recognition.policy import Policy

FORECAST: Final = (10, 100)
"""Numbers of people for which `init` reports the error rates in advance."""


def forecast(gallery: Gallery, policy: Policy) -> list[Outlook]:
    """The error rates with the people enrolled, if any, and with more people; arguments and errors as `outlook_of`.

    Returns:
        An outlook for each number of people; empty where the bundle is uncalibrated.
    """
    now = outlook_of(gallery, policy)
    if now is None:
        return []
    more = [number for number in FORECAST if number > now.people]
    return [*([now] if now.people else []), *_outlooks(gallery, policy, more)]


def outlook_of(gallery: Gallery, policy: Policy) -> Outlook | None:
    """The error rates with the people enrolled.

    Args:
        gallery: The people enrolled.
        policy: The calibration and the target false accept rate.

    Returns:
        The outlook; None where the bundle is uncalibrated for them.

    Raises:
        IntegrityError: The gallery is damaged, or was made with another encoder.
        MachineError: The disk failed.
    """
    people = gallery.template_cache(policy.metric, policy.rule).index.people
    return next(iter(_outlooks(gallery, policy, [people])), None)


def _outlooks(gallery: Gallery, policy: Policy, people: Sequence[int]) -> list[Outlook]:
    """The outlook for each number of people, with as many templates as those enrolled have; none if uncalibrated."""
    cache = gallery.template_cache(policy.metric, policy.rule)
    try:
        calibration = policy.calibration(cache.most, cache.fewest)
    except InputError:
        return []
    target = policy.target(calibration)
    return [outlook(calibration, policy.metric, target, number) for number in people]


def resolve_target(
    manifest: Manifest, variant: str, target_far: float | None, *, strictly: bool = False
) -> tuple[float | None, bool]:
    """The target false accept rate that is used, with one template for each person.

    Args:
        manifest: Holds the calibration.
        variant: The variant in use.
        target_far: The target that was asked for; None takes the default of the calibration.
        strictly: Refuse a target that the calibration does not support.

    Returns:
        The target, None where the variant is uncalibrated; and whether its threshold is provisional.

    Raises:
        InputError: `strictly`, and the calibration does not support the target even for one person (reason
            ``bad_target_far``), or supports none (``unreachable``); or no target was asked for and the default is above
            `LOOSE_FAR` (``target_far_needed``).
    """
    if target_far is None and not any(c.variant == variant for c in manifest.calibration):
        return None, False
    calibration = calibration_for(manifest, variant, 1)
    resolved = calibration.target_far if target_far is None else target_far
    metric = manifest.embedding.metric
    threshold = threshold_for(calibration, metric, resolved)
    if strictly and threshold.value > highest_score(metric):
        message = f"variant {variant} of {manifest.name} cannot tell people apart at any threshold"
        raise InputError(f"{message}: train and export it again", reason="unreachable")
    if strictly and target_far is None and resolved > LOOSE_FAR:
        message = f"{variant} of {manifest.name} is calibrated for a false accept rate of {percent(resolved)}, too high"
        message += " for a door: calibrate it with more people, or accept that many strangers with"
        raise InputError(f"{message} --target-far {resolved:g}", reason="target_far_needed")
    if strictly and threshold.most_people < 1:
        message = f"target FAR {resolved:g}: the calibration of {variant} supports {_up(threshold.kept_far):g} or more"
        raise InputError(f"{message}: use that, or calibrate with more people", reason="bad_target_far")
    return resolved, threshold.provisional


def _up(rate: float) -> float:
    """A rate rounded up to two digits."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / step * (1 - 1e-9)) * step
