"""A made-up calibration, of which a test changes what it is about."""

from typing import Any

import msgspec

from edge_oneshot_device.bundle.manifest import Calibration, OperatingPoint, SimilarityMap, Tail


def calibration(
    points: tuple[tuple[float, float], ...] = ((0.1, 0.2), (0.01, 0.4), (0.001, 0.7)),
    *,
    target_far: float | None = None,
    tail: tuple[float, float, float, float] = (0.5, 0.005, 0.1, 0.0),
    **changed: Any,
) -> Calibration:
    """Make one for cosine scores.

    Args:
        points: (target_far, threshold) each; their false reject rates are 0, 0.1, 0.2 and so on.
        target_far: The default; None: that of the last point.
        tail: Threshold, false accept rate, scale and shape.
        changed: Other fields.
    """
    made = Calibration(
        variant="int8",
        rule="best",
        templates=1,
        points=tuple(
            OperatingPoint(target_far=far, threshold=threshold, far=far, far_upper_95=far, frr=0.1 * place)
            for place, (far, threshold) in enumerate(points)
        ),
        target_far=points[-1][0] if target_far is None else target_far,
        tail=Tail(threshold=tail[0], far=tail[1], scale=tail[2], shape=tail[3]),
        margin=0.05,
        similarity=SimilarityMap(scores=(0.0, 0.5, 1.0), degrees=(0.1, 0.5, 0.9)),
        genuine=100,
        impostor=1000,
        people=20,
        failures_to_enrol=0,
        failures_to_acquire=0,
        data="made up",
        provisional=False,
    )
    return msgspec.structs.replace(made, **changed)
