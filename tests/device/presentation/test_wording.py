"""What a decision says to people: what decided, on one scale, in words."""

import re
from typing import Any

import msgspec
import pytest

from edge_oneshot_device.gallery.audit_trail import AuditEntry
from edge_oneshot_device.matching.decision import Candidate, Decision
from edge_oneshot_device.presentation.results import decision_text, entries_text

REJECTED = Decision(
    person=None, accepted=False, score=0.6, similarity=0.99, threshold=0.7, target_far=0.001, kept_far=0.001,
    runner_up=None, reason="below_threshold", provisional=False, variant="int8", runtime="litert", fingerprint="f" * 64,
    likeness=50.0, likeness_needed=62.5,
)  # fmt: skip


def decided(**changed: Any) -> Decision:
    return msgspec.structs.replace(REJECTED, **changed)


def grounds(decision: Decision) -> tuple[str, str]:
    found = re.search(r"likeness ([\d.]+) of 100, ([\d.]+) needed", decision_text(decision, "unknown", scores=True))
    assert found is not None
    return found[1], found[2]


def test_a_rejection_is_told_by_score_and_threshold_on_one_scale() -> None:
    text = decision_text(REJECTED, "unknown", scores=True)
    assert text == (
        "unknown  below_threshold  matches nobody enrolled  likeness 50 of 100, 62 needed  "
        "(score 0.6, threshold 0.7, target FAR 0.1 %)"
    )
    assert "0.99" not in text


def test_a_score_just_below_the_threshold_is_seen_to_be_below() -> None:
    assert grounds(decided(score=0.69999, likeness=62.4999)) == ("62.4999", "62.5000")
    assert grounds(decided(score=0.699, likeness=62.4)) == ("62.4", "62.5")
    assert grounds(decided(score=0.7, likeness=62.5, accepted=True, person="ada", reason="match")) == ("62", "62")


@pytest.mark.parametrize("zero", [-0.0, 0.0])
def test_no_score_is_minus_nought(zero: float) -> None:
    runner_up = Candidate("alan", zero)
    text = decision_text(
        decided(score=zero, threshold=zero, runner_up=runner_up, likeness=0.0, likeness_of_runner_up=0.0),
        "unknown",
        scores=True,
    )
    assert "-0" not in text
    entry = AuditEntry(1, "2026-01-01T00:00:00Z", "identify", None, None, {"score": zero, "threshold": zero}, "")
    assert "score 0, threshold 0" in entries_text([entry])


@pytest.mark.parametrize("scores", [True, False])
def test_an_ambiguous_answer_says_what_to_do(scores: bool) -> None:
    decision = decided(
        score=0.9, likeness=90.0, reason="ambiguous", runner_up=Candidate("alan", 0.9), likeness_of_runner_up=89.9
    )
    text = decision_text(decision, "unknown", scores=scores)
    assert text.startswith(
        "unknown  ambiguous  two people match about equally well: present another image or recording, or ask an"
    )
    assert ("alan" in text) == scores


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("expired", "this person's access has ended"),
        ("not_yet_valid", "this person's access has not started yet"),
        ("outside_hours", "this person has no access at this hour"),
        ("unknown_zone", "run doctor"),
        ("disabled", "an administrator has to unlock this person"),
    ],
)
def test_every_reason_is_told_in_words(reason: str, says: str) -> None:
    assert decision_text(decided(reason=reason), "rejected").endswith(says)


def test_who_has_to_wait_is_told_how_long() -> None:
    waiting = decided(reason="rate_limited", retry_after=29.1, score=None, likeness=None)
    assert decision_text(waiting, "unknown", scores=True) == "unknown  rate_limited  wait 30 s"
