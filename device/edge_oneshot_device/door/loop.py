"""The loop of a door: one thread that takes frames, keys and commands, and tells the lock what to do.

`Door.turn` is all of it: what the guard, the broker and the keypad report, what is at fault, the time of the state,
and the newest frame. What they say becomes a signal; `_signal` looks it up in the table of `door.states` and does what
the new state asks for. The lock opens there and nowhere else, and only after the change is recorded.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.guard_messages import BEAT_SECONDS
from edge_oneshot_device.door.second_factor import (
    ChallengeFactor,
    Outcome,
    PinEntry,
    PinFactor,
    SecondFactor,
    WordFactor,
)
from edge_oneshot_device.door.states import Change, Machine, Signal, State
from edge_oneshot_device.errors import OneShotError
from edge_oneshot_device.recognition.recognizer import Recognizer

if TYPE_CHECKING:
    from edge_oneshot_device.door.approach import Approaches, Sight
    from edge_oneshot_device.door.camera import Camera, Frame
    from edge_oneshot_device.door.events import Command
    from edge_oneshot_device.door.guard import Guard
    from edge_oneshot_device.door.guard_messages import Report
    from edge_oneshot_device.door.hearing import Hearing, Utterance
    from edge_oneshot_device.door.journal import Journal
    from edge_oneshot_device.door.keypad import Keypad
    from edge_oneshot_device.matching.decision import Decision

_FRAME_WAIT: Final = 0.05  # seconds for a frame, so that keys and commands never wait longer
_REST: Final = 2.0  # seconds after a fault of runtime or gallery until the next try
_OPEN: Final[tuple[State, ...]] = ("unlocked", "held")


class Parts(NamedTuple):
    """What the loop works with; whoever opened them closes them.

    Attributes:
        recognizer: Decides, and records what it decides.
        journal: Records what happens.
        camera: Gives frames.
        approaches: Follows faces and makes probes.
        guard: Holds the lock.
        commands: Commands of the broker since the last call.
        keypad: Where PINs are typed; None: there is none.
        tell: Is told of every change and every decision, see `Told`.
        words: Recognizes the words that are asked for; None: none is.
        hearing: Hears them.
    """

    recognizer: Recognizer
    journal: "Journal"
    camera: "Camera"
    approaches: "Approaches"
    guard: "Guard"
    commands: Callable[[], Sequence["Command"]]
    keypad: "Keypad | None"
    tell: Callable[["Told"], None]
    words: Recognizer | None = None
    hearing: "Hearing | None" = None


class Told(NamedTuple):
    """Something that happened, for logs, metrics and the view.

    Attributes:
        change: The change of state; None for a decision that changes none.
        reason: Why, a code.
        person: Whom it is about, if anybody is known.
        seconds: From the first usable frame of the approach; None where there was none.
    """

    change: Change | None
    reason: str
    person: str | None
    seconds: float | None = None


def state_limits(config: DoorConfig) -> dict[State, float]:
    """Seconds that each state lasts at most."""
    return {
        "approaching": config.approach.patience + config.approach.window + 2.0,
        "challenged": config.second_factor.seconds,
        "unlocked": config.lock.pulse,
        "refused": config.show_refusal,
        "held": config.lock.hold_at_most,
    }


class Door:
    """A door at work.

    Args:
        config: Its configuration.
        parts: What it works with.
        clock: Seconds, monotonic.

    Attributes:
        machine: Its state.
        factor: The second factor that is asked for now; None: none is.
        sight: What the newest frame showed.
        fault: Why the door is faulty; None while it is not.
        contact: What the contact at the door said last; None: nothing.
    """

    def __init__(self, config: DoorConfig, parts: Parts, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._parts, self._clock = config, parts, clock
        self._journal = parts.journal
        self._entry = PinEntry()
        self._resting: tuple[str, float] | None = None  # a fault of runtime or gallery, and when it is tried again
        self._usable_since: float | None = None
        self._waiting: Sight | None = None  # ready while the lock was open
        self.machine = Machine(state_limits(config))
        self.factor: SecondFactor | None = None
        self.sight: Sight | None = None
        self.fault: str | None = None
        self.contact: Literal["open", "closed"] | None = None

    def start(self) -> None:
        """Record that the door is locked: after a kill the last row may say that it is open."""
        change = Change("faulty", "recovered", "idle")
        self._journal.change(change, "started", None)
        self._parts.tell(Told(change, "started", None))

    def turn(self) -> "Frame | None":
        """One turn; at most a twentieth of a second passes where there is no frame.

        Returns:
            The frame that was looked at.
        """
        self._parts.guard.beat()
        for report in self._parts.guard.reports():
            self._hear(report)
        for command in self._parts.commands():
            self._obey(command)
        if self._parts.keypad is not None:
            self._press(self._parts.keypad.keys())
        if self._parts.hearing is not None:
            self._listen(self._parts.hearing)
        self._check()
        if self.machine.is_over(self._clock()):
            self._signal("timeout", "timeout" if self.factor is None else self.factor.overdue)
        frame = self._parts.camera.newest(_FRAME_WAIT)
        if frame is not None and self._resting is None:
            self._guarded(lambda: self._look(frame))
        elif frame is None and self._parts.camera.ended:
            self._signal("left", "left")
        return frame

    def _signal(self, signal: Signal, reason: str, person: str | None = None, *, is_open: bool = False) -> None:
        """Go where a signal leads, and do what the new state asks for; `is_open`: the guard has opened already."""
        change = self.machine.next(signal)
        if change is None:
            return
        opens = change.after in _OPEN
        if change.before in _OPEN and not opens:
            self._parts.guard.lock()  # before all else
        if not self._journal.change(change, reason, person) and opens and not is_open:
            self._journal.withdraw()
            self._check()
            return
        self.machine.enter(change, self._clock())
        if change.after == "unlocked":
            self._parts.guard.unlock(self._config.lock.pulse)
        elif change.after == "held":
            self._parts.guard.hold()
        if change.after != "challenged":
            self.factor = None
        self._parts.guard.show(change.after)
        since = self._usable_since if change.before == "approaching" else None
        self._parts.tell(Told(change, reason, person, None if since is None else self._clock() - since))

    def _hear(self, report: "Report") -> None:
        """A report of the guard; it has opened already for the exit button and the emergency release."""
        signals: dict[str, Signal] = {
            "exit_pressed": "opened",
            "emergency": "held",
            "emergency_over": "released",
        }
        if (signal := signals.get(report.kind)) is not None:
            self._signal(signal, report.kind, is_open=True)
            return
        if report.kind in ("forced", "held_open"):
            self._journal.alarm(report.kind, report.text)
        elif report.kind in ("door_opened", "door_closed"):
            self.contact = "open" if report.kind == "door_opened" else "closed"
        else:
            return  # what is locked, unlocked or at fault is asked of the guard itself
        self._parts.tell(Told(None, report.kind, None))

    def _obey(self, command: "Command") -> None:
        signals: dict[Command, Signal] = {"unlock": "opened", "hold": "held", "release": "released"}
        if self._journal.command(command):
            self._signal(signals[command], "command")

    def _press(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        factor = self.factor
        if factor is not None:
            self._guarded(lambda: self._end(factor, factor.press(keys)))
        elif self._config.pin.alone and (entered := self._entry.press(keys)) is not None:
            self._guarded(lambda: self._try_pin(entered))

    def _listen(self, hearing: "Hearing") -> None:
        for utterance in hearing.utterances(asked=self.factor is not None):
            if (factor := self.factor) is not None:
                self._guarded(lambda: self._compare(factor, utterance))  # noqa: B023 (called at once)

    def _compare(self, factor: SecondFactor, utterance: "Utterance") -> None:
        outcome = factor.hear(utterance)
        if not self._is_late(utterance):
            self._end(factor, outcome)

    def _try_pin(self, entered: str) -> None:
        from edge_oneshot_device.door.pins import check_number_and_pin

        recognizer = self._parts.recognizer
        verdict = check_number_and_pin(recognizer.gallery, entered, recognizer.limits)
        if verdict.accepted:
            self._signal("opened", "pin", verdict.person)
        else:
            self._parts.tell(Told(None, verdict.reason, None))

    def _check(self) -> None:
        """Look for faults, and for their end."""
        if self._resting is not None and self._clock() >= self._resting[1]:
            self._resting = None
        if self._journal.fault is not None:
            self._journal.flush()
        guard, resting = self._parts.guard.fault, self._resting
        keypad = self._parts.keypad if self._config.second_factor.mode == "pin" else None
        hearing = self._parts.hearing
        faults = (
            guard, self._journal.fault, self._parts.camera.fault, resting and resting[0], keypad and keypad.fault,
            hearing and hearing.fault,
        )  # fmt: skip
        self.fault = next((fault for fault in faults if fault), None)
        if self.fault is not None:
            self._waiting = None
            if self.machine.state not in _OPEN or guard is not None:  # what somebody opened ends by itself
                self._signal("failed", self.fault)
        elif self.machine.state == "faulty":
            self._signal("recovered", "recovered")

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do what may fail; a failure makes the door faulty, and it is tried again after a rest."""
        try:
            act()
        except OneShotError as error:
            self._resting = str(error), self._clock() + _REST
            self._check()

    def _look(self, frame: "Frame") -> None:
        """What a frame brings."""
        if (factor := self.factor) is not None:
            outcome = factor.see(frame)
            if not self._is_late(frame):
                self._end(factor, outcome)
            return
        sight = self.sight = self._parts.approaches.see(frame)
        self._usable_since = sight.usable_since
        if sight.signal is not None:
            self._waiting = sight if sight.signal == "ready" else None
        if sight.signal in ("appeared", "unusable"):
            self._signal("appeared", "appeared")
        if sight.signal == "left":
            self._signal("left", "left")
        elif sight.signal == "unusable":
            self._signal("rejected", sight.reason or "no_face")
        # a probe that waits is of use only while its face is in view
        if (waiting := self._waiting) is not None and sight.box is not None and self._may_decide():
            self._waiting = None
            self._signal("appeared", "appeared")
            self._decide(waiting, frame)

    def _may_decide(self) -> bool:
        """Whether a probe is of use now: it waits while the lock is open, unless the face alone decides."""
        if self.machine.state == "unlocked":
            return self._config.second_factor.mode == "off"
        return self.machine.state in ("idle", "approaching", "refused")

    def _is_late(self, seen: "Frame | Utterance") -> bool:
        """Whether the program hung over what it saw or heard for so long that whoever it was may have gone."""
        return self._clock() - seen.seconds > BEAT_SECONDS

    def _decide(self, sight: "Sight", frame: "Frame") -> None:
        """One decision for the approach."""
        assert sight.probe is not None
        decision = self._parts.recognizer.identify_probe(sight.probe, frames=sight.frames)
        if self._is_late(frame):
            self._signal("rejected", "timeout")
        elif not decision.accepted:
            if self.machine.state == "unlocked":
                self._parts.tell(Told(None, decision.reason, None))
            self._signal("rejected", decision.reason)
        elif self._asks(decision):
            self._ask(decision)
        else:
            self._signal("accepted", decision.reason, decision.person)

    def _asks(self, decision: "Decision") -> bool:
        """Whether a second factor is asked of somebody whose face fits."""
        wanted = self._config.second_factor
        if wanted.mode != "challenge_when_close":
            return wanted.mode != "off"
        return decision.score is None or decision.score < decision.threshold + wanted.close

    def _ask(self, decision: "Decision") -> None:
        assert decision.person is not None
        factor = self._factor_for(decision.person)
        self._signal("asked", self._config.second_factor.mode, decision.person)
        self.factor = factor

    def _factor_for(self, person: str) -> SecondFactor:
        if self._config.second_factor.mode == "word":
            assert self._parts.words is not None
            return WordFactor(self._parts.words, person)
        kind = PinFactor if self._config.second_factor.mode == "pin" else ChallengeFactor
        return kind(self._parts.recognizer, person)

    def _end(self, factor: SecondFactor, outcome: Outcome | None) -> None:
        """Take the outcome of the second factor, if there is one."""
        if outcome is None:
            return
        self._signal("accepted" if outcome.passed else "rejected", outcome.reason, factor.person)
