"""What the commands of a state folder print for a person: decisions, enrolments, people, the audit trail."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from edge_oneshot_device.formatting import align, count, percent
from edge_oneshot_device.text import printable

if TYPE_CHECKING:
    from edge_oneshot_device.diagnostics.doctor import Diagnosis
    from edge_oneshot_device.door.pins import PinChange
    from edge_oneshot_device.gallery.audit_check import AuditReport
    from edge_oneshot_device.gallery.audit_trail import AuditEntry, PrunedAudit
    from edge_oneshot_device.gallery.people import Enrolment, Person, Unlocked
    from edge_oneshot_device.gallery.rotation import DroppedKeys, KeyRotation
    from edge_oneshot_device.gallery.transfer import Backup, Transfer
    from edge_oneshot_device.installation.installation_report import Installation
    from edge_oneshot_device.matching.decision import Decision
    from edge_oneshot_device.matching.thresholds import Outlook
    from edge_oneshot_device.recognition.folder_enrolment import FolderEnrolment

UNCALIBRATED: Final = "uncalibrated: verify and identify will refuse; export it with calibration images"
UNSIGNED: Final = "nobody: the digests show that the bundle is undamaged, not where it comes from"
HIGH_FRR: Final = 0.2
"""False reject rate above which enrolment and `doctor` advise what to do."""


_REASONS: Final = {
    "ambiguous": "two people match about equally well: present another image or recording, or ask an administrator",
    "disabled": "an administrator has to unlock this person",
    "empty_gallery": "nobody is enrolled",
    "expired": "this person's access has ended",
    "not_yet_valid": "this person's access has not started yet",
    "outside_hours": "this person has no access at this hour",
    "unknown_zone": "the time zone of this machine is unknown: run doctor",
}


def decision_text(decision: "Decision", refusal: str, scores: bool = False) -> str:
    """A decision in one line.

    Args:
        decision: The decision.
        refusal: The word for a decision that does not accept: ``rejected`` (1:1) or ``unknown`` (1:N).
        scores: Add scores and threshold, which only the administrator should see.

    Returns:
        The verdict, its reason code, and what to do.
    """
    verdict = f"accepted  {decision.person}" if decision.accepted else f"{refusal}  {decision.reason}"
    if decision.retry_after is not None:
        return f"{verdict}  wait {math.ceil(decision.retry_after)} s"
    says = _REASONS.get(decision.reason)
    if decision.reason == "below_threshold":
        says = "matches nobody enrolled" if refusal == "unknown" else "does not match the person claimed"
    if says is not None:
        verdict = f"{verdict}  {says}"
    if not scores or decision.likeness is None:
        return f"{verdict}  (provisional)" if decision.provisional and decision.reason != "empty_gallery" else verdict
    return f"{verdict}  {_grounds(decision)}"


def _grounds(decision: "Decision") -> str:
    """Score and threshold, on a scale of 0 to 100 and as they are."""
    assert decision.likeness is not None
    assert decision.likeness_needed is not None
    enough = decision.score is not None and decision.score >= decision.threshold
    likeness, needed = tell_apart(decision.likeness, decision.likeness_needed, enough=enough)
    facts = [f"score {_number(decision.score)}", f"threshold {_number(decision.threshold)}"]
    if decision.candidate is not None:
        facts.insert(0, f"best match {decision.candidate.person}")
    if decision.runner_up is not None and decision.likeness_of_runner_up is not None:
        facts.append(f"runner-up {decision.runner_up.person} with likeness {decision.likeness_of_runner_up:.0f}")
    facts.append(f"target FAR {percent(decision.target_far)}")
    if decision.kept_far > decision.target_far:
        facts.append(f"FAR kept {percent(decision.kept_far)}")
    if decision.provisional:
        facts.append("provisional")
    return f"likeness {likeness} of 100, {needed} needed  ({', '.join(facts)})"


def tell_apart(likeness: float, needed: float, *, enough: bool) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to see which is larger."""
    for digits in range(5):
        shown = f"{likeness:.{digits}f}", f"{needed:.{digits}f}"
        if (float(shown[0]) >= float(shown[1])) == enough:
            break
    return shown


def _number(value: float | None) -> str:
    """A number with four digits; never -0."""
    return "none" if value is None else f"{value + 0.0:.4g}"


def enrolment_text(enrolment: "Enrolment") -> str:
    """What was done to whom, and the error rates of the door now."""
    lines = [_enrolment_line(enrolment)]
    if enrolment.outlook is not None:
        lines.append(outlook_text(enrolment.outlook))
    return "\n".join(lines)


