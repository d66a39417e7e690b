"""What a door shows of itself: a value that the loop hands to whoever draws it."""

from collections.abc import Mapping

import msgspec
from PIL import Image

from edge_oneshot_device.door.states import State


class ShownDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, or an attempt without one, in a few words.

    Attributes:
        number: Grows from decision to decision.
        at: Unix seconds.
        text: What was decided about whom.
        reason: The reason code; None where the person was let in.
        seconds: From the first frame of the attempt to the decision.
    """

    number: int
    at: float
    text: str
    reason: str | None
    seconds: float


class DoorView(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A door at one moment.

    Attributes:
        name: The door's.
        state: Its state.
        seconds: How long that has lasted.
        prompt: What the person at the door is asked to do; None: nothing.
        frame: RGB, the newest of the camera; None: there is none.
        box: Left, top, right and bottom of the followed face in pixels of the frame; None: no face is followed.
        decisions: The last ones, oldest first.
        stages: Milliseconds that each stage took the last time, by its name.
        faults: What does not work now, a line each.
    """

    name: str
    state: State
    seconds: float = 0.0
    prompt: str | None = None
    frame: Image.Image | None = None
    box: tuple[float, float, float, float] | None = None
    decisions: tuple[ShownDecision, ...] = ()
    stages: Mapping[str, float] = {}
    faults: tuple[str, ...] = ()
