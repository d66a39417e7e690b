"""Faces that are followed from frame to frame by their places."""

import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.faces.finding import Face

_MOST: Final = 40  # faces that are followed: twice as many as a frame has
_REACH: Final = (1.5, 15.0, 0.25)  # sizes that a face moves at most: always, a second, and seconds that count
_GROWTH: Final = 1.6  # largest change of a face's size from frame to frame
_KNOWN: Final = 8  # looks of a face that are kept


class Followed(msgspec.Struct, eq=False):
    """A face that is followed.

    Attributes:
        face: As seen last.
        seen: When.
        missing_since: Since when it is looked for in vain; None while it is in sight.
        over: Whether its approach is over.
        since: When its approach began.
        views: Embeddings of its usable frames in this approach.
        usable_since: When the first of them was taken.
        embedded: When the last of them was taken.
        reasons: How often its frames were unusable for a reason.
        known: The probes of its approaches that are over.
        latest: What it looked like since then.
        strange: Looks in a row that were unlike all of these.
    """

    face: Face
    seen: float
    since: float
    missing_since: float | None = None
    over: bool = False
    views: list[NDArray[np.float32]] = []
    usable_since: float | None = None
    embedded: float = -math.inf
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    known: deque[NDArray[np.float32]] = msgspec.field(default_factory=lambda: deque(maxlen=_KNOWN))
    latest: NDArray[np.float32] | None = None
    strange: int = 0

    @property
    def looks(self) -> list[NDArray[np.float32]]:
        """What it looked like when its approach was over, and since then."""
        return [*self.known, *([] if self.latest is None else [self.latest])]

    def begin(self, now: float) -> None:
        """Begin an approach."""
        self.since, self.over, self.latest, self.strange = now, False, None, 0
        self.views, self.usable_since, self.reasons = [], None, Counter()


def follow(followed: Sequence[Followed], faces: Sequence[Face], now: float, leaves_after: float) -> list[Followed]:
    """Assign the faces of a frame to those that are followed; a face that fits none is a new one.

    Args:
        followed: The faces so far; they are changed.
        faces: Of a frame.
        now: When it was taken, in seconds.
        leaves_after: Seconds that a face may be looked for in vain; time without frames does not count.

    Returns:
        The faces that are followed now, 40 at most.
    """
    left, new = list(followed), []
    for face in sorted(faces, key=lambda one: -one.detection.size):
        fitting = min(left, key=lambda one: _distance(one, face, now), default=None)
        if fitting is not None and _distance(fitting, face, now) <= 1.0:
            left.remove(fitting)
            fitting.face, fitting.seen, fitting.missing_since = face, now, None
        else:
            new.append(Followed(face, now, now))
    for one in left:
        one.missing_since = now if one.missing_since is None else one.missing_since
    # one that was decided on may be the face whose look is not known yet, in another place
    gone = [one for one in followed if one.missing_since is not None and now - one.missing_since >= leaves_after]
    unknown = any(not one.views and not one.looks for one in [*new, *followed] if one not in gone)
    kept = [one for one in followed if one not in gone or (one.over and one.looks and unknown)]
    return sorted(new + kept, key=lambda one: -one.seen)[:_MOST]


def _distance(one: Followed, face: Face, now: float) -> float:
    """Distance of a face from the place of one that is followed, by how far that may have moved: 1 at most."""
    size, before = face.detection.size, one.face.detection.size
    if not (size > 0.0 and before > 0.0 and max(size, before) <= _GROWTH * min(size, before)):
        return math.inf
    always, speed, most = _REACH
    reach = max(size, before) * (always + speed * min(max(now - one.seen, 0.0), most))
    return float(np.hypot(*(face.detection.points.mean(axis=0) - one.face.detection.points.mean(axis=0)))) / reach