def _enrolment_line(enrolment: "Enrolment") -> str:
    if enrolment.templates == 0:
        return f"{enrolment.reason}  {enrolment.person}"
    text = f"{enrolment.reason}  {enrolment.person}  {count(enrolment.templates, 'template')}"
    alike = enrolment.resembles
    if alike is not None:
        where = " and ".join(name for name in ("verify", "identify") if getattr(alike, name))
        text += f"  (resembles {alike.person} closely enough to be confused in {where}: check whether it is one person"
        text += " under two names; if not, lookalikes says what to do)"
    return text


def outlook_text(outlook: "Outlook") -> str:
    """The error rates of the door, up to how many people the target FAR holds, and what to do beyond that."""
    limit = f"the target FAR of {percent(outlook.target_far)} holds for up to {count(outlook.most_people, 'person')}"
    remedies = []
    if outlook.people > outlook.most_people:
        limit += " only"
        remedies.append("calibrate with more people")
    if outlook.people and outlook.frr > HIGH_FRR:
        remedies.append("enrol more images of each person")
    if remedies:
        remedies += ["run init with a larger --target-far", "or use verify, where people say who they are"]
    advice = f": {', '.join(remedies)}" if remedies else ""
    return f"{_door_text(outlook)}; {limit}{advice}" if outlook.people else limit


def _door_text(outlook: "Outlook") -> str:
    """The error rates of the door with so many people."""
    least = "at least " if outlook.provisional else ""
    strangers = float(f"{1000 * outlook.kept_far:.3g}")
    return (
        f"with {count(outlook.people, 'person')} enrolled, about {strangers:,g} of 1,000 strangers get"
        f" in and {least}{100 * outlook.frr:.3g} of 100 genuine attempts are rejected"
    )


def people_text(people: "Sequence[Person]") -> str:
    """A line for each person."""
    if not people:
        return "nobody is enrolled"
    head = ["person", "templates", "enrolled", "fingerprint"]
    rows = [[p.person, str(p.templates), p.enrolled, p.fingerprint[:12]] for p in people]
    for column in ("valid_from", "valid_until", "hours"):
        if any(getattr(p, column) for p in people):
            head.append(column.replace("_", " "))
            for row, person in zip(rows, people, strict=True):
                row.append(getattr(person, column) or "")
    return align([tuple(head), *map(tuple, rows)])


def installation_text(installation: "Installation") -> str:
    """What is in use now."""
    signer = installation.signed_by or UNSIGNED
    rows = [
        ("installed", f"{installation.name}, {installation.bytes:,} bytes"),
        ("signed by", f"{signer}, trusted" if installation.trusted else signer),
        (
            "variant",
            f"{installation.variant} on {installation.runtime}, {count(installation.threads, 'thread')}, "
            f"fingerprint {installation.fingerprints[installation.variant][:12]}",
        ),
    ]
    if installation.target_far is None:
        rows.append(("target FAR", UNCALIBRATED))
    else:
        reasons = [one.why_provisional for one in installation.calibration if one.variant == installation.variant]
        why = next(filter(None, reasons), "the calibration has too little data for it")
        provisional = f", provisional: {why}" if installation.provisional else ""
        rows.append(("target FAR", f"{percent(installation.target_far)}{provisional}"))
        if installation.default_far:
            text = "the default of the bundle; a larger --target-far rejects fewer genuine attempts and lets in more"
            rows.append(("", f"{text} strangers"))
    if installation.outlook is not None:
        rows.append(("door", outlook_text(installation.outlook)))
    rows += [("", _door_text(one)) for one in installation.forecast if one != installation.outlook]
    if installation.defaults_again:
        options = ", ".join(installation.defaults_again)
        rows.append(("reset", f"{options}: set before, not given now, so at the default again; give what is to stay"))
    rows.append(("state", f"{installation.state}, {installation.people} enrolled"))
    if installation.taken_over:
        text = f"{installation.taken_over} from a gallery that was not sealed: check the list of people for strangers"
        rows.append(("taken over", text))
    rows.append(("key", f"{installation.key}: keep a copy elsewhere; without it nobody can be recognized"))
    return align(rows)


