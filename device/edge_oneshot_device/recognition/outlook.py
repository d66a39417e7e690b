"""The expected errors of a door with the people who are enrolled: strangers accepted, and people rejected."""

import math
from collections.abc import Sequence
from typing import Final

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoder import Encoder
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

FORECAST: Final = (10, 100)
"""Numbers of people for which `init` says beforehand which errors to expect."""


def forecast(gallery: Gallery, manifest: Manifest, encoder: Encoder, target_far: float | None) -> list[Outlook]:
    """The outlook with everybody enrolled, if anybody is, and with more people; arguments as for `outlook_of`."""
    now = outlook_of(gallery, manifest, encoder, target_far)
    if now is None:
        return []
    more = [number for number in FORECAST if number > now.people]
    return [*([now] if now.people else []), *_outlooks(gallery, manifest, encoder, target_far, more)]


def outlook_of(gallery: Gallery, manifest: Manifest, encoder: Encoder, target_far: float | None) -> Outlook | None:
    """The outlook with everybody enrolled; None where the bundle is not calibrated for them.

    Args:
        gallery: Who is enrolled.
        manifest: Has the calibration.
        encoder: Of the bundle.
        target_far: Wanted false accept rate of an attempt; None takes the calibration's.

    Raises:
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The disk failed.
    """
    people = gallery.template_cache(encoder.embedding.metric, manifest.rule).index.people
    return next(iter(_outlooks(gallery, manifest, encoder, target_far, [people])), None)


def _outlooks(
    gallery: Gallery, manifest: Manifest, encoder: Encoder, target_far: float | None, people: Sequence[int]
) -> list[Outlook]:
    """The outlook for each number of people, with as many templates as those enrolled have; none if uncalibrated."""
    enrolled = gallery.template_cache(encoder.embedding.metric, manifest.rule)
    try:
        calibration = calibration_for(manifest, encoder.variant, enrolled.most, enrolled.fewest)
    except InputError:
        return []
    wanted = calibration.target_far if target_far is None else target_far
    return [outlook(calibration, encoder.embedding.metric, wanted, number) for number in people]


def resolve_target(
    manifest: Manifest, variant: str, target_far: float | None, *, strictly: bool = False
) -> tuple[float | None, bool]:
    """The target for one template a person, and whether its threshold is provisional.

    Args:
        manifest: Has the calibration.
        variant: Name of the variant.
        target_far: Wanted false accept rate of an attempt; None takes the calibration's.
        strictly: Refuse a target that cannot be kept.

    Raises:
        InputError: With `strictly`: the calibration cannot keep the target even for one person enrolled (reason
            ``bad_target_far``) or cannot keep any (``unreachable``); or no target was named, and the calibration's own
            is above `LOOSE_FAR` (``target_far_needed``).
    """
    if target_far is None and not any(c.variant == variant for c in manifest.calibration):
        return None, False
    calibration = calibration_for(manifest, variant, 1)
    resolved = calibration.target_far if target_far is None else target_far
    metric = manifest.embedding.metric
    threshold = threshold_for(calibration, metric, resolved)
    if strictly and threshold.value > highest_score(metric):
        message = f"variant {variant} of {manifest.name} takes other people for the same: no score tells them apart"
        raise InputError(f"{message}; train and export it anew", reason="unreachable")
    if strictly and target_far is None and resolved > LOOSE_FAR:
        message = f"{variant} of {manifest.name} is calibrated for a false accept rate of {percent(resolved)}, which is"
        message += " unfit for a door: calibrate it with more people, or, to let so many strangers in, say"
        raise InputError(f"{message} --target-far {resolved:g}", reason="target_far_needed")
    if strictly and threshold.most_people < 1:
        message = f"target FAR {resolved:g}: what {variant} was calibrated with promises {_up(threshold.kept_far):g}"
        raise InputError(
            f"{message} at the least: ask for that, or calibrate with more people", reason="bad_target_far"
        )
    return resolved, threshold.provisional


def _up(rate: float) -> float:
    """A rate with two digits, rounded up."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / step * (1 - 1e-9)) * step
