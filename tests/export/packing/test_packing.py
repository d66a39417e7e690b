import io
import os
import pickle
import re
import signal
import subprocess
import sys
import zipfile

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.packing.bundle_file import write_bundle
from edge_oneshot_export.packing.provenance import created, with_versions
from edge_oneshot_export.packing.self_test import golden_images, self_test
from edge_oneshot_export.packing.signing import sign
from tests.raising import raises

KILLED_WHILE_WRITING = """
import os, pickle, signal, sys
from edge_oneshot_export.packing.bundle_file import write_bundle

manifest, files = pickle.load(sys.stdin.buffer)
os.fsync = lambda _descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_bundle(sys.argv[1], manifest, files)
"""


@pytest.fixture(scope="module")
def parts(exported):
    """Manifest and files of a bundle with the int8 variant alone."""
    bundle = Bundle.open(exported.path)
    manifest = bundle.manifest
    (variant,) = (variant for variant in manifest.variants if variant.name == "int8")
    of = manifest.self_test
    one = {"outputs": {"int8": of.outputs["int8"]}, "tolerance": {"int8": of.tolerance["int8"]}}
    test = msgspec.structs.replace(of, **one)
    calibration = tuple(entry for entry in manifest.calibration if entry.variant == "int8")
    manifest = msgspec.structs.replace(manifest, variants=(variant,), calibration=calibration, self_test=test)
    return manifest, {path: bundle.read(path) for path in (variant.file, *test.images)}


def test_a_bundle_is_a_plain_zip_with_the_manifest_first_and_nothing_compressed_or_dated(parts, destination):
    write_bundle(destination, *parts)
    with zipfile.ZipFile(destination) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    assert [entry.filename for entry in entries] == ["manifest.json", *sorted(parts[1])]
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_the_same_content_makes_the_same_bytes_whatever_order_the_files_come_in(parts, tmp_path):
    manifest, files = parts
    first = write_bundle(tmp_path / "a.oneshot", manifest, files)
    second = write_bundle(tmp_path / "b.oneshot", manifest, dict(reversed(files.items())))
    assert (tmp_path / "a.oneshot").read_bytes() == (tmp_path / "b.oneshot").read_bytes() == first.content
    assert first.sha256 == second.sha256


def test_a_signed_bundle_is_the_unsigned_one_and_a_signature_the_same_every_time(parts, tmp_path):
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signed, again = (write_bundle(tmp_path / f"{name}.oneshot", *parts, key=key) for name in "ab")
    unsigned = write_bundle(tmp_path / "c.oneshot", *parts)
    assert signed.content == again.content
    assert (signed.manifest, signed.members) == (unsigned.manifest, unsigned.members)
    assert signed.signed_by == key.public_key().public_bytes_raw().hex()
    with zipfile.ZipFile(tmp_path / "a.oneshot") as archive:
        assert archive.namelist() == ["manifest.json", "manifest.sig", *sorted(parts[1])]
        assert archive.read("manifest.sig") == sign(archive.read("manifest.json"), key)


def test_members_are_counted_from_the_files_whatever_the_manifest_said(parts, destination):
    manifest, files = parts
    write_bundle(destination, msgspec.structs.replace(manifest, members=()), files)
    members = Bundle.open(destination).manifest.members
    assert {member.path: member.bytes for member in members} == {path: len(files[path]) for path in files}


def test_a_manifest_that_contradicts_its_files_leaves_nothing_at_the_path(parts, destination):
    manifest, files = parts
    without_model = {path: content for path, content in files.items() if path != manifest.variants[0].file}
    with pytest.raises(IntegrityError, match="is not a member"):
        write_bundle(destination, manifest, without_model)
    assert list(destination.parent.iterdir()) == []


def test_a_bundle_whose_self_test_fails_is_not_written_over_the_old_one(parts, destination):
    manifest, files = parts
    destination.write_bytes(b"the old bundle")
    ((first, *others),) = manifest.self_test.outputs.values()
    wrong = {"int8": (tuple(-value for value in first), *others)}
    test = msgspec.structs.replace(manifest.self_test, outputs=wrong)
    with raises(IntegrityError, reason="self_test_failed"):
        write_bundle(destination, msgspec.structs.replace(manifest, self_test=test), files)
    assert destination.read_bytes() == b"the old bundle"


def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(parts, destination, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    destination.write_bytes(b"the old bundle")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left on device"):
        write_bundle(destination, *parts)
    assert destination.read_bytes() == b"the old bundle"
    assert list(destination.parent.iterdir()) == [destination]


def test_a_kill_while_writing_leaves_the_old_bundle(parts, destination):
    destination.write_bytes(b"the old bundle")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(destination)]
    done = subprocess.run(command, input=pickle.dumps(parts), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert destination.read_bytes() == b"the old bundle"
    write_bundle(destination, *parts)
    assert Bundle.open(destination).manifest.name == "front-door"


def test_golden_images_are_three_pngs_at_twice_the_size_that_the_device_brings_back(people, section):
    goldens = golden_images(people.images, section)
    assert list(goldens) == ["golden/0.png", "golden/1.png", "golden/2.png"]
    for content, pixels in zip(goldens.values(), people.images[[0, 71, 143]], strict=True):
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "L")
        loaded = load_image(content, section).astype(int)
        assert loaded.shape == section.shape
        assert 0 < np.abs(loaded - pixels).mean() < 10  # the bilinear filter smooths a little: resizing did happen


