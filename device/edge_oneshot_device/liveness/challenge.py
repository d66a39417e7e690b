"""The challenge: random actions that a person is asked to do, to tell a living face from a picture."""

import random
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

Action = Literal["turn_left", "turn_right", "blink", "come_closer"]

ACTIONS: Final[tuple[Action, ...]] = ("turn_left", "turn_right", "blink", "come_closer")
"""Left and right as the person sees them."""

_COUNT: Final = 3  # of four actions, so that one is always a turn
_WAIT: Final = (0.4, 1.2)  # seconds: long enough to see that nothing happens yet, and random


class Challenge(msgspec.Struct, frozen=True):
    """Actions in the order in which they are asked.

    Attributes:
        actions: Three of the four, so that at least one is a turn.
        waits: Seconds that the person looks straight ahead before each action.
    """

    actions: tuple[Action, ...]
    waits: tuple[float, ...]

    def without_blink(self) -> "Challenge | None":
        """The challenge with the action that it left out in the place of the blink; None when there is no such place.

        That is for whose blink is not seen, behind sunglasses for one. It is a turn or coming closer, which a picture
        does worse than a blink.
        """
        left = [action for action in ACTIONS if action not in self.actions]
        if "blink" not in self.actions or len(left) != 1:
            return None
        return replace(self, actions=tuple(left[0] if action == "blink" else action for action in self.actions))

    @classmethod
    def draw(cls, source: random.Random | None = None) -> "Challenge":
        """Draw a random challenge.

        Args:
            source: Random number generator; None takes the operating system's.
        """
        source = source or random.SystemRandom()
        actions = tuple(source.sample(ACTIONS, _COUNT))
        return cls(actions, tuple(source.uniform(*_WAIT) for _ in actions))
