"""Refuse an encoder that is useless on the people whom it was calibrated on."""

from collections.abc import Sequence
from typing import Final

from edge_oneshot_device.bundle.manifest import Calibration, InputSection
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.scaling import scaled

JUDGED_AT: Final = 0.05
"""Target FAR at which the FRR is judged, or the next larger one that the people support. A small net that was trained
for a minute has an FRR of 57 % at 0.01: it is weak, but no mistake."""

MAX_FRR: Final = 0.5
"""Largest FRR there. An encoder that guesses has 95 %, or 50 % at a FAR of 0.5."""

MAX_SHARE_OF_CHANCE: Final = 0.8
"""Largest FRR as a share of that of an encoder that guesses."""


def require_use(name: str, calibrations: Sequence[Calibration], section: InputSection) -> None:
    """Refuse a variant that rejects most genuine attempts, whatever the number of templates.

    Args:
        name: The variant.
        calibrations: All calibrations of the variant.
        section: The encoder's input, for the message.

    Raises:
        ExportError: ``useless``.
    """
    points = [
        (min((point for point in one.points if point.target_far >= JUDGED_AT), key=lambda point: point.target_far), one)
        for one in calibrations
    ]
    point, least = min(points, key=lambda found: found[0].frr)
    if point.frr <= min(MAX_FRR, MAX_SHARE_OF_CHANCE * (1.0 - point.target_far)):
        return
    lost = f" ({least.failures_to_acquire} of the images have no content)" if least.failures_to_acquire else ""
    raise ExportError(
        f"{name} does not tell these people apart{lost}: at a false accept rate of {point.target_far:.0%} it rejects"
        f" {point.frr:.0%} of genuine attempts, with {scaled(section.mean, section.scale)}; check that it was trained"
        " with these, and that --data shows what it is for (--anyway writes the bundle regardless)",
        reason="useless",
    )
