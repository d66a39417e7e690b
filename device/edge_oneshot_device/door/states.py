"""The states of a door, and what leads from one to another.

The table is all there is: `Machine` looks a signal up and keeps the time of the state. What has to happen in a state
(the lock, the event) follows from the state in `edge_oneshot_device.door.loop`.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

State = Literal["idle", "approaching", "challenged", "unlocked", "refused", "held", "faulty"]
Signal = Literal[
    "appeared", "left", "accepted", "asked", "rejected", "opened", "held", "released", "failed", "recovered", "timeout"
]

STATES: Final[Mapping[State, str]] = {
    "idle": "locked, nobody in view",
    "approaching": "a face is followed; its best frames become one probe",
    "challenged": "the face fits somebody enrolled, who has to pass the challenge or give the PIN",
    "unlocked": "the lock is open for its pulse",
    "refused": "the reason is shown; this face gets no further attempt",
    "held": "somebody in charge keeps the lock open",
    "faulty": "camera, lock, runtime or disk failed: locked until it works again",
}
"""What each state means."""

SIGNALS: Final[Mapping[Signal, str]] = {
    "appeared": "a new face",
    "left": "the face is gone",
    "accepted": "the decision is to let the person in",
    "asked": "the decision is to ask for a second factor",
    "rejected": "the decision is not to let the person in",
    "opened": "exit button, emergency release, PIN alone, or a permitted command",
    "held": "the command to keep the door open",
    "released": "the command to end that",
    "failed": "something that the door needs failed",
    "recovered": "all that the door needs works again",
    "timeout": "the state has lasted as long as it may",
}
"""What each signal means."""

TRANSITIONS: Final[Mapping[tuple[State, Signal], State]] = {
    ("idle", "appeared"): "approaching",
    ("approaching", "left"): "idle",
    ("approaching", "accepted"): "unlocked",
    ("approaching", "asked"): "challenged",
    ("approaching", "rejected"): "refused",
    ("approaching", "timeout"): "refused",
    ("challenged", "accepted"): "unlocked",
    ("challenged", "rejected"): "refused",
    ("challenged", "left"): "refused",
    ("challenged", "timeout"): "refused",
    ("unlocked", "accepted"): "unlocked",
    ("unlocked", "opened"): "unlocked",
    ("unlocked", "timeout"): "idle",
    ("refused", "appeared"): "approaching",
    ("refused", "timeout"): "idle",
    ("held", "released"): "idle",
    ("held", "timeout"): "idle",
    ("faulty", "recovered"): "idle",
    # who is inside gets out, and who is in charge opens, whatever the camera says
    ("idle", "opened"): "unlocked",
    ("approaching", "opened"): "unlocked",
    ("challenged", "opened"): "unlocked",
    ("refused", "opened"): "unlocked",
    ("faulty", "opened"): "unlocked",
    ("idle", "held"): "held",
    ("approaching", "held"): "held",
    ("challenged", "held"): "held",
    ("refused", "held"): "held",
    ("unlocked", "held"): "held",
    ("idle", "failed"): "faulty",
    ("approaching", "failed"): "faulty",
    ("challenged", "failed"): "faulty",
    ("unlocked", "failed"): "faulty",
    ("refused", "failed"): "faulty",
    ("held", "failed"): "faulty",
}
"""The next state by state and signal; a pair that is not here changes nothing."""


class Change(msgspec.Struct, frozen=True):
    """A change of state."""

    before: State
    signal: Signal
    after: State


class Machine:
    """The door's state, and since when it lasts.

    Args:
        limits: Seconds after which a state ends with ``timeout``; a state that is not among them lasts.

    Attributes:
        state: The state.
    """

    def __init__(self, limits: Mapping[State, float]) -> None:
        self._limits = limits
        self.state: State = "idle"
        self._ends: float | None = None

    def handle(self, signal: Signal, now: float) -> Change | None:
        """Take a signal.

        Args:
            signal: What happened.
            now: Seconds of a monotonic clock.

        Returns:
            The change; None where the signal changes nothing in this state.
        """
        after = TRANSITIONS.get((self.state, signal))
        if after is None:
            return None
        change = Change(self.state, signal, after)
        self.state = after
        self._ends = now + self._limits[after] if after in self._limits else None
        return change

    def tick(self, now: float) -> Change | None:
        """End the state if its time is over; arguments and result as of `handle`."""
        return self.handle("timeout", now) if self._ends is not None and now >= self._ends else None
