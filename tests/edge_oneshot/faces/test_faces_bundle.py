"""The face bundle as a user has it: exported, installed, calibrated with people of one's own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from edge_oneshot import cli
from edge_oneshot.bundle_evaluation import evaluate
from edge_oneshot.bundle_options import EvaluateOptions
from edge_oneshot.bundle_recalibration import recalibrate_bundle
from edge_oneshot.demo.door_scenes import Portrait, Visit, plain_room, play, write_video
from edge_oneshot.errors import DataError
from edge_oneshot.faces.face_export import export_faces
from edge_oneshot.faces.packages import ASTRONAUT, read_package_file
from edge_oneshot.presentation.results import evaluation_text
from edge_oneshot_device import Bundle, Encoder, Recognizer
from edge_oneshot_device import cli as device
from edge_oneshot_device.door.approach import Approaches
from edge_oneshot_device.door.camera import Camera
from edge_oneshot_device.door.configuration import ApproachSection, CameraSection
from edge_oneshot_export.judging.folds import FoldsResult
from edge_oneshot_export.options import ExportOptions
from tests.raising import raises
from tests.samples.folders import unpack_olivetti


@pytest.fixture
def call(capsys):
    """Runs either program with --json; returns what it printed, as data."""

    def run(main, *arguments, code=0):
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == code
        shown = capsys.readouterr()
        return json.loads(shown.out if code in (0, 1) else shown.err)

    return run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, faces_extra):  # noqa: ARG001 (skips)
    path = tmp_path_factory.mktemp("faces") / "faces.oneshot"
    command = [Path(sys.executable).parent / "edge-oneshot", "export", "--pretrained", "faces"]
    done = subprocess.run([*command, "--out", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Four photos each of eight people, one of them of no face."""
    folder = tmp_path_factory.mktemp("people")
    unpack_olivetti(folder, range(3, 11), takes=4)
    Image.new("RGB", (64, 64), "grey").save(folder / "person03" / "4.png")
    return folder


@pytest.fixture
def state(bundle, tmp_path, call):
    folder = tmp_path / "state"
    call(device.main, "init", bundle, "--state", folder)
    return folder


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(read_package_file(ASTRONAUT))
    return path


def test_it_holds_all_nets_and_the_licence_of_each(bundle):
    manifest = Bundle.open(bundle).manifest
    assert [member.path for member in manifest.members] == [
        *("faces/finder.tflite", "faces/mesh.tflite"),
        *("golden/0.png", "golden/1.png"),
        *("models/dynamic.tflite", "models/float32.tflite"),
    ]
    assert [variant.name for variant in manifest.variants] == ["dynamic", "float32"]
    assert manifest.embedding.metric == "cosine"
    assert [part.licence for part in manifest.provenance.licences][:3] == ["Apache-2.0", "MIT", "Apache-2.0"]


def test_quantization_costs_little(bundle):
    dynamic, exact = (variant.drift for variant in Bundle.open(bundle).manifest.variants)
    assert dynamic.people == 101
    assert dynamic.cosine_min > 0.99
    assert exact.cosine_min > 0.999999


def test_one_photo_enrols_and_another_of_the_same_person_verifies(state, photo, tmp_path, call):
    call(device.main, "enrol", "ada", photo, "--state", state)
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(10).save(tmp_path / "other.jpg")
    decision = call(device.main, "verify", "ada", tmp_path / "other.jpg", "--state", state)
    assert decision["accepted"] is True
    assert decision["provisional"] is True


def test_inspect_says_that_the_thresholds_are_provisional(bundle, call, capsys):
    shown = call(cli.main, "inspect", bundle)
    assert all(line["provisional"] for line in shown["calibration"])
    assert cli.main(["inspect", str(bundle), "--all"]) == 0
    text = capsys.readouterr().out
    assert "found by yunet, facemesh" in text
    assert "calibrate with people of your own" in text


def test_a_photo_without_a_face_is_refused_with_its_reason(state, tmp_path, call):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)).save(tmp_path / "x.png")
    error = call(device.main, "enrol", "ada", tmp_path / "x.png", "--state", state, code=2)
    assert error["reason"] == "no_face"


def test_calibrated_with_eight_people_it_is_stricter_and_stays_provisional(bundle, people, tmp_path):
    report, _ = recalibrate_bundle(bundle, tmp_path / "ours.oneshot", str(people))
    before, after = Bundle.open(bundle).manifest, report.manifest
    old, first = before.calibration[0], after.calibration[0]
    assert (first.people, first.failures_to_acquire, first.provisional) == (8, 1, True)
    assert first.target_far == old.target_far
    assert all(new.threshold >= had.threshold for new, had in zip(first.points, old.points, strict=True))
    assert first.failures_by_reason == {"no_face": 1}
    assert [variant.fingerprint for variant in after.variants] == [variant.fingerprint for variant in before.variants]


def test_it_is_judged_on_photos(bundle, people):
    result = evaluate(bundle, str(people), EvaluateOptions(protocol="verification"))
    assert result.failures_to_acquire == 1
    assert result.failures_by_reason == {"no_face": 1}
    assert result.eer < 0.05


