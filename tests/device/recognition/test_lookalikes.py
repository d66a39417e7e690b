"""Look-alikes at a door: who would be accepted as whom, what the command prints of it, and what enrolment says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.formatting import percent
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.presentation.lookalikes import look_alikes_text
from edge_oneshot_device.recognition.lookalikes import LookAlikes
from tests.raising import raises
from tests.samples.folders import content_of
from tests.samples.tiny import POINTS, SIZE, MakeBundle

TARGET = 0.1
NEEDED = dict(POINTS)[TARGET]
"""The threshold of 1:1 at the target of the tests; that of 1:N is higher."""


def at(cosine: float, place: int) -> np.ndarray:
    """A template of this cosine with that of `at(1.0, place)`, and of 0 with those of another even place."""
    vector = np.zeros((1, SIZE), np.float32)
    vector[0, place], vector[0, place + 1] = cosine, (1 - cosine**2) ** 0.5
    return vector


def enrol_siblings(recognizer: Recognizer) -> None:
    """Two pairs of siblings, of whom the first are nearer, among six people."""
    for name, template in {
        "zoe": at(1.0, 0), "ada": at(0.95, 0), "bob": at(1.0, 2), "bert": at(0.5, 2), "eve": at(1.0, 4),
        "mia": at(0.3, 4),
    }.items():  # fmt: skip
        recognizer.gallery.enrol(name, template)


@pytest.fixture
def open_recognizer(make_bundle: MakeBundle, tmp_path: Path) -> Any:
    """Installs a bundle made with the keywords and opens it."""

    def open_it(target_far: float | None = TARGET, **made: Any) -> Recognizer:
        installer.install(make_bundle(**made), tmp_path / "state", InstallOptions(target_far=target_far))
        return Recognizer.open(tmp_path / "state", limits=None)

    return open_it


@pytest.fixture
def recognizer(open_recognizer: Any) -> Iterator[Recognizer]:
    with open_recognizer() as opened:
        yield opened


# the library


def test_siblings_are_found_the_nearest_first_and_others_are_not(recognizer: Recognizer) -> None:
    enrol_siblings(recognizer)
    found = recognizer.look_alikes()
    assert [(pair.people, pair.verify, pair.identify) for pair in found.pairs] == [
        (("ada", "zoe"), True, True),
        (("bert", "bob"), True, False),
    ]
    assert [pair.score for pair in found.pairs] == pytest.approx([0.95, 0.5], abs=1e-6)
    assert [pair.threshold for pair in found.pairs] == pytest.approx([NEEDED, NEEDED])
    assert all(0 < pair.likeness_needed < pair.likeness < 100 for pair in found.pairs)
    assert (found.count, found.identify, found.alike, found.people, found.target_far) == (2, 1, 4, 6, TARGET)


def test_the_rate_that_tells_a_pair_apart_does_so_in_verify_and_no_looser_calibrated_one_does(open_recognizer):
    with open_recognizer() as recognizer:
        enrol_siblings(recognizer)
        near, far = recognizer.look_alikes().pairs
    assert (near.apart_at, far.apart_at) == (None, 0.05)
    with open_recognizer(0.05) as recognizer:
        assert [pair.people for pair in recognizer.look_alikes().pairs] == [("ada", "zoe")]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", ["best", "mean"])
def test_a_pair_is_listed_where_verify_accepts_the_photo_of_the_one_as_the_other(open_recognizer, people, metric, rule):
    with open_recognizer(0.05, metric=metric, rule=rule) as recognizer:
        recognizer.enrol("ada", *people["ada"][:3])
        recognizer.enrol("grace", *people["grace"][:3])
        recognizer.enrol("twin", people["ada"][4], even_if_alike=True)
        assert recognizer.verify("ada", people["ada"][4]).accepted
        assert not recognizer.verify("grace", people["ada"][4]).accepted
        (pair,) = recognizer.look_alikes().pairs
        assert pair.people == ("ada", "twin")
        assert pair.verify
        assert pair.identify


def test_the_pairs_are_bounded_and_all_of_them_counted(recognizer: Recognizer) -> None:
    for number in range(9):
        recognizer.gallery.enrol(f"person {number}", at(1.0, 0))
    told: list[tuple[int, int]] = []
    found = recognizer.look_alikes(2, lambda done, total: told.append((done, total)))
    assert (len(found.pairs), found.count, found.alike) == (2, 36, 9)
    assert told == [(36, 36)]
    assert "34 further pairs: see --limit" in look_alikes_text(found)


def test_nobody_is_alike_in_an_empty_gallery_or_alone(recognizer: Recognizer) -> None:
    nobody = LookAlikes([], 0, 0, 0, 0, TARGET, provisional=False)
    assert recognizer.look_alikes() == nobody
    recognizer.gallery.enrol("ada", at(1.0, 0))
    assert recognizer.look_alikes().count == 0


def test_without_a_calibration_there_is_no_answer(open_recognizer: Any) -> None:
    with open_recognizer(None, calibrated=False) as recognizer:
        enrol_siblings(recognizer)
        with raises(InputError, match="is uncalibrated", reason="uncalibrated"):
            recognizer.look_alikes()


def test_somebody_forgotten_meanwhile_is_not_named(recognizer: Recognizer) -> None:
    enrol_siblings(recognizer)
    found = recognizer.look_alikes(report=lambda *_: recognizer.forget("zoe"))
    assert [pair.people for pair in found.pairs] == [("bert", "bob")]


# the command


def test_the_command_lists_the_pairs_with_what_to_do_and_ends_with_1(recognizer, tmp_path, capsys):
    enrol_siblings(recognizer)
    before = content_of(tmp_path / "state")
    where = ["--state", str(tmp_path / "state")]
    assert cli.main(["lookalikes", *where]) == 1
    head, columns, near, far, *advice = capsys.readouterr().out.splitlines()
    assert head == (
        "2 pairs of look-alikes among 6 people at the target FAR of 10 %, 4 of these people in a pair; identify "
        "confuses 1 pair"
    )
    assert columns.split() == ["person", "and", "likeness", "needed", "confused", "in", "told", "apart", "at"]
    assert near.startswith("ada")
    assert near.endswith("verify, identify  no calibrated rate")
    assert far.startswith("bert")
    assert far.endswith(f"verify            {percent(0.05)}")
    assert advice[0] == "what to do:"
    for word in ("forget one", "--replace", "second factor", "ambiguous", "--target-far 0.05 tells 1 of the pairs"):
        assert word in "\n".join(advice)
    assert cli.main(["lookalikes", "--json", "--limit", "1", *where]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {name: value for name, value in told.items() if name != "pairs"} == {
        "count": 2, "identify": 1, "alike": 4, "people": 6, "target_far": TARGET, "provisional": False,
    }  # fmt: skip
    assert [pair["people"] for pair in told["pairs"]] == [["ada", "zoe"]]
    # nothing is written, not even to the audit trail
    assert content_of(tmp_path / "state") == before
    recognizer.forget("zoe")
    recognizer.forget("bob")
    assert cli.main(["lookalikes", *where]) == 0
    assert capsys.readouterr().out == "no look-alikes among 4 people at the target FAR of 10 %\n"


@pytest.mark.parametrize("limit", ["0", "10001", "few"])
def test_a_number_of_pairs_out_of_bounds_is_wrong_use(limit: str, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["lookalikes", "--limit", limit, "--json", "--state", str(tmp_path)]) == 2
    assert json.loads(capsys.readouterr().err)["reason"] == "wrong_use"


# at enrolment


def test_an_enrolment_says_what_lookalikes_says_of_the_pair(recognizer, people):
    recognizer.enrol("ada", people["ada"][0])
    recognizer.enrol("grace", people["grace"][0])
    enrolment = recognizer.enrol("twin", people["ada"][1], even_if_alike=True)
    (pair,) = recognizer.look_alikes().pairs
    told = enrolment.resembles
    assert told is not None
    assert (told.person, told.score, told.verify, told.identify) == ("ada", pair.score, True, True)


def test_somebody_who_is_alike_in_1_to_1_alone_is_enrolled_with_a_warning(recognizer, people, tmp_path, capsys):
    file = tmp_path / "ada.png"
    file.write_bytes(people["ada"][0])
    template = recognizer.encoder.embed_image(people["ada"][0])
    aside = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    aside -= (aside @ template) * template
    sibling = 0.5 * template + 0.75**0.5 * aside / np.linalg.norm(aside)
    recognizer.gallery.enrol("zoe", sibling[np.newaxis])
    assert cli.main(["enrol", "ada", str(file), "--state", str(tmp_path / "state")]) == 0
    assert (
        "(resembles zoe closely enough to be confused in verify: check whether it is one person under two names; "
        "if not, lookalikes says what to do)"
    ) in capsys.readouterr().out
    (pair,) = recognizer.look_alikes().pairs
    assert (pair.people, pair.verify, pair.identify) == (("ada", "zoe"), True, False)
