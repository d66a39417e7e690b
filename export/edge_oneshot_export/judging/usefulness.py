"""Whether an encoder is of any use on the people whom it was calibrated on."""

from collections.abc import Sequence
from typing import Final

from edge_oneshot_device.bundle.manifest import Calibration, InputSection
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.scaling import scaled

JUDGED_AT: Final = 0.05
"""False accept rate, or the least above it that the people support. A small net that learned for a minute rejects 57 %
at 0.01, and is weak but no mistake."""

MOST_REJECTED: Final = 0.5
"""Of right attempts there. One that guesses rejects 95 %, and half where half of the strangers may come in."""

OF_CHANCE: Final = 0.8
"""Of what one that guesses rejects."""


def require_use(name: str, calibrations: Sequence[Calibration], section: InputSection) -> None:
    """Refuse a variant that turns away most right attempts, however many templates a person has.

    Args:
        name: The variant.
        calibrations: All of it.
        section: What it was given.

    Raises:
        ExportError: ``useless``.
    """
    points = [
        (min((point for point in one.points if point.target_far >= JUDGED_AT), key=lambda point: point.target_far), one)
        for one in calibrations
    ]
    point, least = min(points, key=lambda found: found[0].frr)
    if point.frr <= min(MOST_REJECTED, OF_CHANCE * (1.0 - point.target_far)):
        return
    lost = f" ({least.failures_to_acquire} of the images show nothing)" if least.failures_to_acquire else ""
    raise ExportError(
        f"{name} is of no use on these people{lost}: where {point.target_far:.0%} of strangers get in, {point.frr:.0%}"
        f" of right attempts are turned away, at {scaled(section.mean, section.scale)}; see whether these are what it"
        " was trained with, and whether --data shows what it is for (--anyway writes it all the same)",
        reason="useless",
    )