def test_a_blurred_photo_is_refused_at_enrolment_and_at_the_door(state, photo, tmp_path, call):
    with Image.open(photo) as image:
        image.filter(ImageFilter.GaussianBlur(4)).save(tmp_path / "blurred.png")
    error = call(device.main, "enrol", "ada", tmp_path / "blurred.png", "--state", state, code=2)
    assert error["reason"] == "face_blurred"
    assert "hold still" in error["error"]
    call(device.main, "enrol", "ada", photo, "--state", state)
    error = call(device.main, "verify", "ada", tmp_path / "blurred.png", "--state", state, code=2)
    assert error["reason"] == "face_blurred"


@pytest.fixture
def lfw(people, tmp_path):
    """The people in LFW's layout: two folds of eight pairs of a kind, of which one photo shows no face."""
    for person in people.iterdir():
        (tmp_path / "lfw" / person.name).mkdir(parents=True)
        for take in person.iterdir():
            copy = tmp_path / "lfw" / person.name / f"{person.name}_{int(take.stem):04}.png"
            copy.write_bytes(take.read_bytes())
    names = sorted(person.name for person in people.iterdir())
    lines = ["2\t8"]
    for fold in (1, 2):
        lines += [f"{name}\t{fold}\t{fold + 2}" for name in names]
        lines += [
            f"{one}\t{fold}\t{other}\t{fold + 1}" for one, other in zip(names, names[1:] + names[:1], strict=True)
        ]
    (tmp_path / "lfw" / "pairs.txt").write_text("\n".join(lines))
    return tmp_path / "lfw"


def test_it_is_judged_by_lfws_protocol(bundle, lfw):
    program = Path(sys.executable).parent / "edge-oneshot"
    command = [program, "evaluate", bundle, "--data", lfw, "--protocol", "lfw", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["genuine"], found["impostor"], found["people"], len(found["folds"])) == (16, 16, 8, 2)
    assert (found["failures_to_acquire"], found["pairs_lost"]) == (1, 1)  # person03's fourth, in one genuine pair
    assert found["accuracy_acquired"] >= 0.9
    assert found["accuracy"] == pytest.approx(np.mean(found["folds"]))
    assert found["accuracy"] < found["accuracy_acquired"]
    text = evaluation_text(FoldsResult(**found))
    assert "1 photos show no face" in text
    assert "1 others count as errors above" in text


def test_lfws_protocol_without_its_list_or_with_a_figure_is_wrong_use(bundle, people, call, tmp_path):
    with pytest.raises(DataError, match=r"0 files called pairs\.txt, one is needed: LFW's list of pairs"):
        evaluate(bundle, str(people), EvaluateOptions(protocol="lfw"))
    with pytest.raises(DataError, match="glyphs: drawings; the lfw protocol needs the folder of LFW's photos"):
        evaluate(bundle, "glyphs", EvaluateOptions(protocol="lfw"))
    figure = "--figure", tmp_path / "roc.svg"
    error = call(cli.main, "evaluate", bundle, "--data", people, "--protocol", "lfw", *figure, code=2)
    assert error["reason"] == "wrong_use"


def test_drawings_are_no_photos(bundle):
    with raises(DataError, match="glyphs: drawings; name a folder of photos of people", reason="no_faces"):
        evaluate(bundle, "glyphs", EvaluateOptions(protocol="verification"))


def test_a_rate_without_a_provisional_threshold_is_refused_before_any_work(tmp_path):
    with raises(DataError, reason="unsupported_target"):
        export_faces(tmp_path / "faces.oneshot", ExportOptions(variants=("dynamic",), target_far=0.003))
    assert not (tmp_path / "faces.oneshot").exists()


def approached(camera, encoder, least_score):
    """What a video brings that is not nothing."""
    approaches = Approaches(encoder, ApproachSection(patience=1.0), least_score)
    sights = []
    while not camera.ended:
        frame = camera.newest(60.0)
        assert frame is not None
        sights.append(approaches.see(frame))
    return [sight for sight in sights if sight.signal]


def test_who_comes_to_the_door_is_decided_on_once_whichever_way_the_camera_hangs(state, photo, bundle, tmp_path, call):
    call(device.main, "enrol", "ada", photo, "--state", state)
    with Image.open(photo) as image:
        ada = Portrait(np.asarray(image.convert("RGB")), np.array([(204.0, 102.0), (248.0, 106.0)]))
    frames = [frame for _, frame in play([Visit(ada, 0.1, 1.6)], plain_room(700, 525), 3.5)]
    # a camera that hangs on its side and mirrors
    write_video(tmp_path / "hung.avi", (np.ascontiguousarray(np.rot90(frame)[:, ::-1]) for frame in frames), 15.0)
    hung = CameraSection(source=str(tmp_path / "hung.avi"), mirrored=True, rotation=90)
    encoder = Encoder.open(Bundle.open(bundle))
    with Recognizer.open(state) as recognizer:
        least = recognizer.least_score
        with Camera(hung, paced=False) as camera:
            appeared, ready, left = approached(camera, encoder, least)
        assert [one.signal for one in (appeared, ready, left)] == ["appeared", "ready", "left"]
        assert ready.frames == 5
        assert recognizer.identify_probe(ready.probe, ready.frames).person == "ada"
    # not told so, it sees faces on their side, of which none is embedded
    with Camera(CameraSection(source=hung.source), paced=False) as camera:
        assert "ready" not in [one.signal for one in approached(camera, encoder, least)]
