"""The challenge: random actions that a person is asked to do, to tell a living face from a picture."""

import random
from typing import Final, Literal

import msgspec

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

    @classmethod
    def draw(cls, source: random.Random | None = None) -> "Challenge":
        """Draw a random challenge.

        Args:
            source: Random number generator; None takes the operating system's.
        """
        source = source or random.SystemRandom()
        actions = tuple(source.sample(ACTIONS, _COUNT))
        return cls(actions, tuple(source.uniform(*_WAIT) for _ in actions))
