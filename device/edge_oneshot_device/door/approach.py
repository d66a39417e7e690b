"""An approach: one face from its appearance to its leaving, and the one probe that is decided.

The nearest face is looked at. Its first usable frames are embedded and joined to a probe, provided that they agree with
one another; then nothing more is made of this face until it has left. Faces are followed by their places, and known
again by their embeddings, so that neither somebody who stands at the door nor two who stand there side by side are
tried again and again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric
from edge_oneshot_device.door.camera import Frame
from edge_oneshot_device.door.configuration import ApproachSection
from edge_oneshot_device.door.following import Followed, follow
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import require_content
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import Face
from edge_oneshot_device.matching.decision import scores

Signal = Literal["appeared", "ready", "unusable", "left"]

_NEARER: Final = 1.25  # by its size, so much nearer another face takes the place of the one that is looked at
_AGAIN: Final = 0.5  # seconds after which a face that is done with is compared with what it looked like
_STRANGE: Final = 3  # looks in a row that are unlike it, which make another person
_SPACING: Final = 0.5  # of the window's share of a frame, that embedded frames are apart at least


class Sight(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a frame brought.

    Attributes:
        signal: ``appeared``: a face is looked at; ``ready``: its probe is there; ``unusable``: no frame of it could be
            used for too long; ``left``: it is gone, or one that was decided on already. None: nothing new.
        probe: float32 (d,), with ``ready``; see `fuse`.
        frames: How many frames of the face are joined so far.
        reason: Why this frame is not usable: a code of `edge_oneshot_device.faces.finding.FACE_FAULTS`, or
            ``no_content``; with ``unusable`` the commonest of the approach. None: it is usable, or nobody is there.
        usable_since: `Frame.seconds` of the approach's first usable frame.
        box: Left, top, right and bottom of the face in pixels of the frame; None while it is out of sight.
        stages: Seconds that ``find``, ``gate`` and ``embed`` took.
    """

    signal: Signal | None = None
    probe: NDArray[np.float32] | None = None
    frames: int = 0
    reason: str | None = None
    usable_since: float | None = None
    box: tuple[float, float, float, float] | None = None
    stages: dict[str, float]


