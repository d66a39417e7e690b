"""The watcher: it follows one face through a challenge. A pass is evidence of a living head, not a proof."""

import math
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.liveness.actions import Evidence, Sighting
from edge_oneshot_device.liveness.challenge import Action, Challenge
from edge_oneshot_device.liveness.parallax import ReferenceView, View
from edge_oneshot_device.matching.decision import scores

FAILURES: Final = (
    "face_lost",
    "several_faces",
    "face_jumped",
    "another_face",
    "too_early",
    "wrong_action",
    "timed_out",
    "not_recorded",
)
"""Reason codes of a failed challenge."""

PROMPTS: Final = {
    "look": "look straight at the camera",
    "hold": "keep looking at the camera",
    "step_back": "step back a little",
    "turn_left": "turn your head to your left, slowly",
    "turn_right": "turn your head to your right, slowly",
    "blink": "blink",
    "come_closer": "come closer, slowly",
}
"""What the person is asked to do, by code."""

_SIDES: Final = (64, 4096)  # pixels of a frame

# seconds
_STILL: Final = 0.4  # that a face looks straight ahead and keeps still before it becomes the reference
_WINDOW: Final = 4.0  # for an action, and for looking straight ahead again afterwards
_REACTION: Final = 0.15  # shortest reaction time of a person
_GAP: Final = 0.35  # that a face may be out of sight

# the face at the beginning
_START: Final = (0.07, 0.16)  # distance between the eyes by the frame's shorter side: sharp, with room to come closer
_ASIDE: Final = 0.25  # largest `View.aside`
_SAME_EYES: Final = 0.8  # likeness of open eyes from frame to frame
_EARLY_LEAN: Final = 0.09  # from which a head turns before it was asked to
_EARLY_SIZE: Final = 1.5  # likewise for coming closer

# largest change a second of the middle (in distances between the eyes), the logarithm of the size, and `View.aside`
_SPEEDS: Final = (4.0, 1.5, 1.2)
_JITTER: Final = (0.3, 0.15, 0.1)  # added to them, because points jitter
_MAX_SECONDS: Final = 0.2  # of movement that are allowed for, however long the face was out of sight


class Liveness(msgspec.Struct, frozen=True, eq=False):
    """How a challenge ended.

    Attributes:
        passed: Whether one face did all actions and was followed without a break.
        reason: ``passed``, or one of `FAILURES`.
        action: The action that was asked when the challenge failed; None when there was none, and after a pass.
        embedding: float32 (size,), the embedding of the face that passed, to be matched: that of the frontal view that
            is most like all other frontal views. None when the challenge failed.
    """

    passed: bool
    reason: str
    action: Action | None
    embedding: NDArray[np.float32] | None


class ChallengeProgress(msgspec.Struct, frozen=True, eq=False):
    """Where a challenge stands.

    Attributes:
        ask: What the person should do now, a code of `PROMPTS`.
        done: Number of actions that were seen.
        result: How the challenge ended; None while it continues.
    """

    ask: str
    done: int
    result: Liveness | None


