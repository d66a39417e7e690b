"""A door as it is installed, whose camera, broker, disk, clock and program can be made to fail.

The program is the device's own, `edge-oneshot-device run`. Its camera is a `RtspCamera`, its relay is on gpiozero's
mock (`tests.device.door.board`), which notes what it is set to and when, and its broker is a mosquitto that somebody
listens to. It tells when it is at work as it tells systemd.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from PIL import Image, ImageFilter

from edge_oneshot.demo.door import ENROLLED
from edge_oneshot.demo.door_scenes import Visit, plain_room, play
from edge_oneshot.faces.packages import ASTRONAUT, HOPPER, read_package_file
from edge_oneshot_device import Bundle, Recognizer
from edge_oneshot_device.encoder import open_faces
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import PHOTO_SIDE
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests.device.door.board import Board, Change
from tests.device.door.outgoing import TOPIC, a_broker, a_listener
from tests.samples.rtsp import RtspCamera
from tests.scenes import portrait_of

RELAY: Final = 17
EXIT: Final = 5
RUN: Final = ("-m", "edge_oneshot_device")
"""The program, as Python's arguments."""
_MOST_SECONDS: Final = 60.0  # that anything is waited for
_CONFIG: Final = """\
name = "Front"
show_refusal = 3.0
camera = {{ source = "{camera}", width = 640, height = 480, frames_per_second = 6.0 }}
approach = {{ patience = 20.0, leaves_after = 0.5 }}
second_factor = {{ mode = "{mode}" }}
lock = {{ kind = "gpio", pulse = {pulse}, hold_at_most = {hold}, relay.pin = {relay} }}
mqtt = {{ host = "127.0.0.1", port = {broker}, tls = false, topic = "{topic}", commands = ["hold", "release"] }}
{inputs}
"""


class Missed(Exception):  # noqa: N818 (what did not happen)
    """Something did not happen within a minute."""


class Setting(NamedTuple):
    """How a door is set.

    Attributes:
        mode: What is asked besides the face.
        pulse: Seconds that the lock stays open.
        hold: Seconds that a held door stays open.
        has_exit: Whether there is an exit button; the guard then outlives the loop.
    """

    mode: str = "off"
    pulse: float = 1.5
    hold: float = 30.0
    has_exit: bool = False


class Line(NamedTuple):
    """A change that `run` printed.

    Attributes:
        at: When it was read, by `time.monotonic`.
        state: The state that was entered.
        reason: Why.
    """

    at: float
    state: str
    reason: str


class Device(NamedTuple):
    """What doors are copied from.

    Attributes:
        folder: Has the state folder and the key, one person enrolled.
        pictures: What the camera shows: ``known``, ``stranger``, ``unusable`` (a face that the gate refuses),
            ``nobody``, who is shown first.
    """

    folder: Path
    pictures: Mapping[str, Image.Image]


def prepare(folder: Path, bundle: Path) -> Device:
    """Install a bundle for faces, enrol one person, and compose what the camera shows."""
    install(bundle, folder / "state", InstallOptions(rejections_per_minute=1000), key=folder / "key")
    photos = [read_package_file(file) for file in (ASTRONAUT, HOPPER)]
    with Recognizer.open(folder / "state", key=folder / "key") as recognizer:
        recognizer.enrol(ENROLLED, photos[0])
    finder = open_faces(Bundle.open(bundle))
    assert finder is not None
    room = plain_room(700, 525)
    *_, (_, empty) = play([], room, 1.0)
    pictures = {"nobody": Image.fromarray(empty)}
    for name, photo in zip(("known", "stranger"), photos, strict=True):
        portrait = portrait_of(load_photo(photo, PHOTO_SIDE), finder)
        assert portrait is not None
        *_, (_, frame) = play([Visit(portrait, 0.0, 4.0, near=85.0)], room, 2.0, frames_per_second=10.0)
        pictures[name] = Image.fromarray(frame)
    pictures["unusable"] = pictures["known"].filter(ImageFilter.GaussianBlur(5))
    return Device(folder, pictures)


