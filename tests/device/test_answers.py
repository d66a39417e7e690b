"""What whoever presents an image learns from the program's answer: a verdict and a reason, and nothing to climb by."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_oneshot_device import Decision, Recognizer, cli, commands
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests.samples.pictures import png
from tests.samples.tiny import MakeBundle, People

NAMES = ("ada", "alan", "grace")
STEPS = 300


@pytest.fixture
def door(make_bundle: MakeBundle, people: People, tmp_path: Path) -> Iterator[Recognizer]:
    """Without limits, which slow an attack and do not change what it learns."""
    install(make_bundle(), tmp_path / "state", InstallOptions(target_far=0.001))
    with Recognizer.open(tmp_path / "state", limits=None) as opened:
        for name in NAMES:
            opened.enrol(name, people[name][0])
        yield opened


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def answer(decision: Decision, *, as_json: bool = True, scores: bool = False) -> str:
        commands._print_decision(decision, "unknown", as_json, scores)
        return capsys.readouterr().out

    return answer


def climb(door: Recognizer, learnt: Callable[[Decision], float]) -> Decision:
    """Change a drawing of noise step by step, and keep each change after which more, or as much, is learnt."""
    rng = np.random.default_rng(7)
    best = rng.uniform(64.0, 192.0, (8, 8))
    most = -np.inf
    for _ in range(STEPS):
        tried = np.clip(best + rng.normal(0.0, 30.0, (8, 8)) * (rng.random((8, 8)) < 0.3), 0.0, 255.0)
        decision = door.verify("ada", png(np.kron(tried, np.ones((4, 4))).astype(np.uint8)))
        if decision.accepted:
            return decision
        found = learnt(decision)
        if found >= most:
            best, most = tried, found
    return decision


def test_whoever_reads_scores_climbs_to_an_acceptance(door: Recognizer, printed: Any) -> None:
    def score(decision: Decision) -> float:
        return float(json.loads(printed(decision, scores=True))["score"])

    assert climb(door, score).accepted


@pytest.mark.parametrize("as_json", [True, False])
def test_whoever_reads_the_answer_alone_gets_nowhere(door: Recognizer, printed: Any, as_json: bool) -> None:
    seen: dict[str, list[float]] = {}

    def nothing(decision: Decision) -> float:
        assert decision.score is not None
        seen.setdefault(printed(decision, as_json=as_json), []).append(decision.score)
        return 0.0

    assert not climb(door, nothing).accepted
    # the same bytes, whatever the score, the similarity, the best and the runner-up
    (scores,) = seen.values()
    assert max(scores) - min(scores) > 0.5


def test_an_answer_names_only_who_is_accepted(door, people, tmp_path, capsys):
    door.close()
    image = tmp_path / "stranger.png"
    image.write_bytes(people["stranger"][0])
    for words in (["identify", str(image)], ["verify", "ada", str(image)]):
        for form in ([], ["--json"]):
            assert cli.main([*words, *form, "--state", str(tmp_path / "state")]) == 1
            answer = capsys.readouterr().out
            assert not any(name in answer for name in NAMES)
            assert not any(
                word in answer
                for word in ("score", "similarity", "runner", "candidate", "likeness", "likeness", 'threshold":')
            )
    assert cli.main(["identify", str(image), "--scores", "--state", str(tmp_path / "state")]) == 1
    assert "(score " in capsys.readouterr().out


def test_somebody_recognized_outside_their_hours_or_ambiguous_is_not_named(door, people, printed):
    from edge_oneshot_device.gallery.access import parse_access

    door.gallery.set_access("ada", parse_access(None, "2020-01-01", None))
    expired = door.identify(people["ada"][1])
    assert expired.candidate is not None
    door.enrol("alan's twin", people["alan"][0], even_if_alike=True)
    ambiguous = door.identify(people["alan"][0])
    for decision, reason in ((expired, "expired"), (ambiguous, "ambiguous")):
        for as_json in (True, False):
            answer = printed(decision, as_json=as_json)
            assert reason in answer
            assert "ada" not in answer
            assert "alan" not in answer