class Watcher:
    """Follows a face through a challenge, frame by frame; for one thread at a time.

    Args:
        encoder: Encoder of a bundle with a face section.
        challenge: The actions.
        least_score: Two views with a lower score show two people, see `edge_oneshot_device.matching.decision.scores`:
            the bundle's threshold for a false accept rate.
        ended: Is called once with the result, before `feed` returns it. When it raises, the challenge has not passed.

    Raises:
        InputError: ``no_faces``: the encoder's bundle finds no faces.
    """

    def __init__(
        self,
        encoder: Encoder,
        challenge: Challenge,
        least_score: float,
        ended: Callable[[Liveness], None] | None = None,
    ) -> None:
        if encoder.faces is None:
            message = "the bundle finds no faces; use one made by export --pretrained faces"
            raise InputError(message, reason="no_faces")
        self._encoder, self._finder, self._challenge = encoder, encoder.faces, challenge
        self._least_score = least_score
        self._ended = ended
        self._before = -math.inf
        self._reference: ReferenceView | None = None
        self._last: Sighting | None = None
        self._step = 0
        self._still: float | None = None  # time since which the face looks straight ahead
        self._over = 0.0  # when the previous action was complete, or given up
        self._evidence: Evidence | None = None
        self._open: list[float] = []  # likeness of the eyes while no action is asked
        self._frontal: list[NDArray[np.float32]] = []  # embeddings of frontal views; the first is the reference
        self._embedding: NDArray[np.float32]  # of the previous frame
        self._result: Liveness | None = None

    def feed(self, frame: Image.Image, seconds: float) -> ChallengeProgress:
        """Process the next frame.

        Args:
            frame: RGB image, upright, not mirrored.
            seconds: Time of the frame, by a monotonic clock; at least eight frames a second are needed.

        Raises:
            InputError: ``bad_frame``: not such an image, or of another size than 64 to 4096 pixels a side;
                ``wrong_time``: not finite, or not later than the previous frame. The frame is ignored.
            MachineError: ``runtime_failed``, or what `ended` raises.
        """
        _check_frame(frame)
        if not (math.isfinite(seconds) and seconds > self._before):
            message = f"the frame is of {seconds:g} s, the previous one of {self._before:g} s; give frames in order"
            raise InputError(message, reason="wrong_time")
        self._before = seconds
        if self._result is None:
            ask = self._look(frame, seconds)
            if self._result is None:
                return ChallengeProgress(ask, self._step, None)
            self._record(self._result)
        return ChallengeProgress("look", self._step, self._result)

    def _record(self, result: Liveness) -> None:
        """Call `ended`; when it raises, the result is a failure."""
        if self._ended is not None:
            self._result = Liveness(False, "not_recorded", result.action, None)
            self._ended(result)
            self._result = result

    def _look(self, frame: Image.Image, seconds: float) -> str:
        faces = self._finder.find(frame)
        mesh = self._finder.mesh(frame, faces[0]) if len(faces) == 1 else None
        if mesh is None:
            return self._interrupted(len(faces) - (len(faces) == 1), seconds)
        view = View(frame, mesh.points)
        if self._reference is None:
            self._reference = ReferenceView(view)
        seen = Sighting.of(seconds, view, self._reference)
        embedding = self._encoder.embed(self._finder.cut(frame, faces[0]))
        if not self._frontal:
            return self._find_reference(frame, seen, embedding, self._reference)
        if self._jumped(seen):
            return self._fail("face_jumped")
        self._last = seen
        # a turned head is compared with the previous frame only, a frontal one with the first as well
        known = np.stack([self._embedding, self._frontal[0]] if seen.ahead else [self._embedding])
        if float(scores(embedding, known, self._encoder.embedding.metric).min()) < self._least_score:
            return self._fail("another_face")
        self._embedding = embedding
        if seen.ahead:
            self._frontal.append(embedding)
        return self._watch(seen, self._evidence) if self._evidence else self._await_action(seen, self._reference)

    def _interrupted(self, faces: int, seconds: float) -> str:
        """Handle a frame with no face or with several."""
        if self._last is None or not self._frontal:
            self._reference = self._last = self._still = None
            return "look"
        if faces:
            return self._fail("several_faces")
        if seconds - self._last.seconds > _GAP:
            return self._fail("face_lost")
        return self._prompt()

    def _find_reference(
        self, frame: Image.Image, seen: Sighting, embedding: NDArray[np.float32], reference: ReferenceView
    ) -> str:
        """At the beginning: wait for a face that looks straight ahead, keeps still and has room to come closer."""
        size = seen.view.eye_distance / min(frame.size)
        if size > _START[1]:
            self._reference = self._last = self._still = None
            return "step_back"
        calm = self._last is not None and not self._jumped(seen) and seen.ahead
        calm = calm and reference.eyes(seen.view) > _SAME_EYES
        self._last = seen
        if not calm or size < _START[0] or abs(seen.view.aside) > _ASIDE:
            self._reference, self._still = ReferenceView(seen.view), None
            return "come_closer" if size < _START[0] else "look"
        if self._still is None:
            self._still = seen.seconds
        if seen.seconds - self._still < _STILL:
            return "look"
        self._embedding = embedding
        self._frontal.append(embedding)
        self._still = seen.seconds
        return "hold"

    def _await_action(self, seen: Sighting, reference: ReferenceView) -> str:
        """Before an action is asked, and after the last one: the face has to look straight ahead."""
        if self._still is None:
            if seen.ahead:
                self._still = seen.seconds
            elif seen.seconds - self._over > _WINDOW:
                return self._fail("timed_out")
            return self._prompt()
        if abs(seen.lean) > _EARLY_LEAN or seen.size > _EARLY_SIZE:
            return self._fail("too_early")
        if not seen.ahead:
            return "hold"
        self._open.append(reference.eyes(seen.view))
        last = self._step == len(self._challenge.actions)
        if seen.seconds - self._still >= (_STILL if last else self._challenge.waits[self._step]):
            if last:
                return self._pass()
            action = self._challenge.actions[self._step]
            self._evidence = Evidence(action, seen.seconds, reference, float(np.median(self._open)))
        return self._prompt()

    def _watch(self, seen: Sighting, evidence: Evidence) -> str:
        """After an action was asked: collect evidence until it is seen."""
        shown = evidence.shown(seen)
        if evidence.contrary:
            return self._fail("wrong_action")
        if shown:
            if seen.seconds - evidence.asked < _REACTION:
                return self._fail("too_early")
            self._step += 1
            self._evidence, self._still, self._over = None, None, seen.seconds
        elif seen.seconds - evidence.asked > _WINDOW:
            changed = self._challenge.without_blink() if evidence.action == "blink" else None
            if changed is None:
                return self._fail("timed_out")
            self._challenge = changed
            self._evidence, self._still, self._over = None, None, seen.seconds
        return self._prompt()

    def _jumped(self, seen: Sighting) -> bool:
        """Whether the face moved, grew or turned faster than a head does."""
        assert self._last is not None
        elapsed, unit = min(seen.seconds - self._last.seconds, _MAX_SECONDS), self._last.view.eye_distance
        moved = float(np.hypot(*(seen.view.middle - self._last.view.middle))) / unit
        grown = abs(math.log(seen.size / self._last.size))
        swung = abs(seen.view.aside - self._last.view.aside)
        return any(
            change > speed * elapsed + jitter
            for change, speed, jitter in zip((moved, grown, swung), _SPEEDS, _JITTER, strict=True)
        )

    def _prompt(self) -> str:
        """What the person should do now, a code of `PROMPTS`."""
        if self._evidence is not None:
            return self._evidence.action
        if self._still is not None:
            return "hold"
        return "step_back" if self._last is not None and self._last.size > 1.0 and not self._last.near_start else "look"

    def _fail(self, reason: str) -> str:
        action = None if self._evidence is None else self._evidence.action
        self._result = Liveness(False, reason, action, None)
        return "look"

    def _pass(self) -> str:
        views = np.stack(self._frontal)
        alike = [float(scores(one, views, self._encoder.embedding.metric).sum()) for one in views]
        self._result = Liveness(True, "passed", None, views[int(np.argmax(alike))])
        return "look"


def _check_frame(frame: Image.Image) -> None:
    what = type(frame).__name__
    if isinstance(frame, Image.Image):
        what = f"an image of mode {frame.mode}, {frame.width} x {frame.height}"
        if frame.mode == "RGB" and all(_SIDES[0] <= side <= _SIDES[1] for side in frame.size):
            try:
                frame.load()
                return
            except (OSError, SyntaxError, ValueError) as error:
                what = f"damaged ({error})"
    message = f"the frame is {what}: give a Pillow image of mode RGB, {_SIDES[0]} to {_SIDES[1]} pixels a side"
    raise InputError(message, reason="bad_frame")
