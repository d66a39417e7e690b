"""PINs: as a second factor, or alone with the number that belongs to each.

A PIN is hashed with Argon2id (RFC 9106) and sealed with the person's details, so that key rotation, backup and
`forget` take care of it. The limits are those of NIST SP 800-63B-4 for 1:1, counted for the PIN alone: after five
failures in a row each further attempt has to wait, after fifty the PIN is off until `unlock`.

Alone, number and PIN are entered in one go. The first digit says how long the number is: 4 digits, or 8 where it is a
9. So one hash is compared, whoever else has a PIN; and a failure counts as a rejection of the whole door too, or else
one PIN could be tried with everybody's number.
"""

import secrets
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import msgspec

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.extras import extra_missing
from edge_oneshot_device.gallery import audit, limits, wiping
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.gallery.people import PersonDetails, StoredPin, person_name
from edge_oneshot_device.gallery.roster import details_of, find, write_pin
from edge_oneshot_device.gallery.sealed import open_person
from edge_oneshot_device.gallery.transaction import TRIES, ChangedError, Transaction, with_reserve
from edge_oneshot_device.recognition.attempts import refuse_now

FEWEST_DIGITS: Final = 4
FEWEST_ALONE: Final = 6
"""Digits of a PIN that opens without a face, at least."""
MOST_DIGITS: Final = 12

_MEMORY_KIB, _PASSES = 19 * 1024, 2  # OWASP's Password Storage Cheat Sheet: what a device with little memory can bear
_NUMBERS: Final = (range(1000, 9000), range(90_000_000, 100_000_000))  # the second where many of the first are taken
_DRAWS: Final = 100

Claim = Callable[[Transaction], int | None]
"""Finds the number of the person who is claimed; None: there is nobody."""


class PinChange(msgspec.Struct, frozen=True):
    """A change of somebody's PIN.

    Attributes:
        person: The name.
        reason: ``pin_set`` or ``pin_removed``.
        number: What they type before the PIN, where it opens without a face; None: the PIN was removed.
    """

    person: str
    reason: str
    number: int | None


class PinVerdict(msgspec.Struct, frozen=True):
    """The answer to a PIN.

    Attributes:
        accepted: Whether it is the person's PIN, and they may come in now.
        reason: ``match``, ``wrong_pin``, ``no_pin``, ``delayed``, ``disabled``, ``rate_limited``,
            ``audit_unavailable``, or as `access.refuse_access` says.
        person: The name of who was accepted.
        retry_after: Seconds until the next attempt is compared; None: at once, or not before `unlock`.
        fault: Why the answer could not be recorded.
    """

    accepted: bool
    reason: str
    person: str | None = None
    retry_after: float | None = None
    fault: str | None = None


def set_pin(gallery: Gallery, person: str, pin: str | None) -> PinChange:
    """Give a person a PIN, or another one, or take it away; the number stays with another one.

    Args:
        gallery: Where the person is enrolled.
        person: The name.
        pin: 4 to 12 digits, neither all the same nor in a row; None takes it away.

    Raises:
        InputError: Reason ``bad_pin``, ``not_enrolled``, ``bad_name`` or, where there is none to take away, ``no_pin``.
        MachineError: Reason ``extra_missing``, ``not_wiped`` (see `Gallery.wipe`), or the disk does not allow it.
    """
    digest = None
    if pin is not None:
        require_good(pin)
        digest = _hasher().hash(pin)
    change = _write(gallery, person, digest)
    gallery.wipe()
    return change


def require_good(pin: str) -> None:
    """Check that a PIN may be set.

    Raises:
        InputError: Reason ``bad_pin``.
    """
    if not _is_pin(pin):
        raise InputError(f"a PIN has {FEWEST_DIGITS} to {MOST_DIGITS} digits, and nothing else", reason="bad_pin")
    steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
    if steps in ({0}, {1}, {9}):
        message = "the PIN is among the first that anybody tries: its digits are the same, or in a row; choose another"
        raise InputError(message, reason="bad_pin")


