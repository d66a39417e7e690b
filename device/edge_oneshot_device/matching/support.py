"""How many people it takes to measure a false accept rate."""

import math

from edge_oneshot_device.bundle.manifest import Calibration


def supports(people: int, far: float, strangers: int = 0) -> bool:
    """Whether a number of people suffices to measure a false accept rate: 3 over their pairs does not exceed the rate.

    This is the rule of three (Hanley and Lippman-Hand 1983) over pairs of people, since comparisons between the same
    two people are not independent.

    Args:
        people: Number of people.
        far: False accept rate, 0..1.
        strangers: Number of others who are compared with each of the people, but not with one another.

    Returns:
        Whether it suffices.
    """
    return far * pairs_of_people(people, strangers) >= 3 - 1e-9


def pairs_of_people(people: int, strangers: int = 0) -> int:
    """The number of pairs of people who are compared, see `supports`."""
    return people * (people - 1) // 2 + people * strangers


def people_needed(far: float) -> int:
    """The smallest number of people that supports a false accept rate, see `supports`."""
    people = max(math.ceil(0.5 + math.sqrt(0.25 + 6.0 / far)) - 1, 2)
    return people if supports(people, far) else people + 1


def supported_targets(people: int, strangers: int = 0) -> tuple[float, ...]:
    """Target FARs 5, 2 and 1 of each decade, from 0.5 down to the smallest that so many people support."""
    grid = (float(f"{step}e-{decade}") for decade in range(1, 10) for step in (5, 2, 1))
    return tuple(target for target in grid if supports(people, target, strangers))


def supported_by(calibration: Calibration, far: float) -> bool:
    """Whether the people of a calibration suffice to measure a false accept rate, see `supports`."""
    return supports(calibration.people - calibration.strangers, far, calibration.strangers)
