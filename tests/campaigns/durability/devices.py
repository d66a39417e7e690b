"""A device with a gallery: where it is, what it holds, and whether that is allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import OneShotError
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.database import is_sealed
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key

SIZE = 16
FINGERPRINT = "d0" * 32
FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class State:
    """All that a gallery holds.

    Attributes:
        people: By name, their templates, as bytes, and their access.
        failures: Of 1:1 in a row, by name.
        rejections: Of 1:N.
        rows: Of the audit trail: act, and name of the person, None when it concerns nobody enrolled.
        keys: How many there have been.
    """

    people: Mapping[str, tuple[tuple[bytes, ...], Access]] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    rejections: int = 0
    rows: tuple[tuple[str, str | None], ...] = (("created", None),)
    keys: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A device: the folder of the gallery, that of its key, and files that lie elsewhere."""

    root: Path

    @property
    def gallery(self) -> Path:
        """The gallery's file."""
        return self.root / "state" / "gallery.db"

    @property
    def key(self) -> KeySource:
        """Where its key is."""
        return KeySource(self.root / "keys" / "key")

    def elsewhere(self, name: str) -> Path:
        """A file that is no part of the device, such as a backup."""
        return self.root / "elsewhere" / name

    def create(self) -> None:
        """Make the key if there is none, and no gallery that needs its own, as `init` does."""
        assert self.key.path is not None
        if not self.key.path.exists() and not is_sealed(self.gallery):
            create_key(self.key.path)

    def open(self) -> Gallery:
        """The gallery."""
        return Gallery.open(self.gallery, FINGERPRINT, SIZE, self.key, create=True)


def templates(count: int, seed: int) -> NDArray[np.float32]:
    """So many templates, drawn."""
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)


def look(gallery: Gallery) -> State:
    """What a gallery holds.

    Raises:
        AssertionError: The file is not whole.
        IntegrityError: Something does not open, or the audit trail does not hold.
    """
    with gallery.reading() as transaction:
        found = transaction.execute("PRAGMA integrity_check").fetchall()
        assert found == [("ok",)], found
        assert not transaction.execute("PRAGMA foreign_key_check").fetchall()
    gallery.check_audit()
    held = gallery.template_cache("cosine", "best").index
    people = {}
    names = {}
    for person in gallery.people():
        number = gallery.number_of(person.person)
        assert number is not None
        names[number] = person.person
        own = held.templates_of(number)
        access = Access(person.valid_from, person.valid_until, person.hours)
        people[person.person] = (tuple(one.tobytes() for one in own), access)
        assert len(own) == person.templates
    with gallery.reading() as transaction:
        attempts = transaction.execute("SELECT person, failures FROM attempts").fetchall()
        rejections = transaction.execute("SELECT id FROM rejection").fetchall()
    return State(
        people,
        {names[number]: failures for number, failures in attempts},
        len(rejections),
        tuple((row.act, names.get(row.person) if row.person is not None else None) for row in gallery.rows()),
        gallery.keyring.epoch,
    )


def judge(place: Place, allowed: Mapping[str, State], *, go_on: bool = True) -> str:
    """Which of the allowed states a device holds; else what is wrong, which begins with `FAILED`.

    Args:
        place: The device.
        allowed: The states, by name.
        go_on: Enrol somebody more, to see that the gallery still takes changes.
    """
    try:
        with place.open() as gallery:
            found = look(gallery)
        for name, state in allowed.items():
            if found == state:
                if go_on:
                    _go_on(place, state)
                return name
    except OneShotError as error:
        return f"{FAILED} to open: {error.reason}: {error}"
    except Exception as error:
        return f"{FAILED}: {type(error).__name__}: {error}"
    return f"{FAILED}: " + "; ".join(f"not {name}: {difference(found, state)}" for name, state in allowed.items())


def _go_on(place: Place, state: State) -> None:
    own = templates(1, 0)
    with place.open() as gallery:
        gallery.enrol("somebody more", own)
        found = look(gallery)
    people = {**state.people, "somebody more": ((own[0].tobytes(),), Access())}
    assert found == replace(state, people=people, rows=(*state.rows, ("enrolled", "somebody more")))


def difference(found: State, wanted: State) -> str:
    """Where two states differ, in short."""
    told = [
        f"{what} {getattr(found, what)} instead of {getattr(wanted, what)}"
        for what in ("failures", "rejections", "keys")
        if getattr(found, what) != getattr(wanted, what)
    ]
    counts = [{name: len(one) for name, (one, _) in state.people.items()} for state in (found, wanted)]
    if found.people != wanted.people:
        told.append(f"people {counts[0]} instead of {counts[1]}")
    if found.rows != wanted.rows:
        told.append(f"{len(found.rows)} rows that end with {found.rows[-3:]} instead of {wanted.rows[-3:]}")
    return ", ".join(told)
