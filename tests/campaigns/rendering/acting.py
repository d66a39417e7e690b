"""Who stands before the camera and how they follow the challenge: people, and pictures in the hands of attackers."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np

from tests.campaigns.rendering.people import Person, Shape, seen_from

_LASTS, _AGAIN = 1.6, 2.4  # seconds of trying, and until the next try
_BLINK: Final = (0.0, 0.5, 1.0, 1.0, 0.6, 0.2, 0.0)  # closure in the course of a blink
_LEFT, _RIGHT = -1.0, 1.0  # sides of a yaw


@dataclass
class Pose:
    """Where a face is, in degrees and centimetres, and what it looks like; attributes are those of `Actor`."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0
    y: float = 0.0
    z: float = 60.0
    closure: float = 0.0
    size: float = 1.0
    bend: float = 0.0
    along: float = 0.0
    fold: float = 0.0
    pleat: float = 0.0
    pleats: int = 1
    oval: float = 0.0
    dome: float = 0.0
    ridge: float = 0.0
    beak: float = 0.0
    sides: float = 0.0
    warped: bool = False

    @property
    def shape(self) -> Shape:
        """What is done to a sheet."""
        return Shape(*(getattr(self, field.name) for field in fields(Shape)))


RATES: Final = {
    "yaw": 50.0, "pitch": 60.0, "x": 20.0, "z": 22.0, "bend": 0.12, "fold": 1.2, "size": 0.8,
    "pleat": 0.4, "dome": 0.1, "ridge": 0.8, "beak": 0.5, "sides": 2.0,
}  # fmt: skip
"""How fast a hand or a neck changes each, a second, at most."""


@dataclass
class Actor:
    """Somebody who sees what is asked and does it, after a while, as well as they can.

    Attributes:
        numbers: Where chance comes from.
        person: Who is seen, by the time: whose head, or whose photo.
        solid: Whether a head is seen or a sheet, by the time.
        acts: The targets of a pose for each thing asked.
        rest: The pose in between.
        eyes: Whether the eyes blink when asked.
        blinks: Seconds at which they blink unasked.
        rates: How fast each part of a pose changes, a second, at most.
        now: The pose, without what sways and blinks.
        asked: What is asked.
    """

    numbers: random.Random
    person: Callable[[float], Person]
    solid: Callable[[float], bool]
    acts: dict[str, dict[str, float]]
    rest: Pose
    eyes: bool
    blinks: tuple[float, ...] = ()
    rates: dict[str, float] = field(default_factory=lambda: dict(RATES))
    now: Pose = field(default_factory=Pose)
    asked: str = "look"
    _since: float = 0.0
    _at: float = 0.0

    def __post_init__(self) -> None:
        """Begin at rest."""
        self.now = Pose(**vars(self.rest))
        self._delay = self.numbers.uniform(0.25, 0.6)
        self._speed = self.numbers.uniform(0.7, 1.2)
        self._phases = [self.numbers.uniform(0.0, 6.28) for _ in range(6)]
        self._sway = self.numbers.uniform(0.4, 1.4)

    def pose(self, ask: str, seconds: float) -> Pose:
        """Where the face is now, when this is asked."""
        if ask != self.asked:
            self.asked, self._since = ask, seconds
            self._delay = self.numbers.uniform(0.25, 0.6)
        passed, self._at = seconds - self._at, seconds
        acting = seconds - self._since - self._delay
        if ask != "come_closer":
            acting = acting % _AGAIN if acting >= 0 else acting  # who is not understood does it once more
        targets = vars(self.rest) | (
            self.acts.get(ask, {}) if acting >= 0 and (acting < _LASTS or ask == "come_closer") else {}
        )
        for name, rate in self.rates.items():
            now, wanted = getattr(self.now, name), targets[name]
            step = rate * self._speed * passed
            setattr(self.now, name, now + float(np.clip(wanted - now, -step, step)))
        shown = Pose(**vars(self.now))
        for number, (name, amplitude) in enumerate(
            {"yaw": 1.2, "pitch": 1.5, "roll": 1.2, "x": 0.4, "y": 0.3, "z": 0.4}.items()
        ):
            wave = np.sin(seconds * (1.1 + 0.23 * number) + self._phases[number])
            setattr(shown, name, getattr(shown, name) + amplitude * self._sway * float(wave))
        began = [seconds - acting] if self.eyes and ask == "blink" and acting >= 0 else []
        for start in (*began, *self.blinks):
            place = (seconds - start) / 0.42 * (len(_BLINK) - 1)
            shown.closure = max(shown.closure, float(np.interp(place, range(len(_BLINK)), _BLINK, 0.0, 0.0)))
        return shown


def always(value: Any) -> Callable[[float], Any]:
    """The same at any time."""
    return lambda _: value


