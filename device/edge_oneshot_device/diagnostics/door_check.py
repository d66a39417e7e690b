"""Check what a door's configuration names: camera, microphone, words, GPIOs, keypad, secrets, packages, broker. Nothing
is moved, and neither camera nor microphone is opened, so that a door that runs is not disturbed.
"""

import grp
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from edge_oneshot_device.audio.sound_captures import NO_PORTAUDIO, is_sound_file
from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.diagnostics.doctor import Diagnosis, examine, require_calibrated, require_faces
from edge_oneshot_device.diagnostics.equipment import Finding
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.hearing import require_audio
from edge_oneshot_device.door.signing import SECRET_BYTES, read_secret
from edge_oneshot_device.errors import MachineError, OneShotError

CONNECT_SECONDS: Final = 3.0
"""Seconds that a camera in the network or a broker has to answer."""

_RTSP_PORT: Final = 554
_PACKAGES: Final = {
    "audio": ("sounddevice", "soxr"),
    "camera": ("cv2",),
    "gpio": ("gpiozero", "lgpio"),
    "mqtt": ("paho",),
    "pin": ("argon2",),
    "metrics": ("prometheus_client",),
}
"""The modules of each extra."""
_OF_WORDS: Final = ("bundle", "settings", "key", "gallery", "audit", "threshold", "state")
"""What is said of the state folder of the words; of the machine it is said once."""


def check_door(
    config: DoorConfig,
    state: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    root: Path = Path("/"),
) -> Diagnosis:
    """Check everything that a door needs: what `examine` checks, and what its configuration names.

    Args:
        config: The configuration.
        state: The state folder, see `examine`.
        key: The file of the gallery's key, see `examine`.
        root: The folder that holds dev and sys.

    Returns:
        The findings. A check that fails is a finding, not an error.
    """
    found = examine(state, key, require=_require_door)
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: find_packages(config),
        lambda: find_camera(config, root),
        lambda: find_words(config, key),
        lambda: find_microphone(config, root),
        lambda: find_gpio(config, root),
        lambda: find_keypad(config, root),
        lambda: find_secrets(config),
        lambda: find_broker(config),
    )
    more = [finding for check in checks for finding in check()]
    fault = MachineError.exit_code if any(finding.level == "fault" for finding in more) else 0
    return Diagnosis(found.state, [*found.findings, *more], found.exit_code or fault)


def door_extras(config: DoorConfig) -> tuple[str, ...]:
    """The extras of this package that a door needs, sorted."""
    needed = {
        "audio": _uses_microphone(config),
        "camera": config.camera.source != "picamera",
        "gpio": _uses_gpio(config),
        "metrics": bool(config.metrics.port),
        "mqtt": bool(config.mqtt.host),
        "pin": bool(config.pin.keypad),
    }
    return tuple(extra for extra, is_needed in needed.items() if is_needed)


def find_packages(config: DoorConfig) -> Iterator[Finding]:
    """The packages that are missing."""
    missing = [extra for extra in door_extras(config) if any(find_spec(module) is None for module in _PACKAGES[extra])]
    if missing:
        text = f"packages are missing: install the device's wheel with [{','.join(missing)}], or use deploy --door"
        yield Finding("packages", "fault", text, "extra_missing")
    if config.camera.source == "picamera" and find_spec("picamera2") is None:
        text = "picamera2 is missing; run: apt install python3-picamera2, for an environment with the system's packages"
        yield Finding("packages", "fault", text, "extra_missing")


def find_camera(config: DoorConfig, root: Path = Path("/")) -> Iterator[Finding]:
    """Whether the camera is there and this user may open it."""
    source = config.camera.source
    if source.startswith(("rtsp://", "rtsps://")):
        try:
            address = urlsplit(source)
            host, port = address.hostname or "", address.port or _RTSP_PORT
        except ValueError:
            host, port = "", 0
        yield _reached("camera", host, port, "fault", "no_camera")
        return
    if source == "picamera":
        nodes = [*sorted(root.glob("dev/media*")), *sorted(root.glob("dev/dma_heap/*"))]
        if not nodes:
            text = "there is no camera at the ribbon cable: look at rpicam-hello --list-cameras"
            yield Finding("camera", "fault", text, "no_camera")
            return
    else:
        node = Path(f"/dev/video{source}" if source.isdecimal() else source)
        nodes = [root / node.relative_to("/") if node.is_absolute() else node]
        if not nodes[0].exists():
            text = f"there is no {node}: {_cameras(root)}; name one as camera.source, or plug the camera in again"
            yield Finding("camera", "fault", text, "no_camera")
            return
    is_video = nodes[0].is_file()
    yield from _permitted("camera", nodes, "no_camera", os.R_OK if is_video else os.R_OK | os.W_OK)