def folder_enrolment_text(staff: "FolderEnrolment") -> str:
    """Who was enrolled from a folder and from which images, who was refused and why, and what was left out."""
    from edge_oneshot_device.image_files import passed_over_text

    lines = [f"enrolled {len(staff.enrolled)}, already enrolled {len(staff.skipped)}, refused {len(staff.refused)}"]
    lines += [_enrolment_line(one) for one in staff.enrolled if one.resembles is not None]
    lines += [f"refused  {one.person}  {one.reason}: {one.error}" for one in staff.refused]
    for one in staff.chosen:
        which = f"the {'best' if one.by == 'quality' else 'first'} {len(one.images)} of {one.of} images"
        by = "quality of the face" if one.by == "quality" else "name"
        lines.append(f"chosen  {one.person}  {which} by {by}: {printable(', '.join(one.images))}")
    if staff.passed_over:
        lines.append(passed_over_text(staff.passed_over))
    if staff.enrolled and staff.enrolled[-1].outlook is not None:
        lines.append(outlook_text(staff.enrolled[-1].outlook))
    return "\n".join(lines)


def transfer_text(transfer: "Transfer", action: str) -> str:
    """Who was written to a file, or read from one.

    Args:
        transfer: The result.
        action: The command: ``export`` or ``import``.

    Returns:
        The text.
    """
    text = f"{action}ed {count(len(transfer.people), 'person')}: {transfer.file}"
    if transfer.skipped:
        text += f"\nalready enrolled, left unchanged: {', '.join(transfer.skipped)}"
    return text


def dropped_text(dropped: "DroppedKeys") -> str:
    """Which keys were deleted, and what can no longer be opened without them."""
    if not dropped.dropped:
        lines = ["no key was deleted: by the audit trail, none of the keys here is a former key of this gallery"]
    else:
        lines = [f"deleted  {file}" for file in dropped.dropped]
        lines.append("backups, files of people and other galleries sealed with these keys can no longer be opened")
    return "\n".join([*lines, *(f"kept  {file}" for file in dropped.kept)])


def audit_text(report: "AuditReport") -> str:
    """What the check of an audit trail found: it is intact."""
    pruned = "" if report.first == 1 else f", earlier rows were pruned (first {report.first})"
    rows = f"{count(report.rows, 'row')} since {report.since}{pruned}, {report.people} enrolled"
    return f"the audit trail is intact: {rows}\n{report.head}"


def entries_text(entries: "Sequence[AuditEntry]") -> str:
    """Rows of the audit trail."""
    head = ("seq", "at", "act", "person", "detail")
    rows = [(str(e.seq), e.at, e.act, e.person or e.number or "", _facts(e.detail)) for e in entries]
    return align([head, *rows])


def diagnosis_text(diagnosis: "Diagnosis") -> str:
    """What was found, one line each."""
    return align([(finding.level, finding.what, finding.text) for finding in diagnosis.findings])


def _facts(detail: dict[str, Any]) -> str:
    shown = [
        "state",
        "alarm",
        "text",
        "command",
        "reason",
        "score",
        "threshold",
        "templates",
        "people",
        "failures",
        "valid_from",
        "valid_until",
        "hours",
    ]
    if "encoders" in detail:  # of an init
        shown += ["variant", "target_far", "rejections_per_minute"]
    facts = [(key, detail[key]) for key in shown if detail.get(key) is not None]
    return ", ".join(f"{key} {_number(fact)}" if isinstance(fact, float) else f"{key} {fact}" for key, fact in facts)


def unlocked_text(unlocked: "Unlocked") -> str:
    """Who was unlocked."""
    text = f"unlocked  {unlocked.person}  after {count(unlocked.failures, 'failure')} in a row"
    return f"{text}, and {unlocked.pin_failures} of the PIN" if unlocked.pin_failures else text


def pin_text(change: "PinChange") -> str:
    """Whose PIN was set or removed, and the number that goes with it."""
    done = change.reason.replace("_", " ")
    return f"{done}  {change.person}" if change.number is None else f"{done}  {change.person}  number {change.number}"


def pruned_text(pruned: "PrunedAudit") -> str:
    """How many rows of the audit trail were deleted."""
    return f"deleted {count(pruned.rows, 'row')}; head {pruned.head}"


def backup_text(backup: "Backup") -> str:
    """What was copied, and which key opens the copy."""
    size = f"{backup.people} enrolled, {backup.bytes:,} bytes"
    return f"{backup.file}: {size}; opens with the current key; head {backup.head}"


def restored_text(restored: "Backup") -> str:
    """What was restored, and what is left to do."""
    text = f"restored {restored.file}: {restored.people} enrolled"
    return f"{text}; people who were forgotten after the backup are in it: forget them again"


def rotation_text(rotation: "KeyRotation") -> str:
    """Where the new key is, and the former one."""
    text = f"{count(rotation.people, 'person')} sealed with a new key; the key is in {rotation.key}"
    if rotation.former is not None:
        text += f"; the former key, which older backups need, is in {rotation.former}"
    return text