def genuine(numbers: random.Random, people: list[Person]) -> Actor:
    """A person who does what is asked."""
    angle, near = numbers.uniform(18, 32), numbers.uniform(27, 32)
    rest = Pose(
        yaw=numbers.uniform(-4, 4),
        pitch=numbers.uniform(-6, 6),
        roll=numbers.uniform(-4, 4),
        x=numbers.uniform(-5, 5),
        y=numbers.uniform(-4, 4),
        z=numbers.uniform(54, 66),
    )
    acts = {
        "turn_left": {"yaw": rest.yaw + _LEFT * angle, "pitch": rest.pitch + numbers.uniform(-5, 5)},
        "turn_right": {"yaw": rest.yaw + _RIGHT * angle, "pitch": rest.pitch + numbers.uniform(-5, 5)},
        "come_closer": {"z": near, "x": rest.x * 0.4, "pitch": rest.pitch + numbers.uniform(-4, 4)},
    }
    blinks = tuple(numbers.uniform(0.0, 20.0) for _ in range(4))
    return Actor(numbers, always(numbers.choice(people)), always(True), acts, rest, True, blinks)


def _sheet_acts(numbers: random.Random, rest: Pose) -> dict[str, dict[str, float]]:
    """What a picture can do: tilt to the side for a turn, nod quickly for a blink, come closer."""
    tilt = numbers.uniform(15, 60)
    nearer = {"z": rest.z / numbers.uniform(1.7, 2.3)}
    return {
        "turn_left": {"yaw": rest.yaw + _LEFT * tilt},
        "turn_right": {"yaw": rest.yaw + _RIGHT * tilt},
        "blink": {"pitch": numbers.choice((-1, 1)) * numbers.uniform(15, 50)},
        "come_closer": nearer,
    }


def _held(numbers: random.Random, **more: float) -> Pose:
    return Pose(
        yaw=numbers.uniform(-6, 6),
        pitch=numbers.uniform(-8, 8),
        roll=numbers.uniform(-5, 5),
        x=numbers.uniform(-4, 4),
        y=numbers.uniform(-3, 3),
        z=numbers.uniform(54, 66),
        **more,
    )


def _paper(numbers: random.Random, people: list[Person], rest: Pose, acts: dict[str, dict[str, float]], eyes: bool):
    return Actor(numbers, always(numbers.choice(people)), always(False), acts, rest, eyes)


