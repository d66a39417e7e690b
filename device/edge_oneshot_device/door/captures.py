"""What frames are read from: OpenCV for devices, RTSP and video files, picamera2 for the Pi camera."""

import importlib
import re
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.door.configuration import CameraSection
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.extras import extra_missing

Kind = Literal["picamera", "rtsp", "device", "file"]

_OPENING: Final = 5000  # milliseconds until a connection is given up
_NANOSECOND: Final = 1e-9


class Capture(Protocol):
    """A source of frames, opened."""

    def grab(self) -> float | None:
        """Wait for the next frame.

        Returns:
            Its time stamp in seconds of the source's clock; None where there is none.
        """

    def pixels(self) -> NDArray[np.uint8] | None:
        """The frame that was grabbed last: uint8 (height, width, 3) in BGR; None where it is damaged."""

    def close(self) -> None:
        """Give the source back."""


class _OpenCvCapture:
    """A `Capture` of OpenCV's."""

    def __init__(self, capture: Any, stamp: int) -> None:
        self._capture, self._stamp = capture, stamp

    def grab(self) -> float | None:
        return self._capture.get(self._stamp) / 1e3 if self._capture.grab() else None

    def pixels(self) -> NDArray[np.uint8] | None:
        whole, pixels = self._capture.retrieve()
        return pixels if whole else None

    def close(self) -> None:
        self._capture.release()


class _PiCapture:
    """A `Capture` of picamera2's."""

    def __init__(self, section: CameraSection) -> None:
        self._wait = section.lost_after
        self._request: Any = None
        self._camera = importlib.import_module("picamera2").Picamera2()
        try:
            # of this name, which counts from the last byte, the first byte is blue
            main = {"size": (section.width, section.height), "format": "RGB888"}
            rate = {"FrameRate": section.frames_per_second}
            self._camera.configure(self._camera.create_video_configuration(main=main, controls=rate))
            self._camera.start()
        except BaseException:
            self._camera.close()
            raise

    def grab(self) -> float | None:
        self._release()
        self._request = self._camera.capture_request(wait=self._wait)
        return float(self._request.get_metadata()["SensorTimestamp"]) * _NANOSECOND

    def pixels(self) -> NDArray[np.uint8] | None:
        return np.ascontiguousarray(self._request.make_array("main"))

    def close(self) -> None:
        self._release()
        self._camera.close()

    def _release(self) -> None:
        if self._request is not None:
            self._request.release()
            self._request = None


def kind_of(source: str) -> Kind:
    """What a source is.

    Raises:
        InputError: ``no_camera``: no device, address or video file.
    """
    if source == "picamera":
        return "picamera"
    if re.fullmatch(r"\d{1,3}|/dev/.+", source):
        return "device"
    if source.startswith(("rtsp://", "rtsps://")):
        try:
            parts = urlsplit(source)
            if parts.hostname and (parts.port is None or parts.port):
                return "rtsp"
        except ValueError:
            pass
        raise InputError("camera.source is no valid rtsp:// address; give rtsp://HOST/PATH", reason="no_camera")
    if Path(source).is_file():
        return "file"
    message = f"camera.source {source!r} is neither picamera, a device, an rtsp:// address nor a video file that exists"
    raise InputError(f"{message}; give one of them", reason="no_camera")


def shown(source: str) -> str:
    """A source as messages name it: of an address the host alone, because the rest may hold a password."""
    return f"at {urlsplit(source).hostname}" if source.startswith(("rtsp://", "rtsps://")) else source


def require_reader(source: str) -> None:
    """Check that what reads a source is installed.

    Raises:
        InputError: As `kind_of`.
        MachineError: ``extra_missing``.
    """
    if kind_of(source) != "picamera":
        try:
            importlib.import_module("cv2")
        except ImportError as error:
            raise extra_missing("camera") from error
        return
    try:
        importlib.import_module("picamera2")
    except ImportError as error:
        message = (
            f"picamera2, which reads the Pi camera, cannot be loaded ({error}); run: apt install python3-picamera2"
        )
        message = f"{message}, in an environment that sees the system's packages"
        raise MachineError(message, reason="extra_missing") from error


def open_capture(section: CameraSection) -> Capture | None:
    """Open a source; None where it cannot be opened. `require_reader` has to have passed.

    OpenCV's and picamera2's own errors are passed on.
    """
    kind = kind_of(section.source)
    if kind == "picamera":
        return _PiCapture(section)
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its warnings name the address with its password
    if kind == "device":
        place: Any = int(section.source) if section.source.isdecimal() else section.source
        wanted = [
            # compressed: uncompressed frames of this size come slowly over USB 2
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, section.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, section.height),
        ]
        capture = cv2.VideoCapture(place, cv2.CAP_V4L2)
        for key, value in wanted:
            capture.set(key, value)
    elif kind == "rtsp":
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPENING]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1e3 * section.lost_after)]
        capture = cv2.VideoCapture(section.source, cv2.CAP_FFMPEG, limits)
    else:
        capture = cv2.VideoCapture(section.source, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        return None
    return _OpenCvCapture(capture, cv2.CAP_PROP_POS_MSEC)
