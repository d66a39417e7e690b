"""The verdict on a case: a pure function of what was seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.durability.devices import FAILED
from tests.campaigns.intrusion.commands import BEFORE, IN, OTHERS, OUT
from tests.campaigns.intrusion.processes import Told
from tests.campaigns.intrusion.seeing import Attempt, Look, accepted

REFUSING = frozenset({"rate_limited", "delayed", "disabled", "audit_unavailable"})
"""Reasons of a decision that nobody is compared."""
LONGEST_SECONDS = 3600.0
_OTHER_ENCODER = "gallery_of_other_fingerprint"  # a door that was opened before an init decides no more
BUGS = frozenset({"bug", "library_missing"})
LIMIT = "known limit"
SEPARATOR = " | "


@dataclass(slots=True)
class Seen:
    """All that was seen in a case.

    Attributes:
        kind, act: What was done, and of which kind.
        before, other: Whether the act puts back what was there before, or what is the other state folder's.
        refused: What kept the attacker from it; None where it was done.
        harmless: Whether it left everything as it was, or could not alter a gallery.
        looks: At the doors, in order.
        commands: What each command said, by name.
        changed: Files of others that are not as they were.
        lost: What no key opens any more.
        secret: Whether the content of somebody else's file was told.
    """

    kind: str
    act: str = ""
    before: bool = False
    other: bool = False
    refused: str | None = None
    harmless: bool = False
    looks: list[Look] = field(default_factory=list)
    commands: list[tuple[str, Told]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    secret: bool = False


def hangs(seen: Seen) -> bool:
    """Whether something gave no answer until now."""
    answers = [answer for _, answer in seen.commands]
    for look in seen.looks:
        answers += [attempt.told for attempt in look.attempts] + [look.listed, look.check]
    return any(answer.fault is not None for answer in answers)


def judge(seen: Seen) -> str:
    """What became of it; what must not be begins with `FAILED`, and each fault with its kind and a colon."""
    faults: list[str] = []
    outcomes: list[str] = []
    if seen.changed:
        faults.append(f"touches what is not the program's: {', '.join(seen.changed)}")
    if seen.lost:
        faults.append(f"no key opens: {', '.join(seen.lost)}")
    if seen.secret:
        faults.append("tells somebody else's secret: a command did")
    for name, answer in seen.commands:
        faults += _unclear(f"the command {name}", answer)
    for look in seen.looks:
        fault, outcome = _judge_look(seen, look)
        faults += fault
        outcomes += outcome
    if faults:
        return f"{FAILED}: {SEPARATOR.join(dict.fromkeys(faults))}"
    limits = [one for one in outcomes if one.startswith(LIMIT)]
    if limits:
        return limits[0]
    if seen.refused is not None:
        return "the attacker was refused"
    worse = [one for one in outcomes if one != "all is well"]
    return worse[-1] if worse else "all is well"


def _judge_look(seen: Seen, look: Look) -> tuple[list[str], list[str]]:
    faults: list[str] = []
    outcomes: list[str] = []
    door = f"the {look.door} door"
    told = any(_refuses(one) for one in (look.check, look.diagnosis, look.against))
    missed: list[str] = []
    for attempt in look.attempts:
        faults += _unclear(door, attempt.told)
        fault, outcome = _judge_attempt(seen, look, attempt, door)
        faults += fault
        outcomes += outcome
        if look.expected.people.get(attempt.shown) == IN and attempt.claimed in (None, attempt.shown):
            missed += [] if accepted(attempt.told) or _is_refusal(attempt.told) else [attempt.shown]
    for answer in (look.check, look.diagnosis, look.against, look.listed):
        faults += _unclear(door, answer)
    wrong = _wrong_list(look)
    if (missed or wrong) and not told and not outcomes:
        faults.append(f"loses and nothing tells: {', '.join([door, *dict.fromkeys(missed), *wrong])}")
    elif missed or wrong:
        outcomes.append("a loss that audit --check tells")
    refused = _refusal_of(look)
    if (seen.harmless or seen.refused is not None) and refused not in (None, _OTHER_ENCODER):
        faults.append(f"out of order though nothing was altered: {door}, {refused}")
    for attempt in look.limit:
        if not _is_refusal(attempt.told) and not accepted(attempt.told):
            kind = "1:N" if attempt.claimed is None else "1:1"
            faults.append(f"no limit: {door}, {kind}, {_reason(attempt.told)}")
    outcomes.append("all is well" if refused is None else f"refused: {refused}")
    return faults, outcomes


def _judge_attempt(seen: Seen, look: Look, attempt: Attempt, door: str) -> tuple[list[str], list[str]]:
    faults: list[str] = []
    outcomes: list[str] = []
    for decision in _said(attempt.told):
        wait = decision.get("retry_after")
        if wait is not None and not 0.0 <= wait <= LONGEST_SECONDS:
            faults.append(f"makes wait too long: {door}, {wait:.0f} s")
    if not accepted(attempt.told):
        return faults, outcomes
    (decision,) = _said(attempt.told)
    who = f"{door}, {attempt.shown} as {decision['person']}"
    let_in = look.expected.people[attempt.shown] == OUT
    name = decision["person"] if attempt.claimed is None else attempt.claimed
    if (let_in or name != attempt.shown) and not _is_known_limit(seen, attempt.shown, decision["person"]):
        faults.append(f"lets somebody in: {who}")
    elif let_in:
        tells = "told by audit --check" if _refuses(look.check) else "told against a head that was kept"
        outcomes.append(f"{LIMIT}: {_source(seen)}, {tells if _refuses(look.against) else 'told by nothing'}")
    row = attempt.row
    act = "identify" if attempt.claimed is None else "verify"
    if row is None or row["act"] != act or not row["detail"].get("accepted"):
        faults.append(f"accepts without a row: {who}")
    elif not attempt.kept:
        faults.append(f"accepts with a row that is in no file: {who}")
    return faults, outcomes


def _is_known_limit(seen: Seen, shown: str, person: str) -> bool:
    """Whether somebody is let in by what was truly there before, or in the other gallery."""
    return (seen.before and shown in BEFORE and person == shown) or (seen.other and shown in OTHERS)


def _source(seen: Seen) -> str:
    return "what was there before, put back" if seen.before else "what is the other state folder's, under the same key"


def _wrong_list(look: Look) -> list[str]:
    """Names that are missing in the list of people, or should not be there; who lets nobody in may list more."""
    if look.listed.value is None or look.listed.value["code"]:
        return []
    names = {one["person"] for one in look.listed.value["said"][0]}
    expected = look.expected.listed
    missing = [f"{name} of the list" for name, how in expected.items() if how == IN and name not in names]
    if all(_is_refusal(attempt.told) for attempt in look.attempts):
        return missing
    return missing + [f"{name} (listed)" for name in sorted(names) if expected.get(name, OUT) == OUT]


def _unclear(who: str, answer: Told) -> list[str]:
    """What is no clear answer."""
    if answer.fault is not None:
        return [f"gives no answer: {who}: {answer.fault}"]
    if answer.value is None:
        return []
    reason = answer.value["error"].get("reason")
    if reason in BUGS or not (answer.value["code"] == 0 or answer.value["said"] or reason):
        return [f"gives no clear error: {who}: {answer.value['error']['error']}"]
    return []


def _said(answer: Told) -> Sequence[Mapping[str, Any]]:
    return [] if answer.value is None else [one for one in answer.value["said"] if isinstance(one, dict)]


def _reason(answer: Told) -> str:
    if answer.value is None:
        return str(answer.fault)
    return str(answer.value["error"].get("reason") or next((one.get("reason") for one in _said(answer)), None))


def _is_refusal(answer: Told) -> bool:
    """Whether nobody was compared, and it says why."""
    if answer.value is None:
        return False
    failed = any(decision.get("fault") for decision in _said(answer))
    return answer.value["code"] in (2, 3, 4) or _reason(answer) in REFUSING or failed


def _refuses(answer: Told) -> bool:
    return answer.value is not None and answer.value["code"] in (3, 4)


def _refusal_of(look: Look) -> str | None:
    """Why a door does not recognize who is enrolled."""
    for attempt in look.attempts:
        expected = look.expected.people.get(attempt.shown) == IN and attempt.claimed in (None, attempt.shown)
        if expected and _is_refusal(attempt.told):
            return _reason(attempt.told)
    return None
