import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_oneshot_device import Decision, Recognizer
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery.encoders import use_encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_device.matching.thresholds import calibration_for, threshold_for
from tests import ROOT
from tests.raising import raises
from tests.samples.pictures import png
from tests.samples.tiny import MakeBundle, People

README = ROOT / "device" / "README.md"


@pytest.fixture
def open_recognizer(make_bundle: MakeBundle, tmp_path: Path) -> Any:
    """Installs a bundle made with the keywords and opens it."""

    def open_it(target_far: float | None = None, variant: str | None = None, **made: Any) -> Recognizer:
        state = tmp_path / "state"
        install(make_bundle(**made), state, InstallOptions(target_far=target_far, variant=variant))
        return Recognizer.open(state)

    return open_it


@pytest.fixture
def recognizer(open_recognizer: Any) -> Any:
    with open_recognizer() as opened:
        yield opened


def test_the_readmes_example_runs_as_it_stands(make_bundle, people, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 10
    install(make_bundle(), tmp_path / "state")
    for name, content in {
        "ada": people["ada"][0],
        "visitor": people["stranger"][0],
        "ada-today": people["ada"][1],
    }.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("/var/lib/edge-oneshot", "state"), {})  # noqa: S102 (that is the test)
    person, reason = capsys.readouterr().out.split()
    assert (person, reason) == ("None", "below_threshold")


@pytest.mark.parametrize(
    ("variant", "metric"),
    [("int8", "cosine"), ("int8", "euclidean"), ("float32", "cosine"), ("onnx-float32", "cosine")],
)
def test_one_image_is_enough_to_tell_people_apart(open_recognizer, people, variant, metric):
    with open_recognizer(variant=variant, metric=metric, target_far=0.05) as recognizer:
        known = [name for name in people if name != "stranger"]
        for name in known:
            enrolment = recognizer.enrol(name, people[name][0])
            assert (enrolment.templates, enrolment.reason) == (1, "enrolled")
        for name in known:
            decision = recognizer.identify(people[name][1])
            assert (decision.person, decision.accepted, decision.reason) == (name, True, "match")
            assert decision.similarity is not None
            assert decision.similarity > 0.8
            assert decision.runner_up is not None
            assert decision.runner_up.person in known
            assert decision.runner_up.person != name
            assert recognizer.verify(name, people[name][1]).accepted
        stranger = recognizer.identify(people["stranger"][0])
        assert (stranger.person, stranger.accepted, stranger.reason) == (None, False, "below_threshold")
        refused = recognizer.verify("ada", people["grace"][1])
        assert (refused.person, refused.accepted, refused.reason) == (None, False, "below_threshold")


def test_a_decision_has_the_keys_of_the_design() -> None:
    assert [field.name for field in msgspec.structs.fields(Decision)] == [
        "person", "accepted", "score", "similarity", "threshold", "target_far", "kept_far", "runner_up", "reason",
        "provisional", "variant", "runtime", "fingerprint", "candidate", "retry_after", "fault",
        "likeness", "likeness_needed", "likeness_of_runner_up",
    ]  # fmt: skip


def test_a_verification_repeats_what_encoder_and_calibration_say(recognizer, make_bundle, people):
    bundle = Bundle.open(make_bundle())
    encoder = Encoder.open(bundle, "int8")
    recognizer.enrol("ada", *people["ada"][:2])
    probe = encoder.embed_image(people["ada"][2])
    templates = np.stack([encoder.embed_image(image) for image in people["ada"][:2]])
    decision = recognizer.verify("ada", people["ada"][2])
    assert decision.score == pytest.approx(scores(probe, templates, "cosine").max(), abs=1e-6)
    # two templates: the calibration for three
    calibration = calibration_for(bundle.manifest, "int8", 3)
    assert decision.threshold == threshold_for(calibration, "cosine", 0.01).value
    assert (decision.variant, decision.runtime, decision.target_far) == ("int8", "litert", 0.01)
    assert decision.fingerprint == bundle.manifest.variants[0].fingerprint


