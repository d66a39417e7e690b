"""A bundle of recordings in the program and the library: from the recording to the decision."""

import json

import numpy as np
import pytest

from edge_oneshot_device import Bundle, Encoder, Recognizer, cli
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.diagnostics.doctor import examine
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.measuring.bench import bench
from edge_oneshot_device.measuring.options import BenchOptions
from tests.raising import raises
from tests.samples.pictures import png
from tests.samples.recordings import spoken, tiny_speech_section

SEEDS = {"ada": 24, "grace": 25, "stranger": 112}
"""Of words that the tiny net tells apart."""


@pytest.fixture
def section() -> InputSection:
    return tiny_speech_section()


@pytest.fixture
def words(tmp_path):
    for name, seed in SEEDS.items():
        for speaking in range(3):
            (tmp_path / f"{name}-{speaking}.wav").write_bytes(spoken(seed, speaking))
    return tmp_path


@pytest.fixture
def run(words, make_bundle, monkeypatch, capsys):
    """The program, with the tiny bundle of speech in use."""
    monkeypatch.chdir(words)
    monkeypatch.setenv("EDGE_ONESHOT_STATE", str(words / "state"))
    monkeypatch.setenv("EDGE_ONESHOT_KEY", str(words / "key"))

    def call(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert cli.main(arguments) == code
        return "".join(capsys.readouterr())

    make_bundle()
    call("init", "tiny.oneshot", "--target-far", "0.05")
    return call


def test_words_are_enrolled_and_recognized(run):
    run("enrol", "ada", "ada-0.wav", "ada-1.wav")
    run("enrol", "grace", "grace-0.wav")
    assert run("identify", "grace-2.wav") == "accepted  grace\n"
    assert run("verify", "ada", "ada-2.wav") == "accepted  ada\n"
    assert run("verify", "ada", "grace-2.wav", code=1).startswith("rejected")
    assert run("identify", "stranger-0.wav", code=1).startswith("unknown")


def test_microphone_takes_the_place_of_a_file(run):
    run("enrol", "ada", "--microphone", "ada-0.wav")
    assert run("identify", "--microphone", "ada-1.wav") == "accepted  ada\n"
    assert run("verify", "ada", "--microphone", "grace-1.wav", code=1).startswith("rejected")


@pytest.mark.parametrize(
    "arguments", [("identify",), ("enrol", "ada"), ("identify", "ada-0.wav", "--microphone", "ada-1.wav")]
)
def test_a_file_or_the_microphone_is_named(run, arguments):
    assert "give either a file, or --microphone" in run(*arguments, code=2)


def test_folder_of_recordings_is_enrolled(run, words):
    staff = words / "staff"
    (staff / "grace").mkdir(parents=True)
    (staff / "ada.wav").write_bytes(spoken(SEEDS["ada"]))
    (staff / "grace" / "1.wav").write_bytes(spoken(SEEDS["grace"]))
    (staff / "grace" / "2.mp3").write_bytes(b"ID3")
    (staff / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    told = json.loads(run("enrol", "--folder", str(staff), "--json", code=1))
    assert [one["person"] for one in told["enrolled"]] == ["ada"]
    assert [(one["person"], one["reason"]) for one in told["refused"]] == [("grace", "not_a_recording")]
    assert [(one["name"], one["reason"]) for one in told["passed_over"]] == [("photo.jpg", "no_recording")]


def test_folder_of_images_is_no_folder_of_recordings(run, words):
    (words / "staff").mkdir()
    (words / "staff" / "ada.jpg").write_bytes(b"")
    assert "has no recording" in run("enrol", "--folder", "staff", code=2)


def test_inspect_says_what_the_bundle_takes(run):
    told = run("inspect", "tiny.oneshot")
    assert "recordings of 1.2 s to 16 values" in told
    assert "8 mel bands of 60 to 7600 Hz by 8 frames of 32 ms, one each 160 ms" in told
    assert "recordings of 1.2 s" in run("inspect", "tiny.oneshot", "--all")


def test_photos_that_are_kept_are_the_recordings(run):
    run("init", "tiny.oneshot", "--keep-photos", "--target-far", "0.05")
    run("enrol", "ada", "ada-0.wav")
    run("init", "tiny.oneshot", "--variant", "float32", "--re-enrol", "--target-far", "0.05")
    assert run("identify", "ada-1.wav") == "accepted  ada\n"


@pytest.mark.usefixtures("run")
def test_doctor_says_what_reads_recordings():
    found = [one for one in examine().findings if one.what == "audio"]
    assert [one.text.split()[0].rstrip(",") for one in found] == ["soundfile", "soxr", "sounddevice"]


def test_stages_of_a_recording_are_timed(make_bundle, words, tmp_path):
    bundle = Bundle.open(make_bundle())
    result = bench(bundle, BenchOptions(runs=3, image=words / "ada-0.wav"), folder=tmp_path)
    assert result.image == f"a recording of 1.0 s, {len(spoken(24)):,} bytes"
    assert len(result.stages) == 6
    assert not bench(bundle, BenchOptions(runs=3), folder=tmp_path).stages


def test_pixels_are_no_recording(make_bundle):
    encoder = Encoder.open(Bundle.open(make_bundle()))
    pixels = np.zeros((8, 8), np.uint8)
    with raises(InputError, reason="wrong_type", match="takes recordings"):
        encoder.embed_image(pixels)
    with raises(InputError, reason="not_a_recording"):
        encoder.embed_image(png(pixels))


@pytest.mark.usefixtures("run")
def test_recognizer_says_recording():
    with Recognizer.open() as recognizer, raises(InputError, reason="too_many_templates", match="recordings"):
        recognizer.enrol("ada", *[spoken(24)] * 20)
