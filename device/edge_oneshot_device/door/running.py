"""Everything that a door needs, opened in order, kept going, and closed again: what `run` does."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Final

from edge_oneshot_device.door import notify
from edge_oneshot_device.door.approach import Approaches
from edge_oneshot_device.door.camera import Camera
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.events import Status
from edge_oneshot_device.door.guard import Guard
from edge_oneshot_device.door.journal import Journal
from edge_oneshot_device.door.loop import Door, Parts, Told
from edge_oneshot_device.door.prompter import Prompter
from edge_oneshot_device.door.publisher import Publisher
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.recognition.recognizer import Recognizer

if TYPE_CHECKING:
    from edge_oneshot_device.door.camera import Frame
    from edge_oneshot_device.door.hearing import Hearing
    from edge_oneshot_device.door.keypad import Keypad

_ALIVE: Final = 1.0  # seconds between two signs of life to systemd
_DECIDED: Final = ("unlocked", "challenged", "refused")

Tell = Callable[[Told], None]
Show = Callable[[Door, "Frame | None"], None]


def run_door(
    config: DoorConfig,
    stop: threading.Event,
    *,
    state: str | PathLike[str] | None = None,
    key: str | PathLike[str] | None = None,
    tell: Tell = lambda _: None,
    show: Show = lambda *_: None,
) -> None:
    """Run a door until it is told to stop, or until a video file is over.

    The guard of the lock is opened last, and locks; it is closed first, and locks again. systemd is told when the door
    is ready, and that it is alive.

    Args:
        config: The configuration.
        stop: Ends the loop at its next turn.
        state: The state folder, see `Recognizer.open`.
        key: The file of the gallery's key.
        tell: Is told of every change and decision.
        show: Is called in every turn with the door and the frame that it looked at, if there was one.

    Raises:
        InputError: The configuration does not fit the machine or the bundle: ``no_faces``, ``uncalibrated``,
            ``no_camera``, ``no_program``, ``no_speech_bundle``, ``no_microphone`` and others.
        IntegrityError: As of `Recognizer.open`; or a file with a secret is refused.
        MachineError: Something that the door needs cannot be opened, or an extra is not installed.
    """
    with contextlib.ExitStack() as stack:
        recognizer = stack.enter_context(Recognizer.open(state, key=key))
        approaches = Approaches(recognizer.encoder, config.approach, recognizer.least_score)
        gallery = recognizer.gallery
        publisher = stack.enter_context(Publisher(config, lambda: Gallery.open(gallery.path, key=gallery.source)))
        measure = _open_metrics(config, publisher, stack)
        keypad = _open_keypad(config, stack)
        prompter = stack.enter_context(Prompter(config.second_factor.prompt_command))
        words, hearing = _open_words(config, key, prompter, stack)
        camera = stack.enter_context(Camera(config.camera))
        guard = stack.enter_context(Guard(config))
        news: list[Told] = []
        parts = Parts(
            recognizer, Journal(gallery), camera, approaches, guard, publisher.commands, keypad, news.append,
            words, hearing,
        )  # fmt: skip
        door = Door(config, parts)
        door.start()
        publisher.tell(Status(door.machine.state))  # a broker still shows what was before the start
        notify.ready("at work")
        stack.callback(notify.stopping)
        alive, shown = time.monotonic(), None
        while not (stop.is_set() or (camera.ended and door.machine.state == "idle")):
            frame = door.turn()
            for told in news:
                tell(told)
            status = Status(door.machine.state, door.fault, door.contact)
            if news or status != shown:
                publisher.tell(status)
                shown = status
            prompter.say(None if door.factor is None else door.factor.prompt)
            measure(door, news, frame is not None)
            news.clear()
            show(door, frame)
            if time.monotonic() - alive >= _ALIVE:
                notify.alive(door.machine.state)
                alive = time.monotonic()


def _open_metrics(
    config: DoorConfig, publisher: Publisher, stack: contextlib.ExitStack
) -> Callable[[Door, Sequence[Told], bool], None]:
    """What counts and measures a turn; nothing where no metrics are wanted."""
    if not config.metrics.port:
        return lambda *_: None
    from edge_oneshot_device.door.metrics import Metrics, serve

    metrics = Metrics(publisher.health)
    stack.enter_context(serve(metrics, config.metrics.port))

    def measure(door: Door, news: Sequence[Told], looked: bool) -> None:
        for told in news:
            if told.change is None or told.change.after in _DECIDED:
                metrics.decided(told.reason)
            if told.change is not None:
                metrics.entered(told.change.after)
            if told.seconds is not None:
                metrics.measured({"approach": told.seconds})
        if looked and door.sight is not None:
            metrics.measured(door.sight.stages)

    return measure


def _open_keypad(config: DoorConfig, stack: contextlib.ExitStack) -> "Keypad | None":
    if not config.pin.keypad:
        return None
    from edge_oneshot_device.door.keypad import Keypad

    return stack.enter_context(Keypad(config.pin.keypad))


def _open_words(
    config: DoorConfig, key: str | PathLike[str] | None, prompter: Prompter, stack: contextlib.ExitStack
) -> "tuple[Recognizer | None, Hearing | None]":
    """What recognizes words, and what hears them; both None where no words are asked for."""
    if config.second_factor.mode != "word":
        return None, None
    from edge_oneshot_device.door.hearing import Hearing, require_audio

    words = stack.enter_context(Recognizer.open(config.word.state, key=config.word.key or key))
    rate = require_audio(words.encoder.input).sample_rate
    _ = words.least_score  # raises where the bundle has no thresholds
    return words, stack.enter_context(Hearing(config.word.microphone, rate, lambda: prompter.is_speaking))