class Rig:
    """A door with all around it; a context manager.

    Args:
        device: What it is copied from.
        folder: An empty one.
        setting: How the door is set.
        environment: Further variables for the program.
        program: Python's arguments that start it.
        seed: Of what cases draw.

    Attributes:
        seen: What the door printed, since the case began.
        pressed: When the exit button was pressed.
        start_work: The most seconds of processor time that the program needed from its start until it was at work.
    """

    def __init__(
        self,
        device: Device,
        folder: Path,
        setting: Setting,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = RUN,
        seed: object = 0,
    ) -> None:
        self.folder, self.setting = folder, setting
        self.rng = random.Random(str(seed))
        self.seen: list[Line] = []
        self.pressed: list[float] = []
        self.start_work = 0.0
        self._device, self._extra, self._program = device, dict(environment or {}), program
        self._stack = ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._state = "idle"

    def __enter__(self) -> Self:
        """Everything around the door; the door itself is not started."""
        enter, folder = self._stack.enter_context, self.folder
        self.state, self.key = folder / "disk" / "state", self._device.folder / "key"
        self.state.parent.mkdir(exist_ok=True)
        shutil.copytree(self._device.folder / "state", self.state)
        for name in ("board", "broker"):
            (folder / name).mkdir()
        self.board = Board(folder / "board")
        self.broker = enter(a_broker(folder / "broker"))
        self.listener = enter(a_listener(self.broker))
        self.camera = enter(RtspCamera(self._device.pictures))
        self._ready = enter(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._ready.bind(str(folder / "notify"))
        self._errors = enter((folder / "errors.txt").open("w"))
        with self.gallery() as gallery:
            self.first = max(row.seq for row in gallery.rows())
        self.born = time.monotonic()
        self.wall = time.time() - self.born
        return self

    def __exit__(self, *_: object) -> None:
        """End it all."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.wait("the lock at rest", lambda: self.level == 0)
        self._stack.close()

    def gallery(self) -> Gallery:
        """The door's gallery, opened once more."""
        return Gallery.open(self.state / "gallery.db", key=KeySource(self.key))

    def start(self) -> float:
        """Start the door; returns when it said that it is at work."""
        words = {"camera": self.camera.url, "broker": self.broker.port, "relay": RELAY, "topic": TOPIC}
        inputs = f"inputs = {{ exit_button = {EXIT} }}" if self.setting.has_exit else ""
        config = _CONFIG.format(**self.setting._asdict(), **words, inputs=inputs)
        (self.folder / "door.toml").write_text(config)
        place = ("--state", str(self.state), "--key", str(self.key))
        command = [sys.executable, *self._program, "run", "--config", str(self.folder / "door.toml"), "--json", *place]
        environment = self.board.environment({**os.environ, **self._extra})
        environment["NOTIFY_SOCKET"] = str(self.folder / "notify")
        self._drain()
        self._state = "idle"
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        self._ready.settimeout(_MOST_SECONDS)
        try:
            while b"READY=1" not in self._ready.recv(4096):
                pass
        except TimeoutError:
            raise Missed(f"the door at work; it said: {self._said()}") from None
        ready = time.monotonic()
        spent = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        self.start_work = max(self.start_work, sum(map(int, spent)) / os.sysconf("SC_CLK_TCK"))
        return ready

    def end(self, number: signal.Signals) -> int:
        """Send the program a signal that ends it; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(_MOST_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def now(self) -> str:
        """The door's state, as far as it has said."""
        return self._state

    @property
    def levels(self) -> list[Change]:
        """What the relay was set to."""
        return self.board.changes(RELAY)

    @property
    def level(self) -> int:
        """What the relay is set to now."""
        changes = self.levels
        return changes[-1].level if changes else 0

    def wait(self, what: str, holds: Callable[[], Any]) -> float:
        """Wait until something holds; returns when it was seen to."""
        deadline = time.monotonic() + _MOST_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise Missed(f"{what}; the door is {self._state}, showed {self.seen[-5:]}; it said: {self._said()}")
            time.sleep(0.01)
        return time.monotonic()

    def reach(self, *states: str, after: int = 0) -> Line:
        """Wait until the door has entered one of these states, after so many lines of `seen`."""
        self.wait(" or ".join(states), lambda: any(line.state in states for line in self.seen[after:]))
        return next(line for line in self.seen[after:] if line.state in states)

    def show(self, name: str, *states: str) -> Line:
        """Show a picture, and wait for the first of these states."""
        after = len(self.seen)
        self.camera.shown = name
        return self.reach(*states, after=after)

    def clear(self) -> None:
        """Nobody stands there any more: wait until the door has rested for longer than `leaves_after`."""
        self.camera.shown = "nobody"
        seen = -1
        while seen != len(self.seen):
            self.wait("idle", lambda: self._state == "idle")
            seen = len(self.seen)
            time.sleep(1.0)

    def press_exit(self) -> None:
        """Press the exit button, and let go once it opened."""
        self.pressed.append(time.monotonic())
        self.board.close(EXIT)
        self.wait("the exit button to open", lambda: self.level == 1)
        self.board.close(EXIT, closed=False)

    def command(self, command: str) -> None:
        """A command from the broker."""
        self.listener.say(f"{TOPIC}/command", command.encode())

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for text in process.stdout:
                told = json.loads(text)
                if told["state"] is not None and process is self._process:
                    self._state = told["state"]
                    self.seen.append(Line(time.monotonic(), told["state"], told["reason"]))

    def _drain(self) -> None:
        self._ready.setblocking(False)
        try:
            while True:
                self._ready.recv(4096)
        except BlockingIOError:
            pass

    def _said(self) -> str:
        self._errors.flush()
        return (self.folder / "errors.txt").read_text()[-400:]
