"""Whether an action that was asked is seen, frame by frame."""

from typing import Final

import msgspec
import numpy as np

from edge_oneshot_device.liveness.challenge import Action
from edge_oneshot_device.liveness.parallax import ReferenceView, View

# How they were chosen is in docs/experiments/liveness.md. Lengths are in distances between the eyes of the reference.
_LEANING: Final = 0.04  # lean of a head that is turned
_FORESHORTENED: Final = 0.8  # of a face's shape: a head that turns is as deep as it is wide, and hardly flattens
_RELIEF: Final = 0.04
_TURNED: Final = 3  # frames that show it
_STRAIGHT: Final = 0.02  # relief of a head that is not turned yet
_STEP: Final = 0.5  # of the whole turn, that a head does at most
_BRIEF: Final = 0.1  # within so many seconds, or from one frame to the next where these are fewer
_CLOSE: Final = 1.6  # times the reference's size, from where perspective shows
_NEARNESS: Final = 0.018  # nearness for each time that the face is larger
_NEARED: Final = 3  # frames that it is the mean of, at least
_AHEAD: Final = 0.045  # lean of a head that looks straight ahead
_BACK: Final = (0.7, 1.35)  # size of a head that is where it was
_FLAT: Final = 0.85  # of a face's shape, from which foreshortening hides the eyes
_CLOSED: Final = 0.07  # that the likeness of the eyes falls below that of open ones
_OPEN: Final = 0.04  # and from where they are open again
_BLINK: Final = 0.6  # seconds that eyes are closed in a blink, at most


class Sighting(msgspec.Struct, frozen=True, eq=False):
    """The face in a frame, held against the reference.

    Attributes:
        seconds: When it was seen.
        view: What was seen.
        lean, size, flatness: See `ReferenceView.lean` and `ReferenceView.shape`.
    """

    seconds: float
    view: View
    lean: float
    size: float
    flatness: float

    @classmethod
    def of(cls, seconds: float, view: View, reference: ReferenceView) -> "Sighting":
        """Measure a view."""
        return cls(seconds, view, reference.lean(view), *reference.shape(view))

    @property
    def ahead(self) -> bool:
        """Whether the face looks straight ahead, from where it began."""
        return abs(self.lean) < _AHEAD and self.near_start and self.flatness > _FLAT

    @property
    def near_start(self) -> bool:
        """Whether it is about as large as it was."""
        return _BACK[0] < self.size < _BACK[1]


class Evidence:
    """What was seen of an action since it was asked.

    Args:
        action: What was asked.
        asked: When, in seconds.
        reference: The face before.
        likeness: Of its open eyes, see `ReferenceView.eyes`: the median while nothing was asked.

    Attributes:
        action, asked: As given.
        contrary: Whether the head turned to the other side.
    """

    def __init__(self, action: Action, asked: float, reference: ReferenceView, likeness: float) -> None:
        self.action, self.asked = action, asked
        self.contrary = False
        self._reference, self._likeness = reference, likeness
        self._way = [(asked, 0.0)]  # seconds and relief, since the head looked straight ahead
        self._step = 0.0  # the largest on it
        self._turned = 0
        self._nearness: list[float] = []
        self._opened = False
        self._closed: float | None = None

    def shown(self, seen: Sighting) -> bool:
        """Whether the action is complete with this sighting."""
        if self.action == "blink":
            return self._blinked(seen)
        if self.action == "come_closer":
            return self._neared(seen)
        return self._has_turned(seen, 1.0 if self.action == "turn_left" else -1.0)

    def _has_turned(self, seen: Sighting, side: float) -> bool:
        """Whether a head went all the way: photos of two views that are exchanged show none that lies between."""
        found = self._reference.relief(seen.view)
        if seen.flatness < _FORESHORTENED or not found.found:
            return False
        relief, turned = side * found.least, found.round and abs(seen.lean) > _LEANING
        self.contrary |= turned and relief <= -_RELIEF
        if relief < _STRAIGHT:
            self._way, self._step, self._turned = [(seen.seconds, max(relief, 0.0))], 0.0, 0
            return False
        just = [before for seconds, before in self._way if seen.seconds - seconds < _BRIEF] or [self._way[-1][1]]
        self._step = max(self._step, relief - min(just))
        self._way.append((seen.seconds, relief))
        self._turned += turned and relief >= _RELIEF
        return self._turned >= _TURNED and self._step < _STEP * max(relief for _, relief in self._way)

    def _neared(self, seen: Sighting) -> bool:
        if seen.size < _CLOSE or seen.flatness < _FLAT:
            return False
        self._nearness.append(self._reference.nearness(seen.view) / (seen.size - 1.0))
        return len(self._nearness) >= _NEARED and float(np.mean(self._nearness)) > _NEARNESS

    def _blinked(self, seen: Sighting) -> bool:
        """Whether the eyes were open, closed and open again; a face that leans or tilts says nothing of them."""
        if not seen.ahead:
            return False
        less = self._likeness - self._reference.eyes(seen.view)
        if less < _OPEN:
            if self._closed is not None and seen.seconds - self._closed <= _BLINK:
                return True
            self._opened, self._closed = True, None
        elif less > _CLOSED and self._opened and self._closed is None:
            self._closed = seen.seconds
        return False