def test_golden_images_of_a_colour_model_are_in_colour(make_people, colour_section):
    content = golden_images(make_people(2, 2, seed=5, channels=3).images, colour_section)["golden/0.png"]
    with Image.open(io.BytesIO(content)) as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")


def test_blank_images_are_not_chosen_as_golden_ones(people, section):
    images = people.images.copy()
    images[[0, 71, 143]] = 200
    goldens = golden_images(images, section)
    assert len(goldens) == 3
    for content in goldens.values():
        assert np.ptp(load_image(content, section)) > 100
    assert len(golden_images(images[:2], section)) == 1
    with raises(ModelError, reason="no_content"):
        golden_images(images[:1], section)


@pytest.fixture(scope="module")
def goldens(exported):
    bundle = Bundle.open(exported.path)
    return {path: bundle.read(path) for path in bundle.manifest.self_test.images}


@pytest.fixture(scope="module")
def encoders(exported):
    bundle = Bundle.open(exported.path)
    return {name: Encoder.open(bundle, name) for name in ("int8", "float32", "onnx-int8")}


def test_expected_outputs_are_exact_and_the_float_tolerance_follows_their_size(goldens, encoders):
    test = self_test(goldens, [(encoder, None) for encoder in encoders.values()])
    answers = {n: [e.raw(load_image(c, e.input)) for c in goldens.values()] for n, e in encoders.items()}
    for name, vectors in answers.items():
        np.testing.assert_array_equal(np.array(test.outputs[name]).astype(vectors[0].dtype), np.array(vectors))
    assert test.tolerance["onnx-int8"] == pytest.approx(0.03 * np.abs(answers["onnx-int8"]).max(), rel=1e-2)
    floats = self_test(goldens, [(encoders["float32"], None), (encoders["int8"], None)])
    assert floats.tolerance["float32"] == pytest.approx(1e-4 * np.abs(answers["float32"]).max(), rel=1e-2)
    assert floats.tolerance["int8"] == 2


@pytest.mark.parametrize(("difference", "tolerance"), [(0, 2), (1, 2), (4, 5), (15, 16), (40, 16)])
def test_the_tolerance_is_one_step_more_than_other_kernels_differ_by(difference, tolerance, goldens, encoders):
    class Shifted:
        def __init__(self, encoder):
            self.input, self.encoder = encoder.input, encoder

        def raw(self, pixels):
            answer = self.encoder.raw(pixels).astype(int)
            answer[3] += difference if answer[3] < 0 else -difference
            return answer.astype(np.int8)

    test = self_test(goldens, [(encoders["int8"], Shifted(encoders["int8"]))])
    assert test.tolerance == {"int8": tolerance}


def test_a_bundle_passes_its_self_test_on_the_kernels_of_tflite_runtime(exported):
    from edge_oneshot_device.encoder import load_encoder
    from edge_oneshot_device.encoder import self_test as check
    from edge_oneshot_device.encoding.runtimes import open_model
    from edge_oneshot_export.formats.tflite import PlainModel

    bundle = Bundle.open(exported.path)
    content = bundle.read("models/int8.tflite")
    usual = load_encoder(bundle, "int8")
    model = PlainModel(content, open_model("tflite", content))
    plain = Encoder(model, usual.input, usual.embedding, variant="int8", fingerprint=usual.fingerprint)
    check(plain, bundle)
    pixels = load_image(bundle.read("golden/0.png"), usual.input)
    assert (plain.raw(pixels) != usual.raw(pixels)).any()


def test_source_date_epoch_sets_the_date(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert created() == "2023-11-14T22:13:20Z"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", created())


@pytest.mark.parametrize("stated", ["yesterday", "", "-1", "1e99", "999999999999999999999"])
def test_a_source_date_epoch_that_is_no_date_is_refused(stated, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", stated)
    with pytest.raises(ModelError, match="SOURCE_DATE_EPOCH") as caught:
        created()
    assert (caught.value.reason, caught.value.exit_code) == ("bad_epoch", 2)


def test_provenance_keeps_what_was_said_and_adds_versions_and_commit(exported):
    said = msgspec.structs.replace(
        exported.manifest.provenance, data="glyphs", seed=7, versions={"keras": "of the training"}, commit="abc"
    )
    provenance = with_versions(said)
    assert (provenance.data, provenance.seed, provenance.commit) == ("glyphs", 7, "abc")
    assert provenance.versions["keras"] == "of the training"
    assert {"python", "edge-oneshot", "numpy", "onnxruntime", "tf2onnx", "ai-edge-litert"} <= set(provenance.versions)


def test_the_commit_is_left_out_when_there_is_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert with_versions(None).commit is None


def test_provenance_that_is_no_utf_8_is_spelt_out_before_the_work_begins():
    told = with_versions(None)
    odd = msgspec.structs.replace(told, data="caf\udce9", held_out=("caf\udce9", "José"), versions={"caf\udce9": "1"})
    found = with_versions(odd)
    assert (found.data, found.held_out, found.versions["caf\\udce9"]) == ("caf\\udce9", ("caf\\udce9", "José"), "1")
    msgspec.json.encode(found)
    assert with_versions(found) == found
