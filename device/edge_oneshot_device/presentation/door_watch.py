"""What `run --show` draws: the door as it is in this turn, with its last decisions."""

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from edge_oneshot_device.door.second_factor import prompt_text
from edge_oneshot_device.door.view import DoorView, ShownDecision
from edge_oneshot_device.presentation.door_view import DoorScreen
from edge_oneshot_device.text import printable

if TYPE_CHECKING:
    from edge_oneshot_device.door.camera import Frame
    from edge_oneshot_device.door.loop import Door, Told

_SHOWN: Final = ("unlocked", "refused", "challenged", "held", "faulty")


class DoorWatch:
    """Draws a door; its methods are what `run_door` calls.

    Args:
        name: The door's.
        screen: What it is drawn on.
    """

    def __init__(self, name: str, screen: DoorScreen) -> None:
        self._name, self._screen = name, screen
        self._decisions: deque[ShownDecision] = deque(maxlen=20)
        self._number = 0
        self._since = time.monotonic()

    def tell(self, told: "Told") -> None:
        """Take a change or a decision."""
        if told.change is not None:
            self._since = time.monotonic()
        if told.change is not None and told.change.after not in _SHOWN:
            return
        self._number += 1
        what = "refused" if told.change is None else told.change.after
        text = what if told.person is None else f"{what} {printable(told.person)}"
        opened = what == "unlocked" and told.reason == "match"
        self._decisions.append(
            ShownDecision(
                number=self._number,
                at=time.time(),
                text=text,
                reason=None if opened else told.reason,
                seconds=told.seconds or 0.0,
            )
        )

    def show(self, door: "Door", frame: "Frame | None") -> None:
        """Draw the door, where there is a new frame or a fault."""
        now, sight = time.monotonic(), door.sight
        if frame is None and door.fault is None:
            return
        self._screen.show(
            DoorView(
                name=self._name,
                state=door.machine.state,
                seconds=now - self._since,
                prompt=None if door.factor is None else prompt_text(door.factor.prompt),
                frame=None if frame is None else frame.image,
                box=None if sight is None else sight.box,
                decisions=tuple(self._decisions),
                stages={} if sight is None else {name: 1e3 * spent for name, spent in sight.stages.items()},
                faults=() if door.fault is None else (door.fault,),
            ),
            now,
        )
