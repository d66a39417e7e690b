"""From recordings to a bundle: a short training on words that are made of tones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot.bundle_evaluation import evaluate
from edge_oneshot.bundle_options import EvaluateOptions
from edge_oneshot.data import catalogue
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.recordings import speech_input
from edge_oneshot.errors import TrainingError
from edge_oneshot.run_export import export_run
from edge_oneshot.training.options import TrainOptions
from edge_oneshot.training.runs import Run
from edge_oneshot.training.train import train
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.audio.spectrogram import speech_pixels
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_export.options import ExportOptions
from tests.raising import raises

SETS, WORDS, VOICES = 6, 8, 6
RATE = 16_000


def say(number: int, voice: int) -> np.ndarray:
    """A word is four tones in a row, a voice raises and lengthens them, and no recording is without noise."""
    rng = np.random.default_rng(number)
    tones = 2.0 ** rng.uniform(8.3, 11.3, 4) * (1.0 + 0.05 * voice)
    tone = np.concatenate([np.sin(2 * np.pi * hertz * np.arange(1600 + 250 * voice) / RATE) for hertz in tones])
    sound = np.pad(0.3 * tone, 4000 + 300 * voice)
    noise = np.random.default_rng((number, voice)).normal(0.0, 0.003, len(sound))
    return (sound + noise).astype(np.float32)


def tones(section: InputSection, _data_dir: Path | None = None, _progress: object = None) -> Dataset:
    count = SETS * WORDS
    sounds = [say(number, voice) for number in range(count) for voice in range(VOICES)]
    return Dataset(
        name="words",
        images=np.stack([speech_pixels(sound, section) for sound in sounds]),
        labels=np.repeat(np.arange(count), VOICES),
        identities=tuple(f"word{number:02}" for number in range(count)),
        groups=np.repeat(np.arange(SETS), WORDS * VOICES),
        group_names=tuple(f"set{number}" for number in range(SETS)),
        drawers=np.tile(np.arange(VOICES), count),
    )


@pytest.fixture(scope="module", autouse=True)
def words():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue.DATASETS, "words", replace(catalogue.DATASETS["words"], load=tones))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    options = TrainOptions(images=3200, batch=32, net="down8 pool 16 pool 16", embedding=16)
    return train("words", tmp_path_factory.mktemp("runs") / "words", options)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "words.oneshot"
    export_run(run, out, ExportOptions(variants=("int8",)))
    return out


def test_a_training_of_recordings_has_the_defaults_of_speech(run):
    settings = run.record.settings
    assert run.record.input == speech_input()
    assert (settings.augment, settings.orientations, settings.views) == ("speech", 1, 1)
    assert settings.learning_rate == 4e-3
    assert run.encoder().input_shape == (None, 40, 64, 1)


def test_unseen_words_by_unseen_voices_are_told_apart_by_the_exported_encoder(bundle):
    (result,) = evaluate(bundle, "words", EvaluateOptions(protocol="within-alphabet", ways=(5,), episodes=400))
    assert result.accuracy > 0.8
    assert result.accuracy > result.pixel_accuracy


def test_the_bundle_takes_a_recording(bundle):
    encoder = Encoder.open(Bundle.open(bundle), "int8")
    sounds = [say(number, voice) for number in (3, 4) for voice in (0, 1)]
    rows = np.stack([encoder.embed_image(to_wav(sound, RATE)) for sound in sounds])
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
    section = encoder.input
    pixels = np.stack([speech_pixels(sound, section) for sound in sounds])
    assert rows == pytest.approx(encoder.embed_many(pixels), abs=0.05)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": 32}, "--size is for images"),
        ({"framing": "ink"}, "--framing is for images"),
        ({"faces": True}, "--faces is for images"),
        ({"start": "faces"}, "--start faces is for photos"),
        ({"augment": "photos"}, "augment photos: does not fit words; name speech or voices"),
        ({"orientations": 4}, "orientations 4: a recording has one"),
        ({"views": 2}, "2 views need orientations of 4 or more"),
    ],
)
def test_options_that_say_how_an_image_is_seen_are_refused(options, told, tmp_path):
    with raises(TrainingError, reason="wrong_use", match=told):
        train("words", tmp_path / "run", TrainOptions(images=64, **options))


def test_images_are_not_varied_as_speech(tmp_path):
    with raises(
        TrainingError, reason="wrong_use", match="augment speech: does not fit glyphs; name drawings or photos"
    ):
        train("glyphs", tmp_path / "run", TrainOptions(images=64, augment="speech"))


def test_a_folder_of_recordings_is_trained_on_as_speech(tmp_path):
    for number in range(6):
        for voice in range(3):
            file = tmp_path / "words" / f"word{number}" / f"{voice}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(to_wav(say(number, voice), RATE))
    options = TrainOptions(images=64, batch=32, net="down8 pool 16 pool 16", embedding=16)
    run = train(str(tmp_path / "words"), tmp_path / "run", options)
    assert run.record.input == speech_input()
    assert run.record.settings.augment == "speech"
    assert len(run.record.trained_on) == 3
