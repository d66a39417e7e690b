"""The camera: a thread reads frames and keeps the newest; a camera that is lost is opened again."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device.door.captures import Capture, kind_of, open_capture, require_reader, shown
from edge_oneshot_device.door.configuration import CameraSection
from edge_oneshot_device.errors import InputError

_SIDES: Final = (64, 4096)  # pixels of a frame
_PAUSES: Final = (1.0, 3.0)  # seconds before a lost camera is opened again, at first and at most: soon at work again
_EARLY: Final = 0.25  # of the time between two frames, by which one may come too soon: the clock of a camera jitters
_LATEST: Final = 1.0  # seconds that a frame may be old by the camera's clock; beyond, it is compared with ours again
_LONGEST_STEP: Final = 10.0  # seconds between two frames of a file
_CLOSING: Final = 2.0  # seconds that a thread which waits for a frame is waited for
_TURNS: Final = {
    90: Image.Transpose.ROTATE_270,  # Pillow turns against the clock
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


class Frame(msgspec.Struct, frozen=True, eq=False):
    """A frame.

    Attributes:
        image: RGB, upright and not mirrored, the configured region alone.
        seconds: When it was taken, by `time.monotonic`; later than all frames before it.
        number: Counts the frames that were kept, from 0; those missing were replaced by newer ones.
    """

    image: Image.Image
    seconds: float
    number: int


class Camera:
    """Reads frames in a thread of its own and keeps the newest; a context manager.

    A camera that cannot be opened or gives no frames is opened again, after pauses that grow from 1 to 3 seconds. A
    video file is played once, in real time by its own time stamps.

    Args:
        section: Where the frames come from, and how they are set upright.
        paced: False plays a video file as fast as its frames are taken, and leaves none out.

    Raises:
        InputError: ``bad_region``, or ``no_camera``: the source is no device, address or readable video file.
        MachineError: ``extra_missing``: what reads the source is not installed.
    """

    def __init__(self, section: CameraSection, *, paced: bool = True) -> None:
        _check_region(section)
        require_reader(section.source)
        self._section, self._paced = section, paced
        self._stop, self._changed = threading.Event(), threading.Condition()
        self._newest: tuple[NDArray[np.uint8], float, int] | None = None
        self._count, self._last = 0, -math.inf
        self._arrived = time.monotonic()
        self._fault: str | None = None
        self._over = False
        self._is_file = kind_of(section.source) == "file"
        if self._is_file:
            capture = open_capture(section)
            if capture is None:
                message = f"camera.source {section.source!r} cannot be read as a video; give a video file"
                raise InputError(message, reason="no_camera")
            self._thread = threading.Thread(target=self._play, args=(capture,), name="camera", daemon=True)
        else:
            self._thread = threading.Thread(target=self._watch, name="camera", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """The camera itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def fault(self) -> str | None:
        """Why there are no frames, in one line; None while they come. The camera is opened again meanwhile."""
        fault, silent = self._fault, time.monotonic() - self._arrived
        if fault is None and not self._is_file and silent > self._section.lost_after:
            return f"the camera {shown(self._section.source)} gives no frames"
        return fault

    @property
    def ended(self) -> bool:
        """Whether a video file is over, and its last frame taken."""
        return self._over and self._newest is None

    def newest(self, timeout: float) -> Frame | None:
        """The newest frame, if it is newer than the last one returned.

        Args:
            timeout: Seconds to wait for one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._over or self._stop.is_set(), timeout)
            taken, self._newest = self._newest, None
            self._changed.notify_all()
        if taken is None:
            return None
        pixels, seconds, number = taken
        return Frame(_upright(pixels, self._section), seconds, number)

    def close(self) -> None:
        """Give the camera back; closing twice is fine."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_CLOSING)

    def _watch(self) -> None:
        """The thread of a camera: open it again as often as it is lost."""
        pause = _PAUSES[0]
        while not self._stop.is_set():
            before, why = self._count, "cannot be opened; is it connected, and does no other program use it?"
            try:
                capture = open_capture(self._section)
                if capture is not None:
                    self._take_all(capture)
                    why = "gives no frames any more; look at its cable and at its power"
            except Exception as error:  # drivers raise what they like, and the thread has to go on
                why = f"failed: {_line(error, self._section.source)}"
            if self._count > before:
                pause = _PAUSES[0]
            with self._changed:
                self._newest = None  # nobody is let in by what a camera saw before it was lost
                self._fault = f"the camera {shown(self._section.source)} {why}"
            self._stop.wait(pause)
            pause = min(2.0 * pause, _PAUSES[1])

    def _take_all(self, capture: Capture) -> None:
        """Keep the newest frame of a camera, until it gives none."""
        pace, offset, before = _Pace(self._section.frames_per_second), 0.0, -math.inf
        with closing(capture):
            while not self._stop.is_set():
                stamp = capture.grab()
                if stamp is None:
                    return
                seconds = now = self._arrived = time.monotonic()
                if before < stamp and now - _LATEST <= stamp + offset <= now:
                    seconds = stamp + offset
                else:  # the camera's clock is not ours, was set, or stands still
                    offset = now - stamp
                before = stamp
                if not pace.takes(seconds):
                    continue
                pixels = capture.pixels()
                if pixels is None:
                    return
                self._keep(pixels, seconds)

    def _play(self, capture: Capture) -> None:
        """The thread of a video file."""
        start, pace = time.monotonic(), _Pace(self._section.frames_per_second)
        try:
            with closing(capture):
                for place in _places(capture, 1.0 / self._section.frames_per_second):
                    if self._paced and not pace.takes(place):
                        continue
                    pixels = capture.pixels()
                    if pixels is None or self._stop.wait(start + place - time.monotonic() if self._paced else 0.0):
                        break
                    if not self._paced:
                        with self._changed:
                            self._changed.wait_for(lambda: self._newest is None or self._stop.is_set())
                    self._keep(pixels, start + place)
        except Exception as error:  # as above
            self._fault = f"the video {self._section.source} failed: {_line(error, self._section.source)}"
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _keep(self, pixels: NDArray[np.uint8], seconds: float) -> None:
        """Replace the newest frame."""
        _check_frame(pixels, self._section)
        self._last = max(seconds, math.nextafter(self._last, math.inf))
        with self._changed:
            self._newest = pixels, self._last, self._count
            self._count += 1
            self._fault = None
            self._changed.notify_all()


