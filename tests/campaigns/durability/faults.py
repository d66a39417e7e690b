"""A disk that fails: errors of single system calls, injected by strace, while a command is running."""

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaigns.durability.acts import DECISIONS, Act, PreparedDevice, expected, prepare
from tests.campaigns.durability.campaign import Part, Tally, fresh
from tests.campaigns.durability.children import Outcome, Request, Server
from tests.campaigns.durability.devices import FAILED, Place, State, judge
from tests.campaigns.durability.kills import COMMANDS, TRIES
from tests.campaigns.durability.tracing import calls, traced

ERRORS = (
    ("fdatasync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fsync", "EIO"),
    ("write", "EIO"),
    ("write", "ENOSPC"),
    ("unlink", "EIO"),
    ("rename", "EIO"),
    ("openat", "EIO"),
    ("pread64", "EIO"),
)
WRITING = ("fdatasync", "pwrite64", "fsync", "write", "unlink")
"""Calls by which a disk that cannot be written shows; a decision is told even so."""

DONE = {"not_confirmed": "changed but not confirmed", "not_wiped": "changed, traces of what was deleted left"}
"""Reasons of errors by which a change was made all the same."""


def parts(folder: Path, server: Server, seed: int, cases: int | None) -> dict[str, tuple[int, Part]]:
    """The parts of the campaign.

    Args:
        folder: For the devices.
        server: Starts the processes.
        seed: Of what is drawn.
        cases: Faults of each call and error, drawn; None: each one.
    """
    subject = prepare(folder / "ready")
    return {
        f"{call} {error}": (
            (cases or 100) * len(COMMANDS),
            partial(_each, folder, server, subject, call, error, seed, cases),
        )
        for call, error in ERRORS
    }


def _each(
    folder: Path,
    server: Server,
    subject: PreparedDevice,
    call: str,
    error: str,
    seed: int,
    cases: int | None,
    progress: Callable[[], None],
) -> Tally:
    tally = Tally(facts={"injected": 0, "reasons": {}})
    place, log = Place(folder / "failing"), folder / "trace"
    for name, act in COMMANDS.items():
        request = Request(str(place.root), str(folder / "told"), (act,))
        fresh(subject.place.root, place.root)
        traced(server, request, log, "-y")
        every = [when for what, when in calls(log, str(place.root)) if what == call]
        chosen = [(when, lasting) for when in every for lasting in ("", "+")]
        numbers = random.Random(f"{seed} {name} {call} {error}")
        if cases is not None and len(chosen) > cases:
            chosen = numbers.sample(chosen, cases)
        for when, lasting in chosen:
            inject = f"inject={call}:error={error}:when={when}{lasting}"
            for _ in range(TRIES):
                fresh(subject.place.root, place.root)
                outcome = traced(server, request, log, "-e", f"trace={call}", "-e", inject)
                injected = log.read_text().count("(INJECTED)")
                if injected:
                    break
            tally.facts["injected"] += injected
            after = expected(subject.state, act, subject.backup)
            verdict = _verdict(place, act, outcome, subject.state, after, call)
            if outcome.error is not None:
                reasons = tally.facts["reasons"]
                reasons[outcome.error["reason"]] = reasons.get(outcome.error["reason"], 0) + 1
            if not injected:
                verdict = f"{FAILED}: nothing was injected"
            tally.add(verdict, command=name, inject=inject, error=outcome.error)
            progress()
    return tally


def _verdict(place: Place, act: Act, outcome: Outcome, before: State, after: State, call: str) -> str:
    """Whether a command told the truth of what it did."""
    states = {"before": before, "after": after}
    found = judge(place, states)
    if found.startswith(FAILED):
        return found
    if outcome.code != 0:
        return f"{FAILED}: the process ended with {outcome.code}"
    if outcome.error is not None:
        return _refused(act, outcome.error, found, opened=outcome.opened is not None, call=call)
    (done,) = outcome.done
    if isinstance(done, Mapping) and done["fault"] is not None:
        return reported(done, act, found)
    return "done" if found == "after" else f"{FAILED}: acknowledged, but not there"


def _refused(act: Act, error: Mapping[str, Any], found: str, *, opened: bool, call: str) -> str:
    message = error["error"]
    if error["reason"] == "raised" or "\n" in message or not message.isprintable():
        return f"{FAILED}: no clear error: {message}"
    if act[0] in DECISIONS and opened and call in WRITING:
        return f"{FAILED}: nobody is told who was seen: {message}"
    if found == "after" and act == ("backup",):
        return "a clear error, the audit trail says that a backup was begun"
    if found == "before":
        return "a clear error, nothing changed"
    if error["reason"] not in DONE:
        return f"{FAILED}: changed, but told {error['reason']}: {message}"
    return f"a clear error, {DONE[error['reason']]}"


def reported(decision: Mapping[str, Any], act: Act, found: str) -> str:
    """Whether a decision that could not be recorded says whom it would have been, and lets nobody in."""
    wrong = [
        name
        for name, value in (("accepted", False), ("person", None), ("reason", "audit_unavailable"))
        if decision[name] != value
    ]
    matches = act[1] is not None and act[2:] != (False,)
    if matches and (decision["candidate"] or {}).get("person") != act[1]:
        wrong.append("candidate")
    if wrong:
        return f"{FAILED}: a decision without its row says {wrong} otherwise: {dict(decision)}"
    if found == "after":
        return "nobody let in, who was seen is told; recorded but not confirmed"
    return "nobody let in, who was seen is told"
