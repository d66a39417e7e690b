"""What a door asks of a person, to see that the face before it is no picture."""

import random
from typing import Final, Literal

import msgspec

Action = Literal["turn_left", "turn_right", "blink", "come_closer"]

ACTIONS: Final[tuple[Action, ...]] = ("turn_left", "turn_right", "blink", "come_closer")
"""Left and right are the person's own."""

_COUNT: Final = 3  # one less than there are actions, so that one is always a turn
_WAIT: Final = (0.4, 1.2)  # seconds: long enough to see that nothing happens yet, and not to be foreseen


class Challenge(msgspec.Struct, frozen=True):
    """Actions in the order in which they are asked.

    Attributes:
        actions: Three of the four, so that one at least is a turn.
        waits: Seconds that the person looks straight ahead before each is asked.
    """

    actions: tuple[Action, ...]
    waits: tuple[float, ...]

    @classmethod
    def draw(cls, source: random.Random | None = None) -> "Challenge":
        """A challenge that nobody can foresee.

        Args:
            source: Of the numbers; None takes the operating system's.
        """
        source = source or random.SystemRandom()
        actions = tuple(source.sample(ACTIONS, _COUNT))
        return cls(actions, tuple(source.uniform(*_WAIT) for _ in actions))
