"""SIGKILL before every system call of a command, and at random instants of a running mix."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.campaigns.durability.acts import Act, PreparedDevice, draw, expected, prepare, prepare_former
from tests.campaigns.durability.campaign import Part, Tally, fresh
from tests.campaigns.durability.children import Outcome, Request, Server
from tests.campaigns.durability.devices import FAILED, Place, State, judge
from tests.campaigns.durability.tracing import calls, traced

MIX = 30  # acts of a run that is killed
TRIES = 5  # at a call that is not made each time, such as one more wait for a lock
RUNS = 20  # kills that a gallery lives through, before a new one is taken

COMMANDS: dict[str, Act] = {
    "enrol": ("enrol", "person 9", 3, 9),
    "enrol --add": ("add", "person 1", 9),
    "enrol --replace": ("replace", "person 0", 2, 9),
    "forget": ("forget", "person 0"),
    "identify, accepted": ("identify", "person 0"),
    "identify, rejected": ("identify", None),
    "verify, accepted": ("verify", "person 1", True),
    "verify, rejected": ("verify", "person 0", False),
    "rotate-key": ("rotate",),
    "access": ("access", "person 0", "2100-01-01T00:00:00Z"),
    "unlock": ("unlock", "person 1"),
    "people import": ("import",),
    "restore": ("restore",),
    "backup": ("backup",),
    "audit --keep-days": ("prune",),
}
OPENINGS = ("first opening", "opening of version 1", "opening after a cut commit", "opening after a cut rotation")


@dataclass(frozen=True, slots=True)
class _Trial:
    """A command to be killed: from what it starts, and what may be found then."""

    start: Path
    acts: Sequence[Act]
    before: State
    after: State
    create: bool = False


def parts(folder: Path, server: Server, seed: int, cases: int | None, kills: int) -> dict[str, tuple[int, Part]]:
    """The parts of the campaign.

    Args:
        folder: For the devices.
        server: Starts the processes.
        seed: Of what is drawn.
        cases: Calls of each command before which it is killed, drawn; None: every one.
        kills: At random instants.
    """
    subject = prepare(folder / "ready")
    found: dict[str, tuple[int, Part]] = {}
    for name in (*COMMANDS, *OPENINGS):
        found[name] = (cases or 200, partial(_each_call, folder, server, name, subject, seed, cases))
    found["random instants"] = (kills, partial(_random_instants, folder, server, subject, seed, kills))
    return found


def _each_call(
    folder: Path,
    server: Server,
    name: str,
    subject: PreparedDevice,
    seed: int,
    cases: int | None,
    progress: Callable[[], None],
) -> Tally:
    trial = _trial(folder, server, name, subject)
    place, log = Place(folder / "killed"), folder / "trace"
    request = Request(str(place.root), str(folder / "told"), trial.acts, trial.create)
    fresh(trial.start, place.root)
    outcome = traced(server, request, log)
    assert (outcome.code, outcome.error, len(outcome.done)) == (0, None, len(trial.acts)), outcome
    every = calls(log)
    tally = Tally(facts={"calls": len(every), "acknowledged": 0, "leftovers": 0})
    tally.add(judge(place, {"not killed": trial.after}))
    numbers = random.Random(f"{seed} {name}")
    chosen = range(len(every)) if cases is None else sorted(numbers.sample(range(len(every)), min(cases, len(every))))
    for number in chosen:
        call, when = every[number]
        inject = f"inject={call}:signal=KILL:when={when}"
        for _ in range(TRIES):
            fresh(trial.start, place.root)
            outcome = traced(server, request, log, "-e", f"trace={call}", "-e", inject)
            if outcome.code != 0:
                break
        tally.facts["acknowledged"] += bool(outcome.done)
        verdict = _verdict(place, trial, outcome)
        tally.facts["leftovers"] += any(place.root.rglob(".*"))
        tally.add(verdict, call=number, name=call, when=when)
        progress()
    return tally


def _verdict(place: Place, trial: _Trial, outcome: Outcome) -> str:
    if outcome.code != -signal.SIGKILL:
        return "not reached" if outcome.error is None else f"{FAILED}: {outcome.error}"
    allowed = {"after": trial.after}
    if trial.acts and not outcome.done:
        allowed["before"] = trial.before
    if trial.create:
        place.create()
    verdict = judge(place, allowed)
    if outcome.opened is not None and not trial.acts and not verdict.startswith(FAILED):
        with place.open() as gallery:
            if next(gallery.rows()).detail != outcome.opened:
                return f"{FAILED}: another gallery is in the place of the one that was opened"
    return verdict


def _trial(folder: Path, server: Server, name: str, subject: PreparedDevice) -> _Trial:
    if name in COMMANDS:
        act = COMMANDS[name]
        return _Trial(subject.place.root, (act,), subject.state, expected(subject.state, act, subject.backup))
    start = folder / name
    if name == "first opening":
        for one in ("state", "keys", "elsewhere"):
            (start / one).mkdir(parents=True, mode=0o700)
        return _Trial(start, (), State(), State(), create=True)
    if name == "opening of version 1":
        state = prepare_former(start)
        return _Trial(start, (), state, state)
    fresh(subject.place.root, start)
    log = folder / "trace"
    act, call = (COMMANDS["enrol"], "unlink") if name == "opening after a cut commit" else (("rotate",), "rename")
    request = Request(str(start), str(folder / "told"), (act,))
    traced(server, request, log)
    last = [when for what, when in calls(log) if what == call][-1]
    fresh(subject.place.root, start)
    traced(server, request, log, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={last}")
    if call == "unlink":
        assert (start / "state" / "gallery.db-journal").exists()
        return _Trial(start, (), subject.state, subject.state)
    # the key file is as it was: the gallery's own key lies beside it
    assert (start / "keys" / "key").read_bytes() == (subject.place.root / "keys" / "key").read_bytes()
    assert len(list((start / "keys").glob("key.*"))) == 2
    state = expected(subject.state, act, subject.backup)
    return _Trial(start, (), state, state)


def _random_instants(
    folder: Path, server: Server, subject: PreparedDevice, seed: int, kills: int, progress: Callable[[], None]
) -> Tally:
    tally = Tally(facts={"acknowledged": 0, "acts": 0})
    place, state = Place(folder / "mixed"), subject.state
    numbers = random.Random(f"{seed} instants")
    longest = 0.0
    for kill in range(-1, kills):
        if kill % RUNS == 0 or kill < 0:
            fresh(subject.place.root, place.root)
            state = subject.state
        states, acts = [state], []
        for _ in range(MIX):
            acts.append(draw(numbers, states[-1]))
            states.append(expected(states[-1], acts[-1], subject.backup))
        request = Request(str(place.root), str(folder / "told"), acts)
        if kill < 0:  # how long a run takes
            started = time.monotonic()
            assert len(server.run(request).done) == MIX
            longest = time.monotonic() - started
            continue
        instant = numbers.uniform(0.0, longest)
        with suppress(ProcessLookupError):  # it was done before
            process = os.pidfd_open(server.start(request))
            try:
                time.sleep(instant)
                signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)
        outcome = server.finish()
        done = len(outcome.done)
        tally.facts["acknowledged"] += done
        tally.facts["acts"] += min(done + 1, MIX)
        if outcome.error is not None:
            tally.add(f"{FAILED}: {outcome.error}", kill=kill, acts=acts[: done + 1])
            state = subject.state
            fresh(subject.place.root, place.root)
        else:
            allowed = {"all that was acknowledged": states[done]}
            if done < MIX:
                allowed["and the one under way"] = states[done + 1]
            verdict = judge(place, allowed, go_on=False)
            state = allowed.get(verdict, subject.state)
            if verdict not in allowed:
                fresh(subject.place.root, place.root)
            tally.add(verdict, kill=kill, acts=acts[: done + 1])
        progress()
    return tally