def test_in_1_to_n_the_calibration_is_that_of_whoever_has_the_most_templates(open_recognizer, make_bundle, people):
    manifest = Bundle.open(make_bundle()).manifest
    with open_recognizer(target_far=0.1) as recognizer:
        recognizer.enrol("ada", people["ada"][0])
        assert recognizer.identify(people["ada"][1]).threshold == _threshold(manifest, 1, people=1)
        recognizer.enrol("grace", *people["grace"][:4])
        assert recognizer.identify(people["ada"][1]).threshold == _threshold(manifest, 5, people=2)
        assert recognizer.verify("ada", people["ada"][1]).threshold == _threshold(manifest, 1, people=1)


def test_with_the_mean_of_templates_the_calibration_is_that_of_whoever_has_the_fewest(
    open_recognizer, make_bundle, people
):
    manifest = Bundle.open(make_bundle(rule="mean")).manifest
    with open_recognizer(target_far=0.1, rule="mean") as recognizer:
        recognizer.enrol("grace", *people["grace"][:4])
        assert recognizer.identify(people["ada"][1]).threshold == _threshold(manifest, 3, people=1)
        recognizer.enrol("ada", people["ada"][0])
        assert recognizer.identify(people["ada"][1]).threshold == _threshold(manifest, 1, people=2)


def _threshold(manifest: Any, templates: int, people: int) -> float:
    return threshold_for(calibration_for(manifest, "int8", templates), "cosine", 0.1, people).value


def test_more_people_raise_the_threshold_until_it_is_provisional(open_recognizer: Any, people: People) -> None:
    with open_recognizer(target_far=0.02) as recognizer:
        found = []
        for name in ("ada", "alan", "grace"):
            recognizer.enrol(name, people[name][0])
            decision = recognizer.identify(people["ada"][1])
            found.append((decision.threshold, decision.provisional))
        assert [provisional for _, provisional in found] == [False, False, True]
        assert found == sorted(found)
        assert found[0][0] < found[1][0]


