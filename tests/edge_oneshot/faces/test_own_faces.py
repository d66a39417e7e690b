"""Encoders of one's own faces: from a folder of photos to a bundle, and model files that somebody else made."""

import hashlib
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from edge_oneshot import cli
from edge_oneshot.bundle_options import EncoderFileOptions
from edge_oneshot.bundle_recalibration import recalibrate_bundle
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.faces.inputs import face_input, placed_faces
from edge_oneshot.faces.packages import ASTRONAUT, read_package_file
from edge_oneshot.faces.tuning import build_tunable
from edge_oneshot.file_export import export_files
from edge_oneshot.run_export import export_run
from edge_oneshot.training.options import TrainOptions
from edge_oneshot.training.train import resume, train
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_export.options import ExportOptions
from tests.raising import raises
from tests.samples.folders import unpack_olivetti

PEOPLE = ("person03", "person04", "person06", "person07", "person08", "person09", "person10")
EYES = (0.4, 0.4, 0.6, 0.4)


@pytest.fixture(scope="module")
def people(tmp_path_factory, faces_extra):  # noqa: ARG001 (skips)
    """Three photos each of seven people, one of them of no face, and of one more person no face at all."""
    folder = tmp_path_factory.mktemp("people")
    unpack_olivetti(folder, (3, 4, 6, 7, 8, 9, 10), takes=3)
    (folder / "nobody").mkdir()
    for path in (folder / "person03" / "3.png", folder / "nobody" / "1.png"):
        Image.new("RGB", (64, 64), "grey").save(path)
    shutil.copy(folder / "person04" / "1.png", folder / "nobody" / "2.png")
    return folder