class Approaches:
    """Follows faces from frame to frame and makes one probe of each approach; for one thread at a time.

    Args:
        encoder: Encoder of a bundle with a face section.
        section: How many frames are joined, and how long they are waited for.
        least_score: Frames with a lower score show two people, see `edge_oneshot_device.matching.decision.scores`: the
            bundle's threshold of 1:1, which `edge_oneshot_device.recognition.recognizer.Recognizer.least_score` tells.

    Raises:
        InputError: ``no_faces``: the encoder's bundle finds no faces.
    """

    def __init__(self, encoder: Encoder, section: ApproachSection, least_score: float) -> None:
        if encoder.faces is None:
            message = "the bundle finds no faces; use one made by export --pretrained faces"
            raise InputError(message, reason="no_faces")
        self._encoder, self._finder = encoder, encoder.faces
        self._section, self._least_score = section, least_score
        self._followed: list[Followed] = []
        self._active: Followed | None = None
        self._before: float | None = None
        self._stages: dict[str, float] = {}

    def see(self, frame: Frame) -> Sight:
        """Look at a frame.

        Args:
            frame: Later than the frames before it.

        Raises:
            MachineError: The runtime failed.
        """
        self._stages = {}
        now, before = frame.seconds, self._before
        self._before = now
        with self._timed("find"):
            found = self._finder.search(frame.image)
            faces = [face for face in found if face.detection.size >= self._section.nearness]
        self._followed = follow(self._followed, faces, now, self._section.leaves_after)
        active = self._active
        if active is not None and active not in self._followed:
            self._active = None
            return Sight(signal="left", stages=self._stages)
        signal = self._choose(now)
        active = self._active
        if active is None:
            return Sight(signal=signal, stages=self._stages)
        box = None if active.missing_since is not None else _corners(active.face)
        if active.over:
            if box is not None and self._is_another(frame, active):
                signal = "appeared"
            return self._sight(active, signal, None, box)
        reason, restarted = self._collect(frame, active, faces)
        if active.over:  # known again: it had its attempt
            return self._sight(active, None if signal == "appeared" else "left", None, box)
        signal = "appeared" if restarted else signal
        if signal is None:
            step = 0.0 if before is None else now - before
            return self._decide(active, now, step, reason, box)
        return self._sight(active, signal, reason, box)

    def _choose(self, now: float) -> Signal | None:
        """Choose the face that is looked at."""
        visible = [one for one in self._followed if one.missing_since is None]
        upright = [one for one in visible if not one.face.turned] or visible
        nearest = max(upright, key=lambda one: one.face.detection.size, default=None)
        active = self._active
        if nearest is None or nearest is active:
            return None
        if active is not None:
            if active.missing_since is not None and not active.over:
                return None  # it may be back in the next frame
            stays = active in upright or (active in visible and not active.over)
            if stays and _NEARER * active.face.detection.size >= nearest.face.detection.size:
                return None
        running = active is not None and not active.over
        self._active = nearest
        if nearest.over:
            return "left" if running else None
        nearest.begin(now)
        return "appeared"

    def _collect(self, frame: Frame, active: Followed, faces: Sequence[Face]) -> tuple[str | None, Signal | None]:
        """Embed the active face, if the frame is usable and its turn has come.

        Returns:
            Why the frame is not usable; ``appeared`` where it shows somebody else, ``left`` where that is known.
        """
        now, section = frame.seconds, self._section
        if active.missing_since is not None:
            reason: str | None = "no_face"
        elif section.several == "refuse" and len(self._finder.near(faces)) > 1:
            reason = "several_faces"
            active.views, active.usable_since = [], None  # all frames have to show one person alone
        elif active.views and (
            len(active.views) >= section.frames or now - active.embedded < _SPACING * section.window / section.frames
        ):
            return None, None
        else:
            view, reason = self._embed(frame, active)
            if view is not None:
                return None, self._add(active, view, now)
        active.reasons[reason or ""] += 1
        return reason, None

    def _add(self, active: Followed, view: NDArray[np.float32], now: float) -> Signal | None:
        """Add a view to an approach, which begins anew where it shows somebody else, and ends where that is known."""
        is_another = bool(active.views) and not self._agrees(view, active.views[:1])
        if is_another:
            active.begin(now)
        if not active.views:
            if self._is_known(active, view):
                active.latest, active.over = view, True
                return "left"
            active.usable_since = now
        active.views.append(view)
        return "appeared" if is_another else None

    def _is_known(self, active: Followed, view: NDArray[np.float32]) -> bool:
        """Whether a view shows somebody who was decided on: in the same place, or in one where nobody is any more."""
        if self._agrees(view, active.known):
            return True
        for other in self._followed:
            if other.over and other.missing_since is not None and self._agrees(view, other.looks):
                self._followed.remove(other)
                active.known.extend(other.known)
                return True
        return False

    def _decide(
        self,
        active: Followed,
        now: float,
        step: float,
        reason: str | None,
        box: tuple[float, float, float, float] | None,
    ) -> Sight:
        """The end of the approach, if it has come."""
        if active.views and now - active.embedded > max(self._section.window, self._section.leaves_after):
            active.begin(now)  # camera or program hung: whom the views show may have gone meanwhile
        if active.usable_since is not None:
            # decided before the next frame would be too late
            late = now + step > active.usable_since + self._section.window
            if len(active.views) >= self._section.frames or late:
                probe = fuse(active.views, self._encoder.embedding.metric)
                sight = self._sight(active, "ready", reason, box, probe)
                self._end(active)
                return sight
        elif now - active.since >= self._section.patience:
            commonest = active.reasons.most_common(1)[0][0]
            self._end(active)
            return self._sight(active, "unusable", commonest, box)
        return self._sight(active, None, reason, box)

    def _is_another(self, frame: Frame, active: Followed) -> bool:
        """Whether the face whose approach is over has become somebody else's; then theirs begins."""
        now = frame.seconds
        if now - active.embedded < _AGAIN and not active.strange:
            return False
        view, _ = self._embed(frame, active)
        if view is None:
            active.embedded = now  # it is not looked at more often while it is unusable
            return False
        if not active.looks or self._agrees(view, active.looks):
            active.latest, active.strange = view, 0
            return False
        active.strange += 1
        if active.strange < _STRANGE:
            return False
        active.begin(now)
        return self._add(active, view, now) is None

    def _embed(self, frame: Frame, active: Followed) -> tuple[NDArray[np.float32] | None, str | None]:
        """The embedding of the active face, or why there is none."""
        face = active.face
        with self._timed("gate"):
            if face.turned:
                return None, "photo_turned"
            try:
                chip = self._finder.take(frame.image, face, "the frame")
                require_content(chip, self._encoder.input, "the frame")
            except InputError as error:
                return None, error.reason
            if self._finder.is_turned(frame.image, face):  # last, because it costs most
                return None, "photo_turned"
        with self._timed("embed"):
            view = self._encoder.embed(chip).copy()
        active.embedded = frame.seconds
        return view, None

    def _agrees(self, view: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> bool:
        """Whether a view shows the person of any of the others."""
        if not others:
            return False
        best = float(scores(view, np.stack(others), self._encoder.embedding.metric).max())
        return best >= self._least_score

    def _end(self, active: Followed) -> None:
        if not active.over:
            active.over = True
            if active.views:
                active.known.append(fuse(active.views, self._encoder.embedding.metric))

    def _sight(
        self,
        active: Followed,
        signal: Signal | None,
        reason: str | None,
        box: tuple[float, float, float, float] | None,
        probe: NDArray[np.float32] | None = None,
    ) -> Sight:
        return Sight(
            signal=signal,
            probe=probe,
            frames=len(active.views),
            reason=reason,
            usable_since=active.usable_since,
            box=box,
            stages=self._stages,
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[stage] = self._stages.get(stage, 0.0) + time.perf_counter() - start


def fuse(views: Sequence[NDArray[np.float32]], metric: Metric) -> NDArray[np.float32]:
    """The probe of several frames of a face.

    For ``cosine`` the mean of their embeddings. It is not brought to length 1, so that its score is the mean of the
    frames' scores, and the thresholds of single probes hold; docs/experiments/faces.md has the figures. For
    ``euclidean``, where a mean comes nearer to everybody, it is the embedding that is most like all others.

    Args:
        views: float32 (d,) each, at least one.
        metric: How embeddings are compared.

    Returns:
        float32 (d,), for ``cosine`` of length 1 at most.
    """
    every = np.stack(views)
    if metric == "cosine":
        mean: NDArray[np.float32] = every.mean(axis=0, dtype=np.float32)
        return mean
    return views[int(np.argmax([float(scores(view, every, metric).sum()) for view in views]))]


def _corners(face: Face) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = face.detection.box.tolist()
    return left, top, right, bottom
