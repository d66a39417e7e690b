"""Recognition of an action, frame by frame."""

from typing import Final

import msgspec
import numpy as np

from edge_oneshot_device.liveness.challenge import Action
from edge_oneshot_device.liveness.headshape import Movement, head_shape
from edge_oneshot_device.liveness.parallax import ReferenceView, View

# How they were chosen is in docs/experiments/liveness.md. Lengths are in distances between the eyes of the reference.
_LEANING: Final = 0.04  # lean of a head that is turned
_FORESHORTENED: Final = 0.8  # flatness: a turning head is as deep as it is wide, and foreshortens little
_TURN: Final = 0.2  # `Movement.turn` of a head that is turned
_TURNED_FRAMES: Final = (3, 8)  # that show it: at least, and the latest that are looked at
_STRAIGHT: Final = 0.08  # `Movement.turn` below which a head is not turned yet
_MAX_STEP: Final = 0.5  # share of the whole turn
_STEP_SECONDS: Final = 0.1  # within which a step is measured, or from one frame to the next at lower frame rates
_CLOSE: Final = 1.6  # times the reference's size, from which perspective is measured
_NEARNESS: Final = 0.018  # per unit of growth of the size
_NEAR_FRAMES: Final = 3  # over which it is averaged, at least
_AHEAD: Final = 0.045  # lean below which a head looks straight ahead
_START_SIZES: Final = (0.7, 1.35)  # of a head that is back where it began
_FLAT: Final = 0.85  # flatness below which foreshortening distorts the eyes
_CLOSED: Final = (0.03, 0.07)  # how far the likeness of closed eyes is below that of open ones: at least, and enough
_UNREST: Final = 4.0  # times the upper quartile of what open eyes vary by is closed as well
_OPEN: Final = 0.5  # share of it below which eyes are open again
_BLINK_SECONDS: Final = 0.6  # that eyes are closed in a blink, at most


class Sighting(msgspec.Struct, frozen=True, eq=False):
    """The face in a frame, compared with the reference view.

    Attributes:
        seconds: Time of the frame.
        view: The face.
        lean, size, flatness: See `ReferenceView.lean` and `ReferenceView.shape`.
    """

    seconds: float
    view: View
    lean: float
    size: float
    flatness: float

    @classmethod
    def of(cls, seconds: float, view: View, reference: ReferenceView) -> "Sighting":
        """Measure a view.

        Args:
            seconds: Time of the frame.
            view: The face in it.
            reference: The view that it is compared with.
        """
        return cls(seconds, view, reference.lean(view), *reference.shape(view))

    @property
    def ahead(self) -> bool:
        """Whether the face looks straight ahead from about where it began."""
        return abs(self.lean) < _AHEAD and self.near_start and self.flatness > _FLAT

    @property
    def near_start(self) -> bool:
        """Whether the face is about as large as it was at the beginning."""
        return _START_SIZES[0] < self.size < _START_SIZES[1]


class Evidence:
    """Evidence of an action in the frames since it was asked.

    Args:
        action: The action.
        asked: When it was asked, in seconds.
        reference: The view that frames are compared with.
        likeness: Median likeness of the open eyes while no action was asked, see `ReferenceView.eyes`.

    Attributes:
        action, asked: As given.
        contrary: Whether the head turned to the wrong side.
    """

    def __init__(self, action: Action, asked: float, reference: ReferenceView, likeness: float) -> None:
        self.action, self.asked = action, asked
        self.contrary = False
        self._reference, self._likeness = reference, likeness
        self._path = [(asked, 0.0)]  # seconds and `Movement.turn` since the head last looked straight ahead
        self._step = 0.0  # the largest step on this path
        self._turned: list[Movement] = []  # on this path
        self._nearness: list[float] = []
        self._opened = False
        self._varied: list[float] = []  # how far the likeness of open eyes is from the median
        self._closed: float | None = None

    def shown(self, seen: Sighting) -> bool:
        """Whether the action is complete with this frame."""
        if self.action == "blink":
            return self._blinked(seen)
        if self.action == "come_closer":
            return self._neared(seen)
        return self._has_turned(seen, 1.0 if self.action == "turn_left" else -1.0)

    def _has_turned(self, seen: Sighting, side: float) -> bool:
        """Whether a head turned continuously: two photos that are exchanged show no view between them."""
        found = None if seen.flatness < _FORESHORTENED else self._reference.movement(seen.view)
        if found is None:
            return False
        turn, leans = side * found.turn, abs(seen.lean) > _LEANING
        if leans and turn <= -_TURN:
            self.contrary |= head_shape(self._reference.head, [found]).head
        if turn < _STRAIGHT:
            self._path, self._step, self._turned = [(seen.seconds, max(turn, 0.0))], 0.0, []
            return False
        recent = [before for seconds, before in self._path if seen.seconds - seconds < _STEP_SECONDS]
        self._step = max(self._step, turn - min(recent or [self._path[-1][1]]))
        self._path.append((seen.seconds, turn))
        if not leans or turn < _TURN:
            return False
        least, most = _TURNED_FRAMES
        self._turned = [*self._turned[1 - most :], found]
        if len(self._turned) < least or self._step >= _MAX_STEP * max(turn for _, turn in self._path):
            return False
        return head_shape(self._reference.head, self._turned).head

    def _neared(self, seen: Sighting) -> bool:
        """Whether the face came closer: perspective enlarges the nose more than the ears."""
        if seen.size < _CLOSE or seen.flatness < _FLAT:
            return False
        self._nearness.append(self._reference.nearness(seen.view) / (seen.size - 1.0))
        return len(self._nearness) >= _NEAR_FRAMES and float(np.mean(self._nearness)) > _NEARNESS

    def _blinked(self, seen: Sighting) -> bool:
        """Whether the eyes were open, closed and open again; a frame in which the face leans or tilts is ignored.

        Narrow eyes change little when they close. So how much is enough depends on how still they were.
        """
        if not seen.ahead:
            return False
        drop, (least, enough) = self._likeness - self._reference.eyes(seen.view), _CLOSED
        unrest = float(np.quantile(self._varied, 0.75)) if self._varied else enough
        limit = min(max(_UNREST * unrest, least), enough)
        if drop < _OPEN * limit:
            if self._closed is not None and seen.seconds - self._closed <= _BLINK_SECONDS:
                return True
            self._opened, self._closed = True, None
        elif drop > limit and self._opened and self._closed is None:
            self._closed = seen.seconds
        if self._closed is None:
            self._varied.append(abs(drop))
        return False
