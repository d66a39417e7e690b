"""What a command prints for a person."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from edge_oneshot_device.formatting import align, count, percent
from edge_oneshot_device.presentation.bundles import UNCALIBRATED, UNSIGNED
from edge_oneshot_device.text import printable

if TYPE_CHECKING:
    from edge_oneshot_device.diagnostics.doctor import Diagnosis
    from edge_oneshot_device.gallery.audit_check import AuditReport
    from edge_oneshot_device.gallery.audit_trail import AuditEntry
    from edge_oneshot_device.gallery.people import Enrolment, Person
    from edge_oneshot_device.gallery.rotation import DroppedKeys
    from edge_oneshot_device.gallery.transfer import Transfer
    from edge_oneshot_device.installation.installer import Installation
    from edge_oneshot_device.matching.decision import Decision
    from edge_oneshot_device.matching.thresholds import Outlook
    from edge_oneshot_device.recognition.staff import StaffEnrolment

LOCKS_OUT: Final = 0.2
"""Share of right attempts that are turned away above which a door is said to lock people out."""


_REASONS: Final = {
    "ambiguous": "as alike to one person as to another: present another image, or have an administrator look",
    "disabled": "an administrator has to unlock",
    "empty_gallery": "nobody is enrolled",
    "expired": "may come in no more",
    "not_yet_valid": "may not come in yet",
    "outside_hours": "may not come in at this hour",
    "unknown_zone": "nobody knows what hour it is here: look at doctor",
}


def decision_text(decision: "Decision", refusal: str, scores: bool = False) -> str:
    """The verdict and its reason; with `scores` what it rests on, which is the administrator's to know."""
    verdict = f"accepted  {decision.person}" if decision.accepted else f"{refusal}  {decision.reason}"
    if decision.retry_after is not None:
        return f"{verdict}  wait {math.ceil(decision.retry_after)} s"
    says = _REASONS.get(decision.reason)
    if decision.reason == "below_threshold":
        says = "not alike enough to anybody enrolled" if refusal == "unknown" else "not alike enough to who it is to be"
    if says is not None:
        verdict = f"{verdict}  {says}"
    if not scores or decision.likeness is None:
        return f"{verdict}  (provisional)" if decision.provisional and decision.reason != "empty_gallery" else verdict
    return f"{verdict}  {_grounds(decision)}"


def _grounds(decision: "Decision") -> str:
    """What a decision rests on: score and threshold on one scale, and as they are."""
    assert decision.likeness is not None
    assert decision.likeness_needed is not None
    enough = decision.score is not None and decision.score >= decision.threshold
    likeness, needed = _apart(decision.likeness, decision.likeness_needed, enough=enough)
    facts = [f"score {_number(decision.score)}", f"threshold {_number(decision.threshold)}"]
    if decision.candidate is not None:
        facts.insert(0, f"looks like {decision.candidate.person}")
    if decision.runner_up is not None and decision.likeness_of_runner_up is not None:
        facts.append(f"next {decision.runner_up.person}, alike by {decision.likeness_of_runner_up:.0f}")
    facts.append(f"target FAR {percent(decision.target_far)}")
    if decision.kept_far > decision.target_far:
        facts.append(f"kept {percent(decision.kept_far)}")
    if decision.provisional:
        facts.append("provisional")
    return f"alike by {likeness} of 100, {needed} needed  ({', '.join(facts)})"


def _apart(likeness: float, needed: float, *, enough: bool) -> tuple[str, str]:
    """Both with as many digits as it takes to see which is the larger."""
    for digits in range(5):
        shown = f"{likeness:.{digits}f}", f"{needed:.{digits}f}"
        if (float(shown[0]) >= float(shown[1])) == enough:
            break
    return shown


def _number(value: float | None) -> str:
    """Four digits; never -0."""
    return "none" if value is None else f"{value + 0.0:.4g}"


def enrolment_text(enrolment: "Enrolment") -> str:
    """What was done to whom, and what the door does now."""
    lines = [_enrolment_line(enrolment)]
    if enrolment.outlook is not None:
        lines.append(outlook_text(enrolment.outlook))
    return "\n".join(lines)


def _enrolment_line(enrolment: "Enrolment") -> str:
    if enrolment.templates == 0:
        return f"{enrolment.reason}  {enrolment.person}"
    text = f"{enrolment.reason}  {enrolment.person}  {count(enrolment.templates, 'template')}"
    if enrolment.resembles is not None:
        text += f"  (looks like {enrolment.resembles.person}: is it the same person under two names?)"
    return text