def find_words(config: DoorConfig, key: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
    """What `examine` finds in the state folder of the words, if the door asks for any.

    Args:
        config: The configuration.
        key: The file of the key of the faces.
    """
    if config.second_factor.mode != "word":
        return
    found = examine(config.word.state, config.word.key or key, require=_require_words).findings
    for finding in found:
        if finding.level == "fault" or finding.what in _OF_WORDS:
            yield msgspec.structs.replace(finding, text=f"words: {finding.text}")


def find_microphone(config: DoorConfig, root: Path = Path("/")) -> Iterator[Finding]:
    """Whether the microphone is there and this user may open it, if the door asks for words."""
    source = config.word.microphone
    if config.second_factor.mode != "word":
        return
    if is_sound_file(source):
        if Path(source).is_file():
            yield from _permitted("microphone", [Path(source)], "no_microphone", os.R_OK)
        else:
            yield Finding("microphone", "fault", f"there is no {source}; name it as word.microphone", "no_microphone")
        return
    if find_spec("sounddevice") is not None and find_library("portaudio") is None:
        yield Finding("packages", "fault", NO_PORTAUDIO, "extra_missing")
    nodes = sorted(root.glob("dev/snd/pcmC*D*c"))  # ALSA's devices that record
    if not nodes:
        text = "there is no microphone: plug it in again; arecord --list-devices shows those that the system has"
        yield Finding("microphone", "fault", text, "no_microphone")
        return
    yield from _permitted("microphone", nodes, "no_microphone", os.R_OK | os.W_OK)


def find_gpio(config: DoorConfig, root: Path = Path("/")) -> Iterator[Finding]:
    """Whether there are GPIOs and this user may use them, if the door needs any."""
    if not _uses_gpio(config):
        return
    chips = sorted(root.glob("dev/gpiochip*"))
    if not chips:
        text = "there is no /dev/gpiochip: the lock and the contacts need a board with GPIOs, such as a Raspberry Pi"
        yield Finding("gpio", "fault", text, "no_gpio")
        return
    yield from _permitted("gpio", chips, "no_gpio", os.R_OK | os.W_OK)


def find_keypad(config: DoorConfig, root: Path = Path("/")) -> Iterator[Finding]:
    """Whether the keypad is there and this user may read it, if the configuration names one."""
    if not config.pin.keypad:
        return
    node = root / Path(config.pin.keypad).relative_to("/") if config.pin.keypad[:1] == "/" else Path(config.pin.keypad)
    if not node.exists():
        there = ", ".join(f"/dev/input/by-id/{one.name}" for one in sorted(root.glob("dev/input/by-id/*-kbd")))
        text = f"there is no {config.pin.keypad}; keypads here: {there or 'none'}; name one as pin.keypad"
        yield Finding("keypad", "fault", text, "no_keypad")
        return
    yield from _permitted("keypad", [node], "no_keypad", os.R_OK)


def find_secrets(config: DoorConfig) -> Iterator[Finding]:
    """Whether the files with secrets can be read by this user, and by nobody else."""
    lock, hook, broker = config.lock.webhook, config.webhook, config.mqtt
    wanted = {
        "lock.webhook.secret_file": lock.secret_file if config.lock.kind == "webhook" else "",
        "webhook.secret_file": hook.secret_file if hook.url else "",
        "mqtt.password_file": broker.password_file if broker.host else "",
    }
    for name, file in wanted.items():
        if not file:
            continue
        try:
            read_secret(file, 1 if name == "mqtt.password_file" else SECRET_BYTES)
            yield Finding("secret", "ok", f"{name}: {file}")
        except OneShotError as error:
            yield Finding("secret", "fault", f"{name}: {error}", error.reason)


def find_broker(config: DoorConfig) -> Iterator[Finding]:
    """Whether the broker answers. What it is not told now, it is told later; a lock behind it does not open."""
    if config.mqtt.host:
        level: Literal["warning", "fault"] = "fault" if config.lock.kind == "mqtt" else "warning"
        yield _reached("broker", config.mqtt.host, config.mqtt.port, level, "no_broker")


def _require_door(manifest: Manifest) -> None:
    require_faces(manifest)
    require_calibrated(manifest)


def _require_words(manifest: Manifest) -> None:
    require_audio(manifest.input)
    require_calibrated(manifest)


def _uses_microphone(config: DoorConfig) -> bool:
    return config.second_factor.mode == "word" and not is_sound_file(config.word.microphone)


def _uses_gpio(config: DoorConfig) -> bool:
    inputs = config.inputs
    pins = (inputs.door_sensor, inputs.exit_button, inputs.emergency_release, inputs.buzzer, inputs.green, inputs.red)
    return config.lock.kind == "gpio" or any(pin is not None for pin in pins)


def _reached(what: str, host: str, port: int, level: Literal["warning", "fault"], reason: str) -> Finding:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the latter: no name
        told = getattr(error, "strerror", None) or type(error).__name__
        text = f"{host} does not answer on port {port} ({told}): check its address, its power and the network"
        return Finding(what, level, text, reason if level == "fault" else None)
    return Finding(what, "ok", f"{host} answers on port {port}")


def _permitted(what: str, nodes: list[Path], reason: str, mode: int) -> Iterator[Finding]:
    closed = [node for node in nodes if not os.access(node, mode)]
    if not closed:
        yield Finding(what, "ok", ", ".join(map(str, nodes[:3])) + (" ..." if len(nodes) > 3 else ""))
        return
    group = closed[0].stat().st_gid
    try:
        name = grp.getgrgid(group).gr_name
    except KeyError:
        name = str(group)
    text = f"this user ({_user()}) may not open {closed[0]}: sudo usermod -aG {name} {_user()}, then log in again"
    yield Finding(what, "fault", text, reason)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _cameras(root: Path) -> str:
    """The cameras of Video4Linux, with their names."""
    found = []
    for entry in sorted(root.glob("sys/class/video4linux/video*")):
        try:
            found.append(f"/dev/{entry.name} ({(entry / 'name').read_text().strip()})")
        except OSError:
            continue
    return f"cameras here: {', '.join(found)}" if found else "no camera is there"
