"""What is done to a gallery, and what it has to hold then: told by a model that knows nothing of files."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, read_key
from edge_oneshot_device.gallery.limits import Limits, unlock
from edge_oneshot_device.gallery.migrations import MIGRATIONS
from edge_oneshot_device.gallery.reserve import RESERVE
from edge_oneshot_device.gallery.roster import find
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transaction import with_reserve
from edge_oneshot_device.gallery.transfer import back_up, export_people, import_people, restore
from edge_oneshot_device.matching.decision import Decision
from edge_oneshot_device.recognition.attempts import Attempt, Comparison, decide_and_record
from tests.campaigns.durability.devices import FINGERPRINT, SIZE, Place, State, templates
from tests.samples.calibrations import calibration

Act = tuple[Any, ...]
"""Its name and arguments, such as ``("enrol", "ada", 2, 17)``: person, templates, seed."""

LIMITS = Limits(failures=1000, most_failures=1000, rejections_per_minute=1000)
NAMES = tuple(f"person {number}" for number in range(12))
IMPORTED = {"imported 0": 2, "imported 1": 1}  # templates of each
DECISIONS = ("identify", "verify")
MATCH, MISMATCH = 0.99, 0.1
MOST_TEMPLATES = 5

_CALIBRATION = calibration(
    ((0.1, 0.4), (0.01, 0.6)), tail=(0.5, 0.05, 0.02, -0.2), variant="none", templates=MOST_TEMPLATES, margin=0.01
)
_EMBEDDING = EmbeddingSection(size=2, metric="cosine")


@dataclass(frozen=True, slots=True)
class _Origin:
    variant: str = "none"
    runtime: str = "fake"
    fingerprint: str = FINGERPRINT
    embedding: EmbeddingSection = _EMBEDDING


def perform(place: Place, gallery: Gallery, act: Act) -> Any:
    """Do it, as the program does; returns the decision, if it is one."""
    name, *arguments = act
    came = _ACTS[name](place, gallery, *arguments)
    return msgspec.to_builtins(came) if name in DECISIONS else None


def expected(state: State, act: Act, backup: State) -> State:
    """What a gallery holds after an act.

    Args:
        state: What it held.
        act: One that succeeds.
        backup: What the backup holds that is restored.
    """
    name, *arguments = act
    people, failures, keys, rejections = dict(state.people), dict(state.failures), state.keys, state.rejections
    rows = state.rows
    who: Any = arguments[0] if arguments else None
    row = (_ROWS[name], who)
    if name in ("enrol", "add", "replace"):
        count, seed = arguments[1:] if name == "enrol" or name == "replace" else (1, arguments[1])
        former, access = people.get(who, ((), Access()))
        new = tuple(one.tobytes() for one in templates(count, seed))
        people[who] = ((*former, *new) if name == "add" else new, access)
    elif name == "forget":
        del people[who]
        failures.pop(who, None)
        rows = tuple((act_, None if person == who else person) for act_, person in rows)
        row = ("forgotten", None)
    elif name == "access":
        people[who] = (people[who][0], Access(valid_until=arguments[1]))
    elif name == "identify":
        rejections += who is None
    elif name == "verify":
        accepted = arguments[1]
        failures[who] = 0 if accepted else failures.get(who, 0) + 1
    elif name == "unlock":
        failures.pop(who, None)
    elif name == "rotate":
        keys += 1
    elif name == "import":
        taken = [one for one in IMPORTED if one not in people]
        for number, one in enumerate(IMPORTED):
            if one in taken:
                people[one] = (tuple(row.tobytes() for row in templates(IMPORTED[one], number)), Access())
        return replace(state, people=people, rows=(*rows, *(("imported", one) for one in taken)))
    elif name == "restore" and state.keys == backup.keys:
        return replace(backup, rows=(*backup.rows, ("restored", None)))
    elif name == "restore":  # of a former key, which is found beside the present one
        rows = (*backup.rows, ("key_rotated", None), ("restored", None))
        return replace(backup, rows=rows, keys=backup.keys + 1)
    elif name == "prune":
        rows = rows[-1:]
    failures = {one: count for one, count in failures.items() if count}
    return State(people, failures, rejections, (*rows, row), keys)


def draw(numbers: random.Random, state: State) -> Act:
    """An act that succeeds in a state."""
    absent = [name for name in NAMES if name not in state.people]
    present = sorted(state.people)
    room = [name for name in present if len(state.people[name][0]) < MOST_TEMPLATES]
    seed = numbers.randrange(1 << 30)
    choices: list[tuple[int, Act]] = [(3, ("identify", None)), (1, ("rotate",)), (1, ("import",)), (1, ("restore",))]
    if absent:
        choices.append((6, ("enrol", numbers.choice(absent), numbers.randint(1, 3), seed)))
    if room:
        choices.append((2, ("add", numbers.choice(room), seed)))
    if present:
        who = numbers.choice(present)
        choices += [
            (3, ("forget", who)),
            (2, ("replace", who, numbers.randint(1, 3), seed)),
            (2, ("access", who, f"{numbers.randint(2100, 2999)}-01-01T00:00:00Z")),
            (4, ("identify", who)),
            (2, ("verify", who, True)),
            (3, ("verify", who, False)),
            (1, ("unlock", who)),
        ]
    weights, acts = zip(*choices, strict=True)
    return numbers.choices(acts, weights)[0]


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    """A device that is ready, and what it holds.

    Attributes:
        place: Where.
        state: What its gallery holds.
        backup: What the backup holds that lies elsewhere.
    """

    place: Place
    state: State
    backup: State


BEGINNING: tuple[Act, ...] = (
    ("enrol", "person 0", 3, 1),
    ("enrol", "person 1", 1, 2),
    ("enrol", "person 2", 2, 3),
    ("verify", "person 1", False),
    ("identify", None),
)


def prepare(root: Path) -> PreparedDevice:
    """Make a device with a few people, a backup of it, and a file of people from another device."""
    place = Place(root)
    for folder in ("state", "keys", "elsewhere"):
        (root / folder).mkdir(mode=0o700, parents=True)
    other = root / "other" / "transfer.db"
    other.parent.mkdir(mode=0o700)
    create_key(place.elsewhere("transfer key"))
    with Gallery.open(other, FINGERPRINT, SIZE, KeySource(place.elsewhere("transfer key")), create=True) as gallery:
        for number, (name, count) in enumerate(IMPORTED.items()):
            gallery.enrol(name, templates(count, number))
        export_people(gallery, place.elsewhere("people"), _transfer_key(place))
    for file in (other, other.with_name(RESERVE)):  # it is of no further use, and copied again and again
        file.unlink()
    other.parent.rmdir()
    place.create()
    state = State()
    with place.open() as gallery:
        for act in BEGINNING:
            perform(place, gallery, act)
            state = expected(state, act, state)
        back_up(gallery, place.elsewhere("backup"))
    backup = expected(state, ("backup",), state)
    return PreparedDevice(place, backup, backup)


def prepare_former(root: Path) -> State:
    """Make a gallery of the first version, with a person, as it was before there were keys; returns what it becomes."""
    place = Place(root)
    for folder in ("state", "keys", "elsewhere"):
        (root / folder).mkdir(mode=0o700, parents=True)
    create_key(root / "keys" / "key")
    own = templates(3, 5)
    with closing(sqlite3.connect(place.gallery, isolation_level=None)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO person VALUES (1, 'person 0', '2026-01-01T00:00:00Z', ?)", (FINGERPRINT,))
        for one in own:
            connection.execute("INSERT INTO template (person, embedding) VALUES (1, ?)", (one.tobytes(),))
        connection.execute("PRAGMA user_version = 1")
    place.gallery.chmod(0o600)
    people = {"person 0": (tuple(one.tobytes() for one in own), Access())}
    return State(people, rows=(("created", None), ("enrolled", "person 0")))


def attempt(gallery: Gallery, person: str | None, limits: Limits | None = None) -> Attempt:
    """An attempt of 1:N whose probe shows a person enrolled; None: nobody."""
    cache = gallery.template_cache("cosine", "best")
    if person is None:
        enrolled = gallery.people()
        other = gallery.number_of(enrolled[0].person) if enrolled else None
        best = None if other is None else (other, MISMATCH)
    else:
        number = gallery.number_of(person)
        assert number is not None
        best = (number, MATCH)
    comparison = Comparison(best, None, max(cache.index.people, 1), _CALIBRATION, 0.01, _Origin())
    return Attempt("identify", comparison, cache, limits)


def _identify(gallery: Gallery, person: str | None) -> Decision:
    decision = decide_and_record(gallery, attempt(gallery, person, LIMITS))
    if decision.fault is None:
        assert decision.accepted == (person is not None)
    return decision


def _verify(gallery: Gallery, person: str, accepted: bool) -> Decision:
    found = attempt(gallery, person, LIMITS)
    compared = found.comparison
    if not accepted:
        assert compared.best is not None
        compared = msgspec.structs.replace(compared, best=(compared.best[0], MISMATCH))
    decision = decide_and_record(gallery, msgspec.structs.replace(found, act="verify", comparison=compared))
    if decision.fault is None:
        assert decision.accepted == accepted
    return decision


@with_reserve
def _unlock(gallery: Gallery, person: str) -> None:
    with gallery.writing() as transaction:
        number = find(transaction, person)[0]
        audit.append(transaction, "unlocked", number, {"failures": unlock(transaction, number)})


def _transfer_key(place: Place) -> bytes:
    return read_key(KeySource(place.elsewhere("transfer key")))


def _prune(gallery: Gallery) -> None:
    *_, last = gallery.rows()
    gallery.prune_audit(datetime.fromtimestamp((last.at - 1) / 1e6, UTC))


_ACTS: dict[str, Callable[..., Any]] = {
    "enrol": lambda _, gallery, who, count, seed: gallery.enrol(who, templates(count, seed)),
    "add": lambda _, gallery, who, seed: gallery.enrol(who, templates(1, seed), add=True),
    "replace": lambda _, gallery, who, count, seed: gallery.enrol(who, templates(count, seed), replace=True),
    "forget": lambda _, gallery, who: gallery.forget(who),
    "access": lambda _, gallery, who, until: gallery.set_access(who, Access(valid_until=until)),
    "identify": lambda _, gallery, who: _identify(gallery, who),
    "verify": lambda _, gallery, who, accepted: _verify(gallery, who, accepted),
    "unlock": lambda _, gallery, who: _unlock(gallery, who),
    "rotate": lambda _, gallery: rotate_key(gallery),
    "import": lambda place, gallery: import_people(gallery, place.elsewhere("people"), _transfer_key(place)),
    "restore": lambda place, gallery: restore(gallery, place.elsewhere("backup")),
    "backup": lambda place, gallery: back_up(gallery, place.elsewhere("backup")),
    "prune": lambda _, gallery: _prune(gallery),
}
_ROWS = {
    "enrol": "enrolled",
    "add": "added",
    "replace": "replaced",
    "forget": "forgotten",
    "access": "access",
    "identify": "identify",
    "verify": "verify",
    "unlock": "unlocked",
    "rotate": "key_rotated",
    "import": "imported",
    "restore": "restored",
    "backup": "backup_begun",
    "prune": "checkpoint",
}