def outlook_text(outlook: "Outlook") -> str:
    """What the door does with so many people, and up to how many it does what was wanted."""
    limit = f"{percent(outlook.target_far)} is kept for up to {count(outlook.most_people, 'person')}"
    remedies = []
    if outlook.people > outlook.most_people:
        limit += " only"
        remedies.append("calibrate with more people")
    if outlook.people and outlook.frr > LOCKS_OUT:
        remedies.append("enrol more images of each")
    if remedies:
        remedies += ["init with a larger --target-far", "or verify whom somebody claims to be"]
    advice = f": {', '.join(remedies)}" if remedies else ""
    return f"{_door_text(outlook)}; {limit}{advice}" if outlook.people else limit


def _door_text(outlook: "Outlook") -> str:
    """What the door does with so many people."""
    least = "at least " if outlook.provisional else ""
    return (
        f"with {count(outlook.people, 'person')} enrolled, about {1000 * outlook.kept_far:.3g} of 1,000 strangers get"
        f" in and {least}{100 * outlook.frr:.3g} of 100 right attempts are turned away"
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
        provisional = ", provisional: less data than it should rest on" if installation.provisional else ""
        rows.append(("target FAR", f"{percent(installation.target_far)}{provisional}"))
        if installation.default_far:
            text = "the bundle's own, as no --target-far was given: a larger one turns fewer right attempts away and"
            rows.append(("", f"{text} lets more strangers in"))
    if installation.outlook is not None:
        rows.append(("door", outlook_text(installation.outlook)))
    rows += [("", _door_text(one)) for one in installation.forecast if one != installation.outlook]
    if installation.defaults_again:
        options = ", ".join(installation.defaults_again)
        rows.append(("as default", f"{options}: set before and not now; say init with what is to stay as it was"))
    rows.append(("state", f"{installation.state}, {installation.people} enrolled"))
    if installation.taken_over:
        text = f"{installation.taken_over} from a gallery that was not sealed: look with people whether they are yours"
        rows.append(("taken over", text))
    rows.append(("key", f"{installation.key}: keep a copy elsewhere, nobody is recognized without it"))
    return align(rows)


def staff_text(staff: "StaffEnrolment") -> str:
    """Who was enrolled from a folder and from what, who was refused and why, and what was left out."""
    from edge_oneshot_device.image_files import passed_over_text

    lines = [f"enrolled {len(staff.enrolled)}, enrolled already {len(staff.skipped)}, refused {len(staff.refused)}"]
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
    """Who was written to a file, or taken from one."""
    text = f"{action}ed {count(len(transfer.people), 'person')}: {transfer.file}"
    if transfer.skipped:
        text += f"\nenrolled already, and left as they are: {', '.join(transfer.skipped)}"
    return text


def dropped_text(dropped: "DroppedKeys") -> str:
    """Which keys were deleted, and what they opened."""
    if not dropped.dropped:
        lines = [
            "nothing was deleted: no key is kept here that the audit trail proves to be a former one of this gallery"
        ]
    else:
        lines = [f"deleted  {file}" for file in dropped.dropped]
        lines.append("backups, files of people and other galleries that were sealed with these open no more")
    return "\n".join([*lines, *(f"kept  {file}" for file in dropped.kept)])


def audit_text(report: "AuditReport") -> str:
    """The summary of an audit trail that was verified."""
    let_go = "" if report.first == 1 else f", earlier ones were pruned (first {report.first})"
    held = f"{count(report.rows, 'row')} since {report.since}{let_go}, {report.people} enrolled"
    return f"the audit trail holds: {held}\n{report.head}"


def entries_text(entries: "Sequence[AuditEntry]") -> str:
    """Rows of the audit trail."""
    head = ("seq", "at", "act", "person", "detail")
    rows = [(str(e.seq), e.at, e.act, e.person or e.number or "", _facts(e.detail)) for e in entries]
    return align([head, *rows])


def diagnosis_text(diagnosis: "Diagnosis") -> str:
    """What was found, a line each."""
    return align([(finding.level, finding.what, finding.text) for finding in diagnosis.findings])


def _facts(detail: dict[str, Any]) -> str:
    shown = ["reason", "score", "threshold", "templates", "people", "failures", "valid_from", "valid_until", "hours"]
    if "encoders" in detail:  # of an init
        shown += ["variant", "target_far", "rejections_per_minute"]
    facts = [(key, detail[key]) for key in shown if detail.get(key) is not None]
    return ", ".join(f"{key} {_number(fact)}" if isinstance(fact, float) else f"{key} {fact}" for key, fact in facts)