class _Pace:
    """Lets so many frames a second through, at most."""

    def __init__(self, rate: float) -> None:
        self._step, self._due = 1.0 / rate, -math.inf

    def takes(self, seconds: float) -> bool:
        """Whether a frame of this time is among them."""
        if seconds + _EARLY * self._step < self._due:
            return False
        self._due = max(self._due, seconds) + self._step
        return True


def _places(capture: Capture, step: float) -> Iterator[float]:
    """Seconds of each frame of a file since its first one, as the file says; `step` where its stamps do not rise."""
    before = capture.grab()
    place = 0.0
    while before is not None:
        yield place
        stamp = capture.grab()
        if stamp is None:
            return
        place += min(stamp - before, _LONGEST_STEP) if stamp > before else step
        before = stamp


def _corners(width: int, height: int, region: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """The region of a frame in pixels."""
    left, top, right, bottom = region
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def _upright(pixels: NDArray[np.uint8], section: CameraSection) -> Image.Image:
    """A frame in BGR as an image: mirrored back, turned, and cut to the region."""
    height, width = pixels.shape[:2]
    image = Image.frombuffer("RGB", (width, height), np.ascontiguousarray(pixels), "raw", "BGR", 0, 1)
    if section.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if section.rotation:
        image = image.transpose(_TURNS[section.rotation])
    corners = _corners(image.width, image.height, section.region)
    return image if corners == (0, 0, *image.size) else image.crop(corners)


def _check_region(section: CameraSection) -> None:
    left, top, right, bottom = section.region
    if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
        message = f"camera.region is {section.region}: left below right and top below bottom are needed, all in 0..1"
        raise InputError(message, reason="bad_region")


def _check_frame(pixels: NDArray[np.uint8], section: CameraSection) -> None:
    """Refuse a frame that is none, or whose region is too small or too large."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        message = f"frames are {pixels.dtype} {pixels.shape}: colour frames of 8 bits are needed"
        raise InputError(message, reason="bad_frame")
    height, width = pixels.shape[:2]
    if section.rotation in (90, 270):
        width, height = height, width
    left, top, right, bottom = _corners(width, height, section.region)
    if min(right - left, bottom - top) < _SIDES[0] or max(width, height) > _SIDES[1]:
        message = f"frames have {width} x {height} pixels, their region {right - left} x {bottom - top}"
        message = f"{message}; the region needs {_SIDES[0]} a side, a frame may have {_SIDES[1]}"
        raise InputError(message, reason="bad_frame")


def _line(error: Exception, source: str) -> str:
    """The first line of an error, without the address of the source."""
    lines = str(error).replace(source, shown(source)).splitlines() or [""]
    return f"{lines[0]} ({type(error).__name__})" if lines[0] else type(error).__name__
