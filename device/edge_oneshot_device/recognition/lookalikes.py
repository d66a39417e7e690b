"""Look-alikes at this door: people enrolled of whom one would be accepted as the other."""

from collections.abc import Callable

import msgspec

from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.roster import details_of
from edge_oneshot_device.matching.lookalikes import AlikePair, Door, find_alike
from edge_oneshot_device.matching.thresholds import highest_score, likeness, threshold_for
from edge_oneshot_device.recognition.policy import Policy


class LookAlike(msgspec.Struct, frozen=True):
    """Two people of whom one would be accepted as the other from an image like an enrolled one.

    Attributes:
        people: Their two names, in alphabetical order.
        score: The highest that an enrolled image of the one has when compared with the other.
        threshold: The score from which `verify` accepts (1:1).
        likeness, likeness_needed: Both on a scale from 0 to 100, see `thresholds.likeness`.
        verify: Whether `verify` accepts the one as the other.
        identify: Whether the score reaches the threshold of `identify` (1:N) too, which then answers ambiguous, or with
            the other's name.
        apart_at: The largest calibrated target FAR at which `verify` tells them apart; None where there is none.
    """

    people: tuple[str, str]
    score: float
    threshold: float
    likeness: float
    likeness_needed: float
    verify: bool
    identify: bool
    apart_at: float | None


class LookAlikes(msgspec.Struct, frozen=True):
    """The look-alikes among everybody enrolled.

    Attributes:
        pairs: Those that exceed their threshold by most, in descending order; as many as were asked for.
        count: Number of all pairs.
        identify: How many of them are confused by `identify` too.
        alike: Number of people who are in at least one pair.
        people: Number of people enrolled.
        target_far: Target false accept rate of an attempt.
        provisional: Whether the threshold of `verify` rests on less data than it should.
    """

    pairs: list[LookAlike]
    count: int
    identify: int
    alike: int
    people: int
    target_far: float
    provisional: bool


def door_of(policy: Policy, most: int, fewest: int, people: int) -> Door:
    """The thresholds of a door.

    Args:
        policy: The calibration and the target false accept rate.
        most: The largest number of templates that anybody has.
        fewest: The smallest.
        people: Number of people enrolled; 0 counts as 1.

    Raises:
        InputError: Reason ``uncalibrated``: the bundle is not calibrated for so many templates.
    """
    everybody = policy.calibration(most, fewest)
    each = [policy.calibration(count) for count in range(1, most + 1)]
    return Door(
        policy.metric,
        policy.rule,
        tuple(threshold_for(one, policy.metric, policy.target(one)).value for one in each),
        threshold_for(everybody, policy.metric, policy.target(everybody), max(people, 1)).value,
    )


def find_look_alikes(
    gallery: Gallery, policy: Policy, limit: int, report: Callable[[int, int], None] | None = None
) -> LookAlikes:
    """Find the people enrolled who look alike to the encoder. Everybody is compared with everybody.

    Args:
        gallery: Who is enrolled.
        policy: The calibration and the target false accept rate.
        limit: The most pairs to return, at least 1; all of them are counted.
        report: Called with the number of pairs of people compared so far and the number of all.

    Raises:
        InputError: Reason ``uncalibrated``.
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The disk failed.
    """
    cache = gallery.template_cache(policy.metric, policy.rule)
    people = cache.index.people
    door = door_of(policy, cache.most, cache.fewest, people)
    found = find_alike(*cache.index.everything(), door, limit, report)
    pairs = []
    for pair in found.closest:
        with gallery.reading() as transaction:
            details = [details_of(transaction, number) for number in (pair.first, pair.second)]
        names = [one.name for one in details if one is not None]
        if len(names) == 2:  # else somebody was forgotten meanwhile
            pairs.append(_look_alike(policy, pair, sorted(names)))
    calibration = policy.calibration(cache.most, cache.fewest)
    target = policy.target(calibration)
    provisional = threshold_for(calibration, policy.metric, target).provisional
    return LookAlikes(pairs, found.total, found.identify, found.people, people, target, provisional)


def _look_alike(policy: Policy, pair: AlikePair, names: list[str]) -> LookAlike:
    first, second = names
    calibration = policy.calibration(pair.templates)
    highest = highest_score(policy.metric)
    apart = (point.target_far for point in calibration.points if pair.score < point.threshold <= highest)
    return LookAlike(
        people=(first, second),
        score=pair.score,
        threshold=pair.threshold,
        likeness=likeness(calibration, policy.metric, pair.score),
        likeness_needed=likeness(calibration, policy.metric, pair.threshold),
        verify=pair.verify,
        identify=pair.identify,
        apart_at=next(apart, None),
    )
