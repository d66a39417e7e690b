"""A share of the campaign of hostile bundles: nothing crashes, nothing passes. The whole is part of `make soak`."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("rich", reason="the campaign shows its progress with rich")

from edge_oneshot_device.encoding import runtimes
from tests.campaigns import hostile_bundles as campaign

CASES = 400


@pytest.fixture(autouse=True)
def runtimes_put_back(monkeypatch):
    """Put back what the campaign replaces."""
    monkeypatch.setattr(runtimes, "_import", runtimes._import)


@pytest.fixture
def bundle(make_bundle) -> Path:
    return make_bundle(counts=(1,))


@pytest.fixture
def subject(bundle):
    return campaign.subject_of(bundle.read_bytes(), seed=1)


def test_every_attack_is_refused_or_changes_nothing(bundle, tmp_path):
    out = tmp_path / "counts.json"
    code = campaign.main(["--bundle", str(bundle), "--cases", str(CASES), "--seed", "1", "--out", str(out)])
    counts = json.loads(out.read_bytes())
    assert counts["failures"] == []
    assert code == 0
    assert counts["cases"] >= CASES
    assert {one["attack"] for one in counts["attacks"]} == set(campaign.ATTACKS)
    for one in counts["attacks"]:
        for outcomes in (one["untrusting"], one["trusting"]):
            assert sum(outcomes.values()) == one["cases"] >= 1
        assert all(outcome == "identical" or outcome.startswith("refused: ") for outcome in one["trusting"])
        if one["attack"] not in campaign.REWRITES:
            assert "rewritten" not in one["untrusting"]


def test_a_consistent_rewrite_opens_where_nobody_is_trusted_and_is_refused_elsewhere(subject):
    trusted = campaign.public(subject.key)
    for attack in ("lowered_threshold", "altered_model", "altered_section", "resigned"):
        told = set()
        for number in range(20):
            content = campaign.ATTACKS[attack](subject, random.Random(number))
            told.add(campaign.judge(content, subject, trust=None, rewrites=True))
            refusal = campaign.judge(content, subject, trust=trusted, rewrites=True)
            assert refusal in ("refused: unsigned", "refused: untrusted_key", "refused: bad_signature")
        assert "rewritten" in told


def test_the_campaign_would_notice_what_passes_and_what_crashes(subject, bundle, monkeypatch):
    content = campaign.ATTACKS["resigned"](subject, random.Random(0))
    assert campaign.judge(content, subject, trust=None, rewrites=False) == "altered"
    assert campaign.judge(subject.content, subject, trust=None, rewrites=False) == "identical"
    worker = campaign.worker_of(bundle, 1)

    def opened(attack):
        return campaign.opened(worker, (attack, 0))[2]

    assert opened("flipped_bit")["trusting"].startswith("refused")
    assert opened("no such attack")["trusting"].startswith("crashed: ")
    assert opened("flipped_bit")["trusting"].startswith("refused")
    monkeypatch.setattr(campaign, "MAX_SECONDS", 0.0)
    assert opened("flipped_bit")["untrusting"] == "too slow"
    worker.close()


def test_the_same_seed_makes_the_same_files(subject, bundle):
    again = campaign.subject_of(bundle.read_bytes(), seed=1)
    assert again.content == subject.content
    for attack, make in campaign.ATTACKS.items():
        if attack not in campaign.RARE:
            assert make(subject, random.Random(3)) == make(again, random.Random(3)), attack