def test_two_people_with_the_same_image_are_ambiguous(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    recognizer.enrol("twin", people["ada"][0], even_if_alike=True)
    decision = recognizer.identify(people["ada"][0])
    assert (decision.person, decision.accepted, decision.reason) == (None, False, "ambiguous")
    assert decision.runner_up is not None
    assert decision.runner_up.score == decision.score
    assert recognizer.verify("twin", people["ada"][0]).person == "twin"


def test_an_empty_gallery_answers_unknown(recognizer: Recognizer, people: People) -> None:
    decision = recognizer.identify(people["ada"][0])
    assert (decision.person, decision.accepted, decision.score, decision.reason) == (None, False, None, "empty_gallery")
    assert recognizer.people() == []


def test_an_uncalibrated_bundle_enrols_but_refuses_to_decide(open_recognizer: Any, people: People) -> None:
    with open_recognizer(calibrated=False) as recognizer:
        recognizer.enrol("ada", *people["ada"][:5])
        for refused_call in (
            lambda: recognizer.verify("ada", people["ada"][1]),
            lambda: recognizer.identify(people["ada"][1]),
        ):
            with raises(InputError, reason="uncalibrated"):
                refused_call()


def test_nobody_gets_more_templates_than_the_bundle_is_calibrated_for(open_recognizer: Any, people: People) -> None:
    with open_recognizer(counts=(1, 3)) as recognizer:
        recognizer.enrol("ada", *people["ada"][:3])
        for refused_call in (
            lambda: recognizer.enrol("ada", people["ada"][3], add=True),
            lambda: recognizer.enrol("grace", *people["grace"][:4]),
        ):
            with raises(InputError, match="at most 3", reason="too_many_templates"):
                refused_call()
        assert recognizer.identify(people["ada"][4]).person == "ada"


def test_templates_are_added_replaced_and_forgotten(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    assert recognizer.enrol("ada", people["ada"][1], people["ada"][2], add=True).templates == 3
    replaced = recognizer.enrol("ada", people["grace"][0], replace=True)
    assert (replaced.templates, replaced.reason) == (1, "replaced")
    assert not recognizer.verify("ada", people["ada"][0]).accepted
    assert recognizer.verify("ada", people["grace"][1]).accepted
    assert recognizer.forget("ada").reason == "forgotten"
    with raises(InputError, reason="not_enrolled"):
        recognizer.verify("ada", people["ada"][0])


def test_one_bad_image_among_several_enrols_nothing_and_is_named(recognizer, people, tmp_path):
    good, blank, text = tmp_path / "good.png", tmp_path / "blank.png", tmp_path / "text.png"
    good.write_bytes(people["ada"][0])
    blank.write_bytes(png(np.full((32, 32), 200, np.uint8)))
    text.write_text("no image")
    for bad, reason in ((blank, "no_content"), (text, "not_an_image"), (tmp_path / "absent.png", "not_found")):
        with raises(InputError, match=bad.name, reason=reason) as refused:
            recognizer.enrol("ada", good, bad)
        assert str(refused.value).count(bad.name) == 1
    assert recognizer.people() == []


def test_wrong_use_is_refused_before_any_image_is_read(recognizer: Recognizer) -> None:
    absent = "absent.png"
    for refused_call, reason in (
        (lambda: recognizer.enrol("ada"), "wrong_use"),
        (lambda: recognizer.enrol("ada", absent, add=True, replace=True), "wrong_use"),
        (lambda: recognizer.enrol("\n", absent), "bad_name"),
        (lambda: recognizer.enrol("ada", *[absent] * 6), "too_many_templates"),
        (lambda: recognizer.verify("ada", absent), "not_enrolled"),
        (lambda: recognizer.verify(" ", absent), "bad_name"),
        (lambda: recognizer.forget("ada"), "not_enrolled"),
    ):
        with raises(InputError, reason=reason):
            refused_call()


def test_two_recognizers_on_one_state_see_each_others_people(open_recognizer, people, tmp_path):
    with open_recognizer() as door, Recognizer.open(tmp_path / "state") as desk:
        assert door.identify(people["ada"][1]).reason == "empty_gallery"
        desk.enrol("ada", people["ada"][0])
        assert door.identify(people["ada"][1]).person == "ada"
        desk.forget("ada")
        assert door.identify(people["ada"][1]).reason == "empty_gallery"


def test_templates_of_another_encoder_are_refused_not_matched(open_recognizer, people, tmp_path):
    with open_recognizer() as recognizer:
        recognizer.enrol("ada", people["ada"][0])
        with Gallery.open(tmp_path / "state" / "gallery.db", "0" * 64, 16) as foreign:
            with foreign.writing() as transaction:
                use_encoder(transaction)
            foreign.enrol("ada", np.ones((1, 16), np.float32))
        with raises(IntegrityError, reason="gallery_of_other_fingerprint"):
            recognizer.identify(people["ada"][0])


def test_a_model_that_answers_nan_enrols_nobody(recognizer, people, monkeypatch):
    recognizer.enrol("ada", people["ada"][0])
    monkeypatch.setattr(Encoder, "embed_image", lambda *_: np.full(16, np.nan, np.float32))
    for refused_call in (
        lambda: recognizer.enrol("grace", b""),
        lambda: recognizer.identify(b""),
        lambda: recognizer.verify("ada", b""),
    ):
        with raises(MachineError, reason="not_finite"):
            refused_call()
    assert [person.person for person in recognizer.people()] == ["ada"]


def test_a_recognizer_is_made_of_an_encoder_a_manifest_and_a_gallery(make_bundle, people, tmp_path):
    bundle = Bundle.open(make_bundle())
    encoder = Encoder.open(bundle, "float32")
    gallery = Gallery.open(tmp_path / "g.db", encoder.fingerprint, encoder.embedding.size, create=True)
    with Recognizer(encoder, bundle.manifest, gallery, target_far=0.2) as recognizer:
        recognizer.enrol("ada", people["ada"][0])
        decision = recognizer.identify(people["ada"][0])
    assert msgspec.structs.asdict(decision)["person"] == "ada"
    assert (decision.variant, decision.target_far) == ("float32", 0.2)
