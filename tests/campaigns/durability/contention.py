"""Many processes on one gallery: writers that enrol, forget and decide, and readers, in tight loops for a minute.

    python -m tests.campaigns.durability.contention ROLE NUMBER PLACE SECONDS SEED START PAUSE PATIENCE

A process prints what it did as one line of JSON. Each writer has people of its own, so that what it wrote is
known at the end whatever the others did.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_oneshot_device.errors import MachineError, OneShotError
from edge_oneshot_device.gallery import audit, database
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.people import PersonDetails
from edge_oneshot_device.gallery.roster import new_number
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.sealed import write_person, write_template
from edge_oneshot_device.gallery.storage_errors import BUSY_SECONDS
from edge_oneshot_device.gallery.transaction import ChangedError
from edge_oneshot_device.recognition.attempts import decide_and_record
from tests import ROOT
from tests.campaigns.durability.acts import attempt, prepare
from tests.campaigns.durability.campaign import Part, Tally
from tests.campaigns.durability.devices import FAILED, Place, look, templates

WRITERS = READERS = 4
PEOPLE = 10  # of each writer
NOT_RECORDED = ("read", "compared again", "told to try again")
LONGEST_WAIT = 1.0  # seconds that recording a decision may take
MANY = 100_000  # people, of whom some are forgotten while a door decides
_MOMENT = 0.01  # seconds between two decisions of a door
_START = 3.0  # seconds until all have begun
_ROTATION = 2.0  # seconds between two

_Run = Callable[[Place, list[str], float, int, float], tuple[Tally, list[dict[str, Any]]]]


def parts(folder: Path, seed: int, seconds: float, patience: float = BUSY_SECONDS) -> dict[str, tuple[int, Part]]:
    """The parts of the campaign.

    Args:
        folder: For devices.
        seed: Of what is drawn.
        seconds: Of each part.
        patience: Seconds that a process waits for the others.
    """
    run = partial(_side_by_side, patience=patience)
    return {
        "writers and readers": (1, partial(_together, run, folder / "contended", seed, seconds, 0)),
        "writers, readers and a rotated key": (1, partial(_together, run, folder / "rotated", seed, seconds, 1)),
        "two that rotate the key": (1, partial(_rotations, run, folder / "rotations", seed, seconds / 4)),
        "a door while some of many are forgotten": (1, partial(_forgetting, run, folder / "many", seed, seconds)),
    }


def write(place: Place, number: int, seconds: float, seed: int) -> dict[str, Any]:
    """Enrol, replace, forget and decide; counts, seconds, and who is enrolled at the end.

    The seconds are those of each transaction of a decision, and those of each decision, which is compared again when
    somebody was enrolled or forgotten meanwhile.
    """
    numbers = random.Random(f"{seed} {number}")
    people: dict[str, int] = {}
    counts: Counter[str] = Counter()
    attempts, settled = [], []
    with place.open() as gallery:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            name = f"writer {number} person {numbers.randrange(PEOPLE)}"
            act = numbers.choice(("change", "decide", "decide"))
            if act == "decide":
                person = name if name in people else None
                started = time.perf_counter()
                while True:
                    found = attempt(gallery, person)
                    began = time.perf_counter()
                    try:
                        decision = decide_and_record(gallery, found)
                        break
                    except ChangedError:
                        counts["compared again"] += 1
                    finally:
                        settled.append(time.perf_counter() - began)
                attempts.append(time.perf_counter() - started)
                assert decision.fault is None, decision
                assert (decision.person, decision.accepted) == (person, person is not None), decision
                counts["identify"] += 1
            elif name in people and numbers.random() < 0.5:
                gallery.forget(name)
                del people[name]
                counts["forgotten"] += 1
            else:
                count = numbers.randint(1, 5)
                counts["replaced" if name in people else "enrolled"] += 1
                gallery.enrol(name, _marked(count), replace=name in people)
                people[name] = count
    return {"people": people, "counts": counts, "attempts": attempts, "settled": settled}


def read(place: Place, seconds: float) -> dict[str, Any]:
    """List the people, follow their templates, check the audit trail; how often."""
    cycles, longest = 0, 0.0
    with place.open() as gallery:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.perf_counter()
            gallery.people()
            _whole(gallery)
            gallery.check_audit()
            cycles += 1
            longest = max(longest, time.perf_counter() - started)
    return {"counts": {"read": cycles}, "longest": longest}


def rotate(place: Place, seconds: float, pause: float) -> dict[str, Any]:
    """Rotate the key again and again; how often, and how often another process was at it."""
    rotations, refused = 0, 0
    with place.open() as gallery:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                rotate_key(gallery)
                rotations += 1
            except MachineError as error:
                if error.reason != "gallery_busy":
                    raise
                refused += 1
            time.sleep(pause)
    return {"counts": {"key_rotated": rotations, "told to try again": refused}}


def decide(place: Place, seconds: float) -> dict[str, Any]:
    """Decide as a door does that sees strangers only; the seconds of each transaction."""
    settled = []
    with place.open() as gallery:
        found = attempt(gallery, None)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            try:
                decide_and_record(gallery, found)
            except ChangedError:
                gallery.template_cache("cosine", "best")
            settled.append(time.perf_counter() - began)
            time.sleep(_MOMENT)
    return {"settled": settled}


def forget(place: Place, seconds: float) -> dict[str, Any]:
    """Forget three people and replace one, once the door is at work; the seconds of each."""
    taken = []
    with place.open() as gallery:
        names = [person.person for person in gallery.people()]
        time.sleep(seconds / 2)
        for name in names[:: len(names) // 4][:4]:
            began = time.perf_counter()
            if len(taken) < 3:
                gallery.forget(name)
            else:
                gallery.enrol(name, _marked(1), replace=True)
            taken.append(time.perf_counter() - began)
    return {"forgotten": taken}


def _marked(count: int) -> Any:
    """Templates that say how many they are."""
    marked = templates(count, count)
    marked[:, 0] = count
    return marked


def _whole(gallery: Gallery) -> None:
    """Nobody has some of their templates only."""
    index = gallery.template_cache("cosine", "best").index
    with gallery.reading() as transaction:
        numbers = transaction.execute("SELECT number FROM person").fetchall()
    for (number,) in numbers:
        own = index.templates_of(number)
        if len(own) and own[0, 0] in range(1, 6):
            assert (own[:, 0] == len(own)).all(), "somebody has a part of their templates"


def _together(run: _Run, folder: Path, seed: int, seconds: float, rotators: int, progress: Callable[[], None]) -> Tally:
    place = prepare(folder).place
    with place.open() as gallery:
        beginning = Counter(row.act for row in gallery.rows())
    roles = ["write"] * WRITERS + ["read"] * READERS + ["rotate"] * rotators
    tally, told = run(place, roles, seconds, seed, _ROTATION)
    progress()
    counts: Counter[str] = Counter()
    people: dict[str, int] = {}
    for one in told:
        counts.update(one["counts"])
        people |= one.get("people", {})
    tally.facts["counts"] = dict(counts)
    for name in ("attempts", "settled"):
        taken = np.sort(np.concatenate([one[name] for one in told if name in one] or [np.zeros(1)]))
        tally.facts[f"{name}, ms"] = {
            "count": len(taken),
            "median": round(1e3 * float(np.median(taken)), 2),
            "p99": round(1e3 * float(np.quantile(taken, 0.99)), 2),
            "longest": round(1e3 * float(taken[-1]), 2),
        }
    longest = max((one["longest"] for one in told if "longest" in one), default=0.0)
    tally.facts["longest round of reading, ms"] = round(1e3 * longest, 1)
    waited = tally.facts["settled, ms"]["longest"] / 1e3
    tally.add("nobody waited a second" if waited <= LONGEST_WAIT else f"{FAILED}: a decision waited {waited:.2f} s")
    if len(told) < len(roles):
        return tally  # who ended early has not said what they wrote
    try:
        with place.open() as gallery:
            state = look(gallery)
    except OneShotError as error:
        tally.add(f"{FAILED} to open: {error}")
        return tally
    held = {name: len(own) for name, (own, _) in state.people.items() if name.startswith("writer")}
    tally.add("no update lost" if held == people else f"{FAILED}: {held} enrolled instead of {people}")
    rows = Counter(act for act, _ in state.rows) - beginning
    wanted = {act: count for act, count in counts.items() if act not in NOT_RECORDED}
    tally.add("each act in the audit trail" if dict(rows) == wanted else f"{FAILED}: rows {rows} instead of {wanted}")
    return tally


def _rotations(run: _Run, folder: Path, seed: int, seconds: float, progress: Callable[[], None]) -> Tally:
    place = prepare(folder).place
    tally, told = run(place, ["rotate", "rotate"], seconds, seed, 0.0)
    progress()
    for name in ("key_rotated", "told to try again"):
        tally.facts[name] = sum(one["counts"][name] for one in told)
    try:
        with place.open() as gallery:
            look(gallery)
        tally.add("the gallery opens with the key that is there")
    except OneShotError as error:
        tally.add(f"{FAILED} to open: {error.reason}: {error}")
    return tally


def _forgetting(run: _Run, folder: Path, seed: int, seconds: float, progress: Callable[[], None]) -> Tally:
    place = prepare(folder).place
    with place.open() as gallery:
        _enrol_many(gallery)
    tally, told = run(place, ["decide", "forget"], seconds, seed, 0.0)
    progress()
    for one in told:
        if "forgotten" in one:
            tally.facts["forgetting and replacing, s"] = [round(taken, 2) for taken in one["forgotten"]]
        else:
            settled = np.sort(one["settled"]) * 1e3
            tally.facts["settled, ms"] = {"count": len(settled), "longest": round(float(settled[-1]), 1)}
    waited = tally.facts["settled, ms"]["longest"] / 1e3
    tally.add("nobody waited a second" if waited <= LONGEST_WAIT else f"{FAILED}: a decision waited {waited:.2f} s")
    return tally


def _enrol_many(gallery: Gallery) -> None:
    """`MANY` people in one transaction, which is quicker."""
    with gallery.writing() as transaction:
        for place in range(MANY):
            number = new_number()
            write_person(transaction, number, PersonDetails(f"person {place} of many", "2026-01-01T00:00:00Z"))
            write_template(transaction, number, templates(1, place).astype("<f4").tobytes())
            audit.append(transaction, "enrolled", number, {"templates": 1, "fingerprint": gallery.fingerprint})


def _side_by_side(
    place: Place, roles: list[str], seconds: float, seed: int, pause: float, *, patience: float
) -> tuple[Tally, list[dict[str, Any]]]:
    """Processes side by side, each in its role; what each did that came to its end."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    start = time.time() + _START
    processes = []
    for number, role in enumerate(roles):
        words = [role, number, place.root, seconds, seed, start, pause, patience]
        command = [sys.executable, "-m", "tests.campaigns.durability.contention", *map(str, words)]
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    sleeper, tally, told = _Sleeper(), Tally(), []
    for role, process in zip(roles, processes, strict=True):
        said, error = process.communicate()
        lines = error.decode().strip().splitlines() or ["ended"]
        tally.add("no error" if process.returncode == 0 else f"{FAILED}: {role}: {lines[-1]}")
        if process.returncode == 0:
            told.append(json.loads(said))
    sleeper.ends.set()
    tally.facts["who only sleeps woke up late by, ms"] = round(1e3 * sleeper.late)
    return tally, told


class _Sleeper(threading.Thread):
    """Sleeps moment by moment until it is to end.

    Attributes:
        late: How many seconds late the machine let it go on at most.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late = 0.0
        self.ends = threading.Event()
        self.start()

    def run(self) -> None:
        """Sleep."""
        while not self.ends.is_set():
            began = time.perf_counter()
            time.sleep(_MOMENT)
            self.late = max(self.late, time.perf_counter() - began - _MOMENT)


def main(argv: list[str]) -> int:
    """Do what a role asks for, and print what was done."""
    role, number, root, seconds, seed, start, pause, patience = argv
    place = Place(Path(root))
    database.BUSY_SECONDS = float(patience)
    time.sleep(max(0.0, float(start) - time.time()))
    if role == "write":
        done = write(place, int(number), float(seconds), int(seed))
    elif role == "read":
        done = read(place, float(seconds))
    elif role == "decide":
        done = decide(place, float(seconds))
    elif role == "forget":
        done = forget(place, float(seconds))
    else:
        done = rotate(place, float(seconds), float(pause))
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