def check_pin(gallery: Gallery, person: str, pin: str, attempts: Limits | None = None) -> PinVerdict:
    """Check the PIN of somebody whose face fits, and record that.

    Args:
        gallery: Where the person is enrolled.
        person: The name.
        pin: What was typed.
        attempts: How often one may try; None: the limits of 1:1.

    Raises:
        InputError: Reason ``not_enrolled`` or ``bad_name``.
        IntegrityError: The gallery is damaged.
        MachineError: Reason ``extra_missing`` or ``gallery_changing``, or the gallery can neither be written nor read.
    """
    person = person_name(person)
    return _check(gallery, _Attempt(lambda transaction: find(transaction, person)[0], pin, attempts or Limits(), False))


def check_number_and_pin(gallery: Gallery, entered: str, attempts: Limits | None) -> PinVerdict:
    """Check number and PIN of somebody who shows no face, and record that.

    A PIN of fewer than six digits opens nothing so, and a number that nobody has is a wrong PIN.

    Args:
        gallery: Where the people are enrolled.
        entered: What was typed: the number, and the PIN right behind it.
        attempts: How often one may try, and how many rejections a minute the door takes, see `Recognizer.limits`;
            None: the limits of 1:1, and ten.

    Raises:
        IntegrityError: The gallery is damaged.
        MachineError: As of `check_pin`.
    """
    digits = 8 if entered.startswith("9") else 4
    number, pin = entered[:digits], entered[digits:]
    return _check(gallery, _Attempt(lambda transaction: _owner(transaction, number), pin, attempts or Limits(), True))


class _Attempt(msgspec.Struct, frozen=True):
    """What was typed, and for whom."""

    claim: Claim
    pin: str
    limits: Limits
    alone: bool


def _check(gallery: Gallery, attempt: _Attempt) -> PinVerdict:
    for _ in range(TRIES):
        with gallery.reading() as transaction:
            number, details = _claimed(transaction, attempt)
            stored = None if details is None else details.pin
            refusal = _refuse(transaction, attempt, number, stored)
        # outside of any transaction: it takes long, on purpose
        matches = _matches(stored, attempt) if refusal is None else None
        try:
            return _record(gallery, attempt, stored, matches)
        except ChangedError:
            continue
        except MachineError as error:
            return PinVerdict(False, "audit_unavailable", fault=str(error))
    raise ChangedError(gallery.path)


@with_reserve
def _record(gallery: Gallery, attempt: _Attempt, compared: StoredPin | None, matches: bool | None) -> PinVerdict:
    """Decide, count and record in one transaction; what was compared has to be what is there still.

    `matches` is None where the attempt was refused before anything was compared.
    """
    with gallery.writing() as transaction:
        number, details = _claimed(transaction, attempt)
        stored = None if details is None else details.pin
        if (None if stored is None else stored.digest) != (None if compared is None else compared.digest):
            raise ChangedError(gallery.path)
        if matches is None and _refuse(transaction, attempt, number, stored) is None:
            raise ChangedError(gallery.path)  # the delay is over just now
        matches = matches is True
        verdict = _decide(transaction, attempt, number, details, matches)
        if stored is not None and number is not None:
            _count(transaction, attempt, number, stored, matches)
        if attempt.alone:
            limits.restart_minute(transaction, attempt.limits)
            if verdict.reason == "wrong_pin":
                limits.count_rejection(transaction, attempt.limits)
        detail = {"accepted": verdict.accepted, "reason": verdict.reason, "alone": attempt.alone}
        audit.append(transaction, "pin", number, detail)
        return verdict


def _decide(
    transaction: Transaction, attempt: _Attempt, number: int | None, details: PersonDetails | None, matches: bool
) -> PinVerdict:
    stored = None if details is None else details.pin
    refusal = _refuse(transaction, attempt, number, stored)
    if refusal is not None:
        return PinVerdict(False, refusal.reason, retry_after=refusal.retry_after)
    if stored is None and not attempt.alone:
        return PinVerdict(False, "no_pin")
    if not matches or details is None:
        return PinVerdict(False, "wrong_pin")
    reason = refuse_now(transaction, details)
    return PinVerdict(True, "match", details.name) if reason is None else PinVerdict(False, reason)