def moved(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A flat photo, moved to the side for a turn."""
    rest = _held(numbers)
    acts = _sheet_acts(numbers, rest)
    acts["turn_left"], acts["turn_right"] = ({"x": side * numbers.uniform(4, 12)} for side in (1, -1))
    return _paper(numbers, people, rest, acts, eyes)


def tilted(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A flat photo, tilted."""
    rest = _held(numbers)
    return _paper(numbers, people, rest, _sheet_acts(numbers, rest), eyes)


def _direction(numbers: random.Random) -> float:
    """Across the face as often as in any other direction."""
    return numbers.gauss(0, 10) if numbers.random() < 0.5 else numbers.uniform(-90, 90)


def bent(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo bent to a cylinder all the time, as over a bottle or a head, and tilted."""
    rest = _held(numbers, bend=1 / numbers.uniform(5, 16), along=_direction(numbers))
    return _paper(numbers, people, rest, _sheet_acts(numbers, rest), eyes)


def bending(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo that is flat at first, and bent while it is tilted or comes closer."""
    rest = _held(numbers, along=_direction(numbers), bend=numbers.choice((0.0, 0.0, -0.05)))
    acts = _sheet_acts(numbers, rest)
    bend = 1 / numbers.uniform(5, 14)
    for name in ("turn_left", "turn_right", "come_closer"):
        acts[name]["bend"] = bend
    return _paper(numbers, people, rest, acts, eyes)


def folded(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo with a crease through the nose, folded back or flat at first, and tilted."""
    slope = numbers.uniform(0.3, 1.0)
    rest = _held(numbers, along=_direction(numbers), fold=numbers.choice((0.0, slope)))
    acts = _sheet_acts(numbers, rest)
    for name in ("turn_left", "turn_right", "come_closer"):
        acts[name]["fold"] = slope
    return _paper(numbers, people, rest, acts, eyes)


def _shaped(numbers: random.Random, people: list[Person], eyes: bool, name: str, size: float, **more: Any) -> Actor:
    """A sheet that has a shape all the time, or takes more of it when a turn or coming closer is asked."""
    rest = _held(numbers, **{name: size * numbers.choice((0.0, 0.5, 1.0, 1.0))}, warped=numbers.random() < 0.3, **more)
    acts = _sheet_acts(numbers, rest)
    for ask in ("turn_left", "turn_right", "come_closer"):
        acts[ask][name] = size
    return _paper(numbers, people, rest, acts, eyes)


def pleated(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo with one pleat from the tip of the nose to its edge, which takes away 14 to 60 degrees."""
    return _shaped(numbers, people, eyes, "pleat", numbers.uniform(0.3, 0.65), along=numbers.uniform(-180, 180))


def pleated_twice(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo with two pleats opposite each other, and the cone that they make pressed flatter on two sides."""
    more = {"along": numbers.uniform(-180, 180), "pleats": 2, "oval": numbers.uniform(-0.5, 0.5)}
    return _shaped(numbers, people, eyes, "pleat", numbers.uniform(0.3, 0.65), **more)


def domed(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo pressed over a ball."""
    return _shaped(numbers, people, eyes, "dome", 1 / numbers.uniform(8, 18))


def ridged(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo with a ridge folded along the nose, that widens from between the eyes; bent backwards or not."""
    bend = numbers.choice((0.0, 1 / numbers.uniform(8, 16)))
    return _shaped(numbers, people, eyes, "ridge", numbers.uniform(0.5, 1.3), bend=bend)


def beaked(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo whose nose is pushed out to a cone, on a sheet that is bent to a cylinder: already half a mask."""
    return _shaped(numbers, people, eyes, "beak", numbers.uniform(0.3, 0.8), bend=1 / numbers.uniform(8, 16))


def boxed(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A photo whose sides are folded back beside the face, and whose nose is a cone, a ridge, pushed out, or flat."""
    nose = numbers.choice(({}, {"pleat": 0.4}, {"ridge": 0.9}, {"beak": 0.6}))
    return _shaped(numbers, people, eyes, "sides", numbers.uniform(0.8, 2.5), **nose)


def zoomed(numbers: random.Random, people: list[Person], eyes: bool = False) -> Actor:
    """A picture that is enlarged where it is, as on a screen, and tilted."""
    rest = _held(numbers)
    acts = _sheet_acts(numbers, rest)
    acts["come_closer"] = {"size": numbers.uniform(1.7, 2.2)}
    return _paper(numbers, people, rest, acts, eyes)


def cut_out_eyes(numbers: random.Random, people: list[Person]) -> Actor:
    """Any of the sheets with eyes that blink: in its plane, which real eyes behind holes cannot do as well."""
    kinds = (moved, tilted, bent, bending, folded, pleated, pleated_twice, domed, ridged, beaked, boxed, zoomed)
    return numbers.choice(kinds)(numbers, people, eyes=True)


def swapped(numbers: random.Random, people: list[Person]) -> Actor:
    """A living head and the photo of another: the one gives way to the other in the same place at any moment."""
    alive, wanted = numbers.sample(people, 2)
    actor = genuine(numbers, [alive])
    first, second = numbers.choice(((alive, wanted), (wanted, alive)))
    if numbers.random() < 0.3:  # or comes back
        start = numbers.uniform(1.0, 6.0)
        end = start + numbers.uniform(0.3, 3.0)
        actor.person = lambda seconds: wanted if start < seconds < end else alive
    else:
        at = numbers.uniform(1.0, 7.0)
        actor.person = lambda seconds: first if seconds < at else second
    actor.solid = lambda seconds: actor.person(seconds) is alive
    return actor


def other_photos(numbers: random.Random, people: list[Person]) -> Actor:
    """Photos of the same person from the front and from the side, exchanged for each other when a turn is asked.

    The photo from the side is drawn of the head, as a camera would have taken it; it is the best that there is.
    """
    actor = genuine(numbers, people)
    actor.rates |= {"yaw": 1e4, "pitch": 1e4}
    return actor


def exchanged(numbers: random.Random, people: list[Person]) -> Actor:
    """The same two photos on paper, in hands that tilt them to hide the exchange, with eyes that blink."""
    actor = tilted(numbers, people, eyes=True)
    front, rest = actor.person(0.0), actor.rest
    angle, tilt, share = numbers.uniform(18, 32), numbers.choice((-1, 1)) * numbers.uniform(10, 40), numbers.random()
    sides = {"turn_left": seen_from(front, _LEFT * angle), "turn_right": seen_from(front, _RIGHT * angle)}
    for name, side in (("turn_left", _LEFT), ("turn_right", _RIGHT)):
        actor.acts[name] = {"yaw": rest.yaw + side * tilt}

    def shown(_: float) -> Person:
        turned = abs(actor.now.yaw - rest.yaw) >= share * abs(tilt)
        return sides.get(actor.asked, front) if turned else front

    actor.person = shown
    return actor


SHEETS: Final[dict[str, Callable[[random.Random, list[Person]], Actor]]] = {
    "moved": moved,
    "tilted": tilted,
    "bent": bent,
    "bending": bending,
    "folded": folded,
    "pleated": pleated,
    "pleated twice": pleated_twice,
    "domed": domed,
    "ridged": ridged,
    "beaked": beaked,
    "boxed": boxed,
    "zoomed": zoomed,
}
"""One photo on one sheet, whose eyes do not blink."""

ATTACKS: Final = SHEETS | {
    "cut-out eyes": cut_out_eyes,
    "swapped": swapped,
    "other photos": other_photos,
    "exchanged": exchanged,
}
