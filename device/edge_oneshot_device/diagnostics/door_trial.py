"""Try a door before it runs: what `door_check` looks at, a frame of the camera, a moment of the microphone, the lock,
which is not opened, and the receivers of events.
"""

import time
from collections.abc import Callable
from os import PathLike
from typing import Final

import numpy as np

from edge_oneshot_device.audio.microphone import Microphone
from edge_oneshot_device.diagnostics.doctor import Diagnosis
from edge_oneshot_device.diagnostics.door_check import check_door
from edge_oneshot_device.diagnostics.equipment import Finding
from edge_oneshot_device.door.camera import Camera
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.guard import lock_now
from edge_oneshot_device.door.publisher import receivers_of
from edge_oneshot_device.errors import MachineError, OneShotError

_FRAME_SECONDS: Final = 10.0  # for the first frame; a network camera takes seconds
_SOUND_SECONDS: Final = 10.0  # for the first second of sound
_SAMPLE_RATE: Final = 16_000
_MUTED: Final = 1e-4  # of full scale: three steps of 16 bits
_FACTORS: Final = {
    "off": "none: a printed photo of somebody enrolled opens; set second_factor.mode",
    "challenge": "challenge: a picture does not pass; a screen that shows the person may",
    "challenge_when_close": "challenge near the threshold only: a good photo of somebody enrolled opens",
    "pin": "PIN",
    "word": "a spoken word: whoever has heard it may say it, and a recording of it passes",
}


def try_door(
    config: DoorConfig, state: str | PathLike[str] | None = None, key: str | PathLike[str] | None = None
) -> Diagnosis:
    """Try a door; it must not run meanwhile, because camera and lock serve one program at a time.

    Args:
        config: The configuration.
        state: The state folder, see `examine`.
        key: The file of the gallery's key, see `examine`.

    Returns:
        The findings. A check that fails is a finding, not an error.
    """
    looked = check_door(config, state, key)
    findings, code = [*looked.findings, _factor(config)], looked.exit_code
    checks: dict[str, Callable[[], Finding]] = {
        "camera": lambda: _camera(config),
        **({"microphone": lambda: _microphone(config)} if config.second_factor.mode == "word" else {}),
        "lock": lambda: _lock(config),
        "events": lambda: _events(config),
    }
    for what, check in checks.items():
        try:
            findings.append(check())
        except OneShotError as error:
            findings.append(Finding(what, "fault", str(error), error.reason))
            code = code or error.exit_code
    return Diagnosis(looked.state, findings, code)


def _factor(config: DoorConfig) -> Finding:
    mode = config.second_factor.mode
    return Finding("factor", "ok" if mode in ("pin", "challenge", "word") else "warning", _FACTORS[mode])


def _camera(config: DoorConfig) -> Finding:
    with Camera(config.camera) as camera:
        ends = time.monotonic() + _FRAME_SECONDS
        while time.monotonic() < ends:
            if (frame := camera.newest(0.2)) is not None:
                return Finding("camera", "ok", f"frames of {frame.image.width} x {frame.image.height} pixels")
        fault = camera.fault or f"no frame within {_FRAME_SECONDS:g} s"
    raise MachineError(f"{config.camera.source}: {fault}", reason="no_camera")


def _microphone(config: DoorConfig) -> Finding:
    """How loud the place is; what is heard is not kept."""
    with Microphone(config.word.microphone, _SAMPLE_RATE) as microphone:
        microphone.listen()
        heard, ends = np.zeros(0, np.float32), time.monotonic() + _SOUND_SECONDS
        while len(heard) < _SAMPLE_RATE:
            if microphone.fault is not None or time.monotonic() > ends:
                fault = microphone.fault or f"no sound within {_SOUND_SECONDS:g} s"
                raise MachineError(fault, reason="no_microphone")
            heard = np.concatenate([heard, microphone.heard()])
            time.sleep(0.05)
    loudest = float(np.abs(heard).max())
    if loudest < _MUTED:
        return Finding("microphone", "warning", "it gives silence: is it muted? look at alsamixer")
    return Finding("microphone", "ok", f"it hears the place, at most {20.0 * np.log10(loudest):.0f} dB of full scale")


def _lock(config: DoorConfig) -> Finding:
    if config.lock.kind == "none":
        return Finding("lock", "warning", "none is configured, so that nothing opens: set lock.kind")
    lock_now(config)
    return Finding("lock", "ok", f"{config.lock.kind}: locked")


def _events(config: DoorConfig) -> Finding:
    """Whether the receivers of events are allowed, and the broker lets the door in; a webhook is not asked."""
    receivers = receivers_of(config)
    for receiver in receivers:
        try:
            receiver.open()
        except MachineError as error:
            if error.reason != "broker_away":
                raise
            return Finding("events", "warning", str(error), error.reason)
        finally:
            receiver.close()
        if receiver.fault is not None:
            raise MachineError(receiver.fault, reason="broker_refused")
    names = " and ".join(receiver.name for receiver in receivers)
    return Finding("events", "ok", f"told to {names}" if names else "nobody is told")
