"""The camera: video files played in real time or frame by frame, and cameras that are lost and found."""

import sys
import threading
import time
from types import SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.door import camera as module
from edge_oneshot_device.door import captures
from edge_oneshot_device.door.camera import Camera
from edge_oneshot_device.door.captures import kind_of, open_capture, shown
from edge_oneshot_device.door.configuration import CameraSection
from edge_oneshot_device.errors import InputError, MachineError
from tests.raising import raises
from tests.samples.rtsp import RtspCamera

SIZE = (160, 120)
PATIENCE = 60.0  # seconds; nothing here is expected to take a tenth of one


def shade(number):
    """A grey frame that tells its number."""
    return np.full((SIZE[1], SIZE[0], 3), 8 * number, np.uint8)


@pytest.fixture
def video(tmp_path):
    """A video of 20 frames, 40 a second."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 40.0, SIZE)
    for number in range(20):
        writer.write(shade(number))
    writer.release()
    return str(path)


def played(camera):
    """Every frame until a video is over."""
    frames, before = [], time.monotonic()
    while not camera.ended and time.monotonic() < before + PATIENCE:
        if frame := camera.newest(1.0):
            frames.append(frame)
    return frames


def numbers(frames):
    return [round(np.asarray(frame.image).mean() / 8) for frame in frames]


# video files


def test_a_video_that_is_not_paced_gives_every_frame_with_its_own_time(video):
    with Camera(CameraSection(source=video, frames_per_second=1.0), paced=False) as camera:
        frames = played(camera)
        assert numbers(frames) == list(range(20))
        assert [frame.number for frame in frames] == list(range(20))
        assert np.diff([frame.seconds for frame in frames]) == pytest.approx(0.025, abs=0.002)
        assert {frame.image.mode for frame in frames} == {"RGB"}
        assert {frame.image.size for frame in frames} == {SIZE}
        assert camera.newest(0.0) is None
        assert camera.fault is None


def test_a_paced_video_lasts_as_long_as_it_says_and_never_goes_back(video):
    before = time.monotonic()
    with Camera(CameraSection(source=video, frames_per_second=60.0)) as camera:
        frames = played(camera)
    assert time.monotonic() - before >= 19 / 40
    seen = numbers(frames)
    assert seen == sorted(set(seen))
    assert seen[-1] == 19
    for frame in frames:  # none is shown before its time
        assert before + round(np.asarray(frame.image).mean() / 8) / 40 <= frame.seconds + 0.002
    assert camera.fault is None


def test_of_a_paced_video_so_many_frames_a_second_are_kept_and_late_ones_replaced(video):
    with Camera(CameraSection(source=video, frames_per_second=9.0)) as camera:
        camera._thread.join(PATIENCE)
        (frame,) = played(camera)
    assert frame.number == 4  # frames 0, 4, 8, 13 and 17
    assert numbers([frame]) == [17]


def test_a_file_whose_time_stamps_stand_still_go_back_or_leap_is_played_with_plausible_ones():
    stamps = iter([0.0, 0.0, 0.5, 0.2, float("nan"), 1e9, None])
    capture = SimpleNamespace(grab=lambda: next(stamps))
    assert list(module._places(capture, 0.1)) == pytest.approx([0.0, 0.1, 0.6, 0.7, 0.8, 0.9])
    stamps = iter([0.0, 1e9, None])
    assert list(module._places(capture, 0.1)) == [0.0, 10.0]


def test_a_closed_camera_lets_its_thread_end_though_nobody_takes_the_frame(video):
    camera = Camera(CameraSection(source=video), paced=False)
    camera.close()
    camera._thread.join(PATIENCE)
    assert not camera._thread.is_alive()
    camera.close()


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "file.mp4").write_bytes(content)
    with raises(InputError, match="cannot be read as a video", reason="no_camera"):
        Camera(CameraSection(source=str(tmp_path / "file.mp4")))


# which source it is


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("picamera", "picamera"),
        ("0", "device"),
        ("/dev/v4l/by-id/usb-camera", "device"),
        ("rtsp://user:secret@camera.local:554/stream", "rtsp"),
        ("rtsps://[fd00::1]/stream", "rtsp"),
        (__file__, "file"),
    ],
)
def test_a_source_is_known_by_its_name(source, kind):
    assert kind_of(source) == kind


@pytest.mark.parametrize("source", ["", "missing.mp4", "http://camera/x", "rtsp://", "rtsp://a:b", "1234", "."])
def test_a_source_that_is_none_is_refused(source):
    with raises(InputError, match=r"camera\.source", reason="no_camera"):
        Camera(CameraSection(source=source))


def test_messages_do_not_show_the_password_of_an_address(monkeypatch):
    source = "rtsp://user:secret@camera.local/stream?password=secret"
    assert shown(source) == "at camera.local"

    def fail(_):
        raise OSError(f"cannot reach {source}")

    monkeypatch.setattr(module, "open_capture", fail)
    with Camera(CameraSection(source=source)) as camera:
        wait_for(lambda: camera.fault)
        assert camera.fault == "the camera at camera.local failed: cannot reach at camera.local (OSError)"


def test_a_missing_reader_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with raises(MachineError, match="pip install .opencv", reason="extra_missing"):
        Camera(CameraSection())
    with raises(MachineError, match="apt install python3-picamera2", reason="extra_missing"):
        Camera(CameraSection(source="picamera"))


# setting upright


def corner(**keywords):
    """Where the light corner of a frame of 200 x 100 comes to lie, that has it at the upper left; and the size."""
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:20, :20] = (10, 20, 250)  # blue, green, red
    image = module._upright(pixels, CameraSection(**keywords))
    shown = np.asarray(image)
    rows, columns = np.nonzero(shown[:, :, 0] > 200)
    if not len(rows):
        return None, image.size
    assert shown[rows[0], columns[0]].tolist() == [250, 20, 10]
    right, down = columns.mean() > image.width / 2, rows.mean() > image.height / 2
    return ("lower " if down else "upper ") + ("right" if right else "left"), image.size


def test_frames_are_turned_clockwise_and_mirrored_back():
    assert corner() == ("upper left", (200, 100))
    assert corner(rotation=90) == ("upper right", (100, 200))
    assert corner(rotation=180) == ("lower right", (200, 100))
    assert corner(rotation=270) == ("lower left", (100, 200))
    assert corner(mirrored=True) == ("upper right", (200, 100))
    assert corner(mirrored=True, rotation=90) == ("lower right", (100, 200))


def test_the_region_is_that_of_the_turned_frame():
    assert corner(region=(0.0, 0.0, 0.5, 1.0)) == ("upper left", (100, 100))
    assert corner(region=(0.5, 0.0, 1.0, 1.0)) == (None, (100, 100))
    assert corner(rotation=90, region=(0.0, 0.0, 1.0, 0.4)) == ("upper right", (100, 80))
    assert corner(rotation=270, region=(0.0, 0.0, 1.0, 0.4)) == (None, (100, 80))


@pytest.mark.parametrize(
    "region", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, 0, np.nan, 1)]
)
def test_a_region_that_is_none_is_refused(region):
    with raises(InputError, match=r"camera\.region", reason="bad_region"):
        Camera(CameraSection(region=region))


# cameras


class FakeCamera:
    """A camera that gives frames until it is unplugged; its clock began at some other time than ours."""

    def __init__(self, monkeypatch, since=0.0, pixels=None):
        self.plugged, self.hanging, self.opened, self.closed, self.since = True, threading.Event(), 0, 0, since
        self.stamp, self.frame = None, shade(1) if pixels is None else pixels
        monkeypatch.setattr(module, "require_reader", lambda _: None)
        monkeypatch.setattr(module, "open_capture", self.open)
        monkeypatch.setattr(module, "_PAUSES", (0.01, 0.02))

    def open(self, _):
        self.opened += 1
        return self if self.plugged else None

    def grab(self):
        time.sleep(0.005)
        while self.hanging.is_set():
            time.sleep(0.005)
        now = time.monotonic() if self.stamp is None else self.stamp
        return now - self.since if self.plugged else None

    def pixels(self):
        return self.frame

    def close(self):
        self.closed += 1


def wait_for(condition):
    before = time.monotonic()
    while not condition():
        assert time.monotonic() < before + PATIENCE
        time.sleep(0.002)


def test_a_lost_camera_is_opened_again_and_says_so_meanwhile(monkeypatch):
    fake = FakeCamera(monkeypatch)
    with Camera(CameraSection(lost_after=60.0)) as camera:
        assert camera.newest(PATIENCE) is not None
        assert camera.fault is None
        fake.plugged = False
        wait_for(lambda: camera.fault)
        assert camera.fault == "the camera /dev/video0 gives no frames any more; look at its cable and at its power"
        wait_for(lambda: fake.opened >= 4)
        assert "cannot be opened" in camera.fault
        assert camera.newest(0.0) is None  # what it saw before is not shown
        assert fake.closed == 1
        fake.plugged = True
        assert camera.newest(PATIENCE) is not None
        assert camera.fault is None
        assert not camera.ended
    assert fake.closed == 2


def test_pauses_grow_until_frames_come_again(monkeypatch):
    fake, pauses = FakeCamera(monkeypatch), []
    monkeypatch.setattr(module, "_PAUSES", (1.0, 3.0))
    wait = threading.Event.wait

    def pause(event, seconds=None):
        if seconds is None:
            return wait(event)
        pauses.append(seconds)
        return event.is_set()

    monkeypatch.setattr(threading.Event, "wait", pause)
    fake.plugged = False
    camera = Camera(CameraSection())
    wait_for(lambda: len(pauses) > 8)
    fake.plugged = True
    wait_for(lambda: camera._count)
    fake.plugged = False
    wait_for(lambda: 1.0 in pauses[8:])
    camera.close()
    assert pauses[:8] == [1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]


def test_a_camera_that_hangs_is_at_fault_until_it_goes_on(monkeypatch):
    fake = FakeCamera(monkeypatch)
    with Camera(CameraSection(lost_after=0.5)) as camera:
        assert camera.newest(PATIENCE) is not None
        fake.hanging.set()
        wait_for(lambda: camera.fault)
        assert camera.fault == "the camera /dev/video0 gives no frames"
        fake.hanging.clear()
        wait_for(lambda: camera.fault is None)


def test_an_error_of_a_driver_is_a_fault_and_not_the_end(monkeypatch):
    fake = FakeCamera(monkeypatch)

    def broken():
        raise RuntimeError("the sensor is gone\nmore")

    monkeypatch.setattr(fake, "grab", broken)
    with Camera(CameraSection()) as camera:
        wait_for(lambda: fake.opened > 2)
        assert camera.fault == "the camera /dev/video0 failed: the sensor is gone (RuntimeError)"


@pytest.mark.parametrize(
    "pixels", [np.zeros((5000, 100, 3), np.uint8), np.zeros((63, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)]
)
def test_a_frame_that_is_none_is_a_fault(monkeypatch, pixels):
    fake = FakeCamera(monkeypatch, pixels=pixels)
    with Camera(CameraSection()) as camera:
        wait_for(lambda: fake.opened > 1)
        assert camera.newest(0.0) is None
        assert "failed: frames " in camera.fault


@pytest.mark.parametrize("since", [0.0, 1e6, -1e6])
def test_frames_have_the_camera_s_times_by_our_clock(monkeypatch, since):
    FakeCamera(monkeypatch, since)
    with Camera(CameraSection(frames_per_second=60)) as camera:
        before = -np.inf
        for _ in range(3):
            frame = camera.newest(PATIENCE)
            assert before < frame.seconds <= time.monotonic()
            before = frame.seconds


@pytest.mark.parametrize("stamp", [0.0, -5.0, 1e300, float("nan"), float("inf"), float("-inf")])
def test_times_rise_whatever_the_camera_says(monkeypatch, stamp):
    fake = FakeCamera(monkeypatch)
    fake.stamp = stamp
    with Camera(CameraSection(frames_per_second=60)) as camera:
        frames = [camera.newest(PATIENCE) for _ in range(3)]
        seconds = [frame.seconds for frame in frames]
        assert seconds == sorted(set(seconds))
        assert seconds[-1] <= time.monotonic()


def test_no_frame_has_an_earlier_time_than_one_before(monkeypatch):
    fake = FakeCamera(monkeypatch)
    fake.hanging.set()
    with Camera(CameraSection()) as camera:
        seconds = []
        for taken in (5.0, 5.0, 4.0):
            camera._keep(shade(1), taken)
            seconds.append(camera.newest(0.0).seconds)
        fake.hanging.clear()
    assert seconds[0] < seconds[1] < seconds[2] < 5.1


def test_so_many_frames_a_second_are_kept():
    for rate, least in ((14.9, 145), (15.0, 145), (15.1, 145), (20.0, 100), (30.0, 145), (60.0, 140)):
        pace, rng = module._Pace(15.0), np.random.default_rng(0)
        taken = sum(pace.takes(number / rate + rng.uniform(-0.004, 0.004)) for number in range(round(10 * rate)))
        assert least <= taken <= 151, rate


def test_the_pi_camera_is_read_by_picamera2(monkeypatch):
    released = []

    class Picamera2:
        def create_video_configuration(self, main, controls):
            assert controls == {"FrameRate": 15.0}
            assert (main["size"], main["format"]) == ((1280, 720), "RGB888")
            return main

        def configure(self, main):
            self.size = main["size"]

        def start(self):
            self.number = 0

        def capture_request(self, wait):
            assert wait == 3.0
            number = self.number = self.number + 1
            stamp = {"SensorTimestamp": number * 10**9}
            array = np.full((720, 1280, 3), number, np.uint8)
            return SimpleNamespace(
                get_metadata=lambda: stamp, make_array=lambda _: array, release=lambda: released.append(number)
            )

        def close(self):
            released.append("all")

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    capture = open_capture(CameraSection(source="picamera"))
    assert capture.grab() == 1.0
    assert capture.pixels().shape == (720, 1280, 3)
    assert capture.grab() == 2.0
    assert capture.pixels()[0, 0, 0] == 2
    capture.close()
    assert released == [1, 2, "all"]

    def broken(*_):
        raise RuntimeError("no sensor")

    monkeypatch.setattr(Picamera2, "configure", broken)
    with pytest.raises(RuntimeError):
        captures.open_capture(CameraSection(source="picamera"))
    assert released[-1] == "all"


def test_a_camera_in_the_network_is_read_lost_and_found(monkeypatch, capfd):
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.02))
    with RtspCamera({"red": Image.new("RGB", SIZE, (250, 20, 10))}) as server:
        camera = Camera(CameraSection(source=server.url, lost_after=60.0))
        for _ in range(3):
            frame = camera.newest(PATIENCE)
            assert frame.image.size == SIZE
            assert np.abs(np.asarray(frame.image) - (250.0, 20.0, 10.0)).max() < 5
        server.unplug()
        wait_for(lambda: camera.fault)
        camera.newest(0.0)
        server.plug()
        assert camera.newest(PATIENCE) is not None
        assert camera.fault is None
        camera.close()
    assert "secret" not in "".join(capfd.readouterr())


def test_an_address_that_answers_nothing_is_given_up_and_tried_again(monkeypatch):
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.02))
    monkeypatch.setattr(captures, "_OPENING", 100)
    server = RtspCamera({"black": Image.new("RGB", SIZE)}, answers=False)
    with server, Camera(CameraSection(source=server.url, lost_after=60.0)) as camera:
        wait_for(lambda: server.taken > 1)
        assert camera.fault.startswith("the camera at 127.0.0.1 cannot be opened")


def test_a_device_that_is_not_there_cannot_be_opened():
    assert open_capture(CameraSection(source="/dev/no-such-camera")) is None
    assert msgspec.structs.asdict(CameraSection())["source"] == "/dev/video0"
