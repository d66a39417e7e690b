"""From how many people on a door cannot keep the wanted rate: nobody is locked out, and the programs say so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.diagnostics.doctor import examine
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.installation.installer import install, rollback
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.matching.thresholds import Outlook
from edge_oneshot_device.presentation.results import outlook_text
from tests.raising import raises
from tests.samples.tiny import MakeBundle, People

MANY = 186


def far_out(manifest: dict[str, Any]) -> None:
    """A tail that asks for more than a cosine can be from eleven people on, at a target of 1 %."""
    for calibration in manifest["calibration"]:
        calibration["tail"] |= {"threshold": 0.8, "far": 0.01, "scale": 0.08, "shape": 0.0}


def fill(recognizer: Recognizer, people: int) -> None:
    """Enrol people whom nobody resembles."""
    vectors = np.random.default_rng(5).normal(size=(people, 16)).astype(np.float32)
    for number, vector in enumerate(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)):
        recognizer.gallery.enrol(f"person {number:03}", vector[np.newaxis])


@pytest.fixture
def state(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    install(make_bundle(change=far_out), tmp_path / "state")
    return tmp_path / "state"


def test_the_image_that_somebody_was_enrolled_from_is_accepted_among_187_people(state: Path, people: People) -> None:
    with Recognizer.open(state) as recognizer:
        fill(recognizer, MANY)
        enrolment = recognizer.enrol("ada", people["ada"][0])
        decision = recognizer.identify(people["ada"][0])
    assert (decision.person, decision.reason) == ("ada", "match")
    assert decision.threshold < decision.score == pytest.approx(1.0)
    assert (decision.target_far, decision.kept_far, decision.provisional) == (0.01, pytest.approx(0.187), True)
    assert enrolment.outlook is not None
    assert (enrolment.outlook.people, enrolment.outlook.most_people) == (187, 10)
    assert enrolment.outlook.kept_far == decision.kept_far


def test_init_enrol_and_doctor_say_from_how_many_people_on_the_rate_is_not_kept(
    state, make_bundle, people, tmp_path, capsys
):
    image = tmp_path / "ada.png"
    image.write_bytes(people["ada"][0])
    where = ["--state", str(state)]
    bundle = str(make_bundle(change=far_out))
    assert cli.main(["init", bundle, *where]) == 0
    assert "door        the target FAR of 1 % holds for up to 10 people\n" in capsys.readouterr().out
    with Recognizer.open(state) as recognizer:
        fill(recognizer, 10)
    assert [finding.level for finding in examine(state).findings if finding.what == "threshold"] == ["ok"]
    assert cli.main(["enrol", "ada", str(image), *where]) == 0
    told = (
        "with 11 people enrolled, about 11 of 1,000 strangers get in and at least 0.1 of 100 genuine attempts are "
        "rejected; the target FAR of 1 % holds for up to 10 people only: calibrate with more people, run init with a "
        "larger --target-far, or use verify, where people say who they are"
    )
    assert capsys.readouterr().out == f"enrolled  ada  1 template\n{told}\n"
    assert cli.main(["init", bundle, *where]) == 0
    assert f"door        {told}\n" in capsys.readouterr().out
    (found,) = [finding for finding in examine(state).findings if finding.what == "threshold"]
    assert (found.level, found.text) == ("warning", told)
    assert cli.main(["identify", str(image), "--json", *where]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["target_far"], answer["kept_far"]) == (0.01, pytest.approx(0.011))
    assert cli.main(["identify", str(image), "--scores", *where]) == 0
    assert "target FAR 1 %, FAR kept 1.1 %, provisional" in capsys.readouterr().out


def test_without_a_calibration_there_is_no_outlook_and_nothing_fails(make_bundle, people, tmp_path):
    installation = install(make_bundle(calibrated=False), tmp_path / "state")
    with Recognizer.open(tmp_path / "state") as recognizer:
        assert recognizer.enrol("ada", people["ada"][0]).outlook is None
    assert installation.outlook is None
    assert not [finding for finding in examine(tmp_path / "state").findings if finding.what == "threshold"]


def test_the_outlook_follows_a_rollback(state: Path, make_bundle: MakeBundle) -> None:
    install(make_bundle(name="other"), state, InstallOptions(target_far=0.2))
    back = rollback(state)
    assert back.outlook is not None
    assert back.outlook.target_far == 0.01


def test_init_says_beforehand_what_the_door_will_do_and_whose_choice_the_target_is(make_bundle, tmp_path, capsys):
    command = ["init", str(make_bundle()), "--state", str(tmp_path / "state")]
    assert cli.main(command) == 0
    chosen = capsys.readouterr().out
    assert "the default of the bundle; a larger --target-far rejects fewer genuine" in chosen
    for people in (10, 100):
        assert f" with {people} people enrolled, about " in chosen
    assert cli.main([*command, "--target-far", "0.05", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["default_far"], [one["people"] for one in told["forecast"]]) == (False, [10, 100])
    with Recognizer.open(tmp_path / "state") as recognizer:
        fill(recognizer, 11)
    assert cli.main([*command, "--target-far", "0.05"]) == 0
    told = capsys.readouterr().out
    assert "the bundle's default" not in told
    assert [told.count(f"with {people} people enrolled, about ") for people in (10, 11, 100)] == [0, 1, 1]


def test_init_says_which_settings_of_before_are_as_by_default_again(make_bundle, tmp_path, capsys):
    command = ["init", str(make_bundle()), "--state", str(tmp_path / "state")]
    assert cli.main([*command, "--keep-photos", "--target-far", "0.05", "--rejections-per-minute", "5"]) == 0
    assert "as default" not in capsys.readouterr().out
    assert cli.main([*command, "--target-far", "0.02"]) == 0
    assert "reset       --keep-photos, --rejections-per-minute: set before, not given now" in capsys.readouterr().out
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["defaults_again"] == ["--target-far"]


@pytest.mark.parametrize(("far", "strangers"), [(0.99997, "1,000"), (0.0005, "0.5"), (0.72682, "727")])
def test_strangers_are_counted_in_plain_figures(far: float, strangers: str) -> None:
    told = outlook_text(Outlook(100, 0.4, far, 3, False, 0.0))
    assert told.startswith(f"with 100 people enrolled, about {strangers} of 1,000 strangers get in and 0 of 100 ")


def test_a_door_that_turns_many_away_is_told_so_with_what_to_do(make_bundle, people, tmp_path, capsys):
    def hard_to_meet(manifest: dict[str, Any]) -> None:
        for calibration in manifest["calibration"]:
            calibration["points"][-1]["frr"] = 0.442

    image = tmp_path / "ada.png"
    image.write_bytes(people["ada"][0])
    where = ["--state", str(tmp_path / "state")]
    install(make_bundle(change=hard_to_meet), tmp_path / "state")
    assert cli.main(["enrol", "ada", str(image), *where]) == 0
    told = capsys.readouterr().out
    assert "44.2 of 100 genuine attempts are rejected" in told
    assert told.endswith(
        ": enrol more images of each person, run init with a larger --target-far, or use verify, where people say who "
        "they are\n"
    )
    (found,) = [finding for finding in examine(tmp_path / "state").findings if finding.what == "threshold"]
    assert found.level == "warning"


def test_a_target_that_is_unfit_for_a_door_is_not_taken_without_being_asked_for(make_bundle, tmp_path):
    def few_people(manifest: dict[str, Any]) -> None:
        for calibration in manifest["calibration"]:
            calibration["target_far"] = 0.5

    bundle = make_bundle(change=few_people)
    with raises(
        InputError, match="a false accept rate of 50 %, too high for a door", reason="target_far_needed"
    ) as refused:
        install(bundle, tmp_path / "state")
    assert "--target-far 0.5" in str(refused.value)
    assert not (tmp_path / "state").exists()
    assert install(bundle, tmp_path / "state", InstallOptions(target_far=0.5)).target_far == 0.5
    assert install(make_bundle(), tmp_path / "state").default_far
