"""The states of a door, and what leads from one to another.

The table is all there is: `Machine` looks a signal up and keeps the time of the state. What has to happen in a state
(the lock, the row of the audit trail) follows from it in `edge_oneshot_device.door.loop`.
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
    "challenged": "the face fits somebody enrolled, who has to pass the challenge, give the PIN or say the word",
    "unlocked": "the lock is open for its pulse",
    "refused": "the reason is shown; this face gets no further attempt",
    "held": "somebody in charge keeps the lock open",
    "faulty": "camera, microphone, lock, runtime or disk failed: locked until it works again",
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

    def next(self, signal: Signal) -> Change | None:
        """Where a signal leads from the present state; None where it changes nothing."""
        after = TRANSITIONS.get((self.state, signal))
        return None if after is None else Change(self.state, signal, after)

    def enter(self, change: Change, now: float) -> None:
        """Go where a signal leads.

        Args:
            change: What `next` said.
            now: Seconds of a monotonic clock.
        """
        self.state = change.after
        self._ends = now + self._limits[change.after] if change.after in self._limits else None

    def is_over(self, now: float) -> bool:
        """Whether the state has lasted as long as it may.

        Args:
            now: Seconds of the same clock.
        """
        return self._ends is not None and now >= self._ends