@pytest.fixture(scope="module")
def tuned(people, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "tuned"
    return train(str(people), path, TrainOptions(start="faces", images=48, batch=16, held_out=4))


@pytest.fixture(scope="module")
def bundle(tuned, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "tuned.oneshot"
    export_run(tuned, path, ExportOptions(variants=("dynamic",)))
    return path


def test_photos_without_a_face_are_named_and_so_are_people_with_too_few(people, tmp_path):
    left = []
    options = TrainOptions(faces=True, size=32, images=32, batch=16)
    run = train(str(people), tmp_path / "run", options, skipped=lambda name, reason: left.append((name, reason)))
    assert left == [("nobody/1.png", "no_face"), ("person03/3.png", "no_face"), ("nobody", "too_few_photos")]
    assert sorted((*run.record.trained_on, *run.record.held_out)) == list(PEOPLE)
    assert run.record.input.shape == (32, 32, 3)
    assert run.record.input.face == placed_faces(32, 32)


def test_fine_tuning_moves_the_last_block_alone(tuned):
    before, after = build_tunable(), tuned.encoder()
    moved = [
        layer.name
        for layer, other in zip(before.layers, after.layers, strict=True)
        if any(not np.array_equal(a, b) for a, b in zip(layer.get_weights(), other.get_weights(), strict=True))
    ]
    assert moved == ["depthwise13", "depthwise13_prelu", "conv13", "conv13_prelu", "embedding"]
    assert (tuned.record.settings.net, tuned.record.settings.learning_rate) == ("sface", 1e-4)
    assert resume(tuned.path).record == tuned.record


def test_the_bundle_names_whom_it_was_trained_on_and_calibration_leaves_them_out(tuned, bundle, people, tmp_path):
    provenance = Bundle.open(bundle).manifest.provenance
    assert provenance.data == "a folder, from SFace"
    assert provenance.trained_on == tuple(
        f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in tuned.record.trained_on
    )
    assert [part.licence for part in provenance.licences] == [*("Apache-2.0", "MIT", "Apache-2.0", "public domain")]
    report, seen = recalibrate_bundle(bundle, tmp_path / "ours.oneshot", str(people))
    assert seen == tuned.record.trained_on
    assert report.manifest.calibration[0].people == 4


def test_nobodys_photo_is_in_the_bundle(bundle):
    opened = Bundle.open(bundle)
    chip = Encoder.open(opened).faces.load(read_package_file(ASTRONAUT)).astype(int)
    images = opened.manifest.self_test.images
    for path, expected in zip(images, (chip, chip[:, ::-1] // 2), strict=True):
        with Image.open(io.BytesIO(opened.members[path])) as image:
            shown = np.asarray(image.resize((112, 112), Image.Resampling.BOX))
        assert np.abs(shown - expected).mean() < 2  # levels; the members are enlarged


def test_a_model_file_of_faces_is_given_what_the_bundle_gives_it(bundle, people, tmp_path):
    opened = Bundle.open(bundle)
    (tmp_path / "mine.tflite").write_bytes(opened.members["models/dynamic.tflite"])
    mean, scale = opened.manifest.input.mean, opened.manifest.input.scale
    own = EncoderFileOptions(mean=mean, scale=scale, faces=True)
    report = export_files([tmp_path / "mine.tflite"], tmp_path / "mine.oneshot", str(people), own=own)
    assert report.manifest.input.face == opened.manifest.input.face
    assert report.manifest.calibration[0].failures_by_reason == {"no_face": 2}
    photo = people / "person10" / "1.png"
    one, other = (Encoder.open(part).embed_image(photo) for part in (opened, Bundle.open(report.path)))
    assert np.array_equal(one, other)


def test_the_eyes_are_laid_where_the_encoder_has_them():
    places = [(place.x, place.y) for place in placed_faces(112, 112, EYES).template]
    assert places[0] == pytest.approx(EYES[:2])
    assert places[1] == pytest.approx(EYES[2:])
    assert places[2] == pytest.approx((0.5, 0.53), abs=0.02)  # the tip of the nose
    assert placed_faces(112, 112).template == placed_faces(56, 56).template


def test_covered_faces_are_looked_for_where_the_chip_is_sfaces():
    assert placed_faces(112, 112) == face_input().face
    assert placed_faces(56, 56).limits.min_detail is None
    assert placed_faces(112, 112, EYES).limits.min_detail is None


def test_an_encoder_of_faces_takes_colours(tmp_path, people, grey_model):
    with raises(DataError, match="takes grey images", reason="bad_input"):
        export_files([grey_model], tmp_path / "x.oneshot", str(people), own=EncoderFileOptions(faces=True))


@pytest.fixture
def grey_model(tmp_path):
    import keras

    from edge_oneshot_export.formats.tflite import to_tflite
    from edge_oneshot_export.variants import VARIANTS

    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    path = tmp_path / "grey.tflite"
    path.write_bytes(to_tflite(model, VARIANTS["float32"], np.zeros((1, 16, 16, 1), np.float32)))
    return path


@pytest.mark.parametrize(
    "setting", [{"size": 64}, {"net": "tiny"}, {"embedding": 64}, {"precision": "bfloat16"}, {"views": 2}]
)
def test_the_face_encoder_has_its_own_net(tmp_path, people, setting):
    with raises(TrainingError, match="leave out size, embedding, net, precision and views", reason="wrong_use"):
        train(str(people), tmp_path / "run", TrainOptions(start="faces", images=16, **setting))


def test_a_face_is_not_framed_by_ink(tmp_path, people):
    with pytest.raises(TrainingError, match="a face is framed by its points"):
        train(str(people), tmp_path / "run", TrainOptions(faces=True, framing="ink", images=16))


def test_drawings_have_no_faces(tmp_path, people):  # noqa: ARG001 (skips)
    with pytest.raises(DataError, match="drawings; name a folder of photos of people"):
        train("glyphs", tmp_path / "run", TrainOptions(faces=True, images=16))


def test_people_without_usable_photos_are_refused(tmp_path, people):
    for person in ("ada", "bob"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        shutil.copy(people / "nobody" / "1.png", tmp_path / "photos" / person / "1.png")
    with pytest.raises(DataError, match="no person has two photos with a face to use; add photos"):
        train(str(tmp_path / "photos"), tmp_path / "run", TrainOptions(faces=True, images=16))


@pytest.mark.parametrize("eyes", ["0.3,0.4", "0.3,0.4,1.2,0.4", "0.3,0.4,0.3,0.4"])
def test_eyes_are_two_places_in_the_picture(eyes, tmp_path, capsys):
    command = ["export", "--model", "x.tflite", "--data", "x", "--out", str(tmp_path / "x.oneshot"), "--faces", eyes]
    assert cli.main(command) == 2
    assert "must be x and y of both eyes" in capsys.readouterr().err