def _refuse(transaction: Transaction, attempt: _Attempt, number: int | None, pin: StoredPin | None) -> Refusal | None:
    """Why the PIN is not compared."""
    if attempt.alone:
        refusal = limits.refuse_identification(transaction, attempt.limits)
        if refusal is not None:
            return refusal
        if number is not None and limits.is_disabled(transaction, attempt.limits, number):
            return Refusal("disabled", None)
    if pin is None:
        return None
    return limits.refusal_after(attempt.limits, transaction.clock, pin.failures, pin.boot, pin.since)


def _count(transaction: Transaction, attempt: _Attempt, number: int, pin: StoredPin, matches: bool) -> None:
    """Count a failure, or reset the count; and begin a delay again that began before a restart, or later than now."""
    clock = transaction.clock
    refusal = _refuse(transaction, attempt, number, pin)
    if refusal is None:
        failures = 0 if matches else pin.failures + 1
        if failures != pin.failures:
            changed = msgspec.structs.replace(pin, failures=failures, boot=clock.boot(), since=clock.seconds())
            write_pin(transaction, number, changed)
    elif refusal.reason == "delayed" and not (pin.boot == clock.boot() and pin.since <= clock.seconds()):
        write_pin(transaction, number, msgspec.structs.replace(pin, boot=clock.boot(), since=clock.seconds()))


def _claimed(transaction: Transaction, attempt: _Attempt) -> tuple[int | None, PersonDetails | None]:
    number = attempt.claim(transaction)
    return number, None if number is None else details_of(transaction, number)


def _matches(stored: StoredPin | None, attempt: _Attempt) -> bool:
    """Whether the PIN is the stored one; a comparison that is lost anyway takes as long as another."""
    from argon2.exceptions import VerifyMismatchError

    hasher = _hasher()
    fewest = FEWEST_ALONE if attempt.alone else FEWEST_DIGITS
    if stored is None or not _is_pin(attempt.pin) or len(attempt.pin) < fewest:
        hasher.hash("0000")
        return False
    try:
        return bool(hasher.verify(stored.digest, attempt.pin))
    except VerifyMismatchError:
        return False


@with_reserve
def _write(gallery: Gallery, person: str, digest: str | None) -> PinChange:
    with gallery.writing() as transaction:
        number = find(transaction, person)[0]
        details = details_of(transaction, number)
        assert details is not None
        if digest is None:
            if details.pin is None:
                raise InputError(f"{details.name} has no PIN: there is nothing to remove", reason="no_pin")
            pin = None
        else:
            pin = StoredPin(_new_number(transaction) if details.pin is None else details.pin.number, digest)
        write_pin(transaction, number, pin)
        reason = "pin_removed" if pin is None else "pin_set"
        audit.append(transaction, reason, number)
        wiping.mark(transaction)  # of the former PIN nothing is to be left
        return PinChange(details.name, reason, None if pin is None else pin.number)


def _owner(transaction: Transaction, typed: str) -> int | None:
    """The person whose number was typed; None where nobody, or more than one, has it."""
    if not (typed.isascii() and typed.isdigit()):
        return None
    owners = [person for person, number in _numbers(transaction).items() if number == int(typed)]
    return owners[0] if len(owners) == 1 else None


def _numbers(transaction: Transaction) -> dict[int, int]:
    """The number to type of everybody who has a PIN."""
    found = {}
    for number, sealed in transaction.execute("SELECT number, record FROM person"):
        details = open_person(transaction, number, sealed)
        if details.pin is not None:
            found[number] = details.pin.number
    return found


def _new_number(transaction: Transaction) -> int:
    taken = set(_numbers(transaction).values())
    for numbers in _NUMBERS:
        for _ in range(_DRAWS):
            number = secrets.choice(numbers)
            if number not in taken:
                return number
    raise AssertionError("of ten million numbers none is free")


def _is_pin(pin: str) -> bool:
    return pin.isascii() and pin.isdigit() and FEWEST_DIGITS <= len(pin) <= MOST_DIGITS


def _hasher() -> Any:
    try:
        from argon2 import PasswordHasher
    except ImportError as error:
        raise extra_missing("pin") from error
    return PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)
