"""The demo of spoken words: few of them, and a training of seconds."""

import base64
import io
import re
import shlex
import shutil
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from edge_oneshot import cli
from edge_oneshot.data import espeak, speech
from edge_oneshot.data.recordings import speech_input
from edge_oneshot.demo import demo as demos
from edge_oneshot.demo import speech as subject
from edge_oneshot.demo.options import DemoOptions
from edge_oneshot.demo.speech import SPEECH, fresh_utterances, spectrogram
from edge_oneshot.presentation.demo_result import demo_text
from edge_oneshot_device import Bundle
from edge_oneshot_device import cli as device
from edge_oneshot_device.audio.sound_file import read_sound

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
RECIPE = msgspec.structs.replace(SPEECH.recipe, images=3200, batch=32, net="down8 pool 16 pool 16", embedding=16)


@pytest.fixture(scope="module", autouse=True)
def little(quick, tmp_path_factory):
    """Four sets of eight words in six voices, kept in a cache of their own."""
    quick.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name, count in {"sets": 4, "words": 8, "voices": 6}.items():
        quick.setitem(speech.load_words.__kwdefaults__, name, count)
    quick.setattr(subject, "FRESH_WORDS", 8)
    quick.setattr(subject, "FRESH_VOICES", 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo's folder and its result."""
    out = tmp_path_factory.mktemp("demo")
    return out, demos.demo(out, DemoOptions(speech=True), recipe=RECIPE)


@pytest.fixture(scope="module")
def page(made):
    return Path(made[1].report).read_text()


@needs_espeak
def test_a_demo_of_speech_leaves_what_it_says_in_a_folder_of_its_own(made):
    out, result = made
    assert [path.name for path in out.iterdir()] == ["speech"]
    names = {path.name for path in (out / "speech").iterdir()}
    assert names == {"run", "demo.oneshot", "recordings", "state", "key", "report.html", demos.MARKER}
    assert Bundle.open(result.bundle).manifest.input == speech_input()
    assert result.accuracy[0].protocol == "within-alphabet"
    assert [one.ways for one in result.accuracy][-1] == 8 * len(result.accuracy[0].alphabets)
    assert result.verification.people == 8
    assert result.verification.images == 32


@needs_espeak
def test_words_are_enrolled_from_one_recording_and_looked_for_in_those_of_other_voices(made, capsys):
    _, result = made
    # what has learned for seconds takes some words for others, and refuses to enrol them
    assert [step.exit_code for step in result.session[:2]] == [0, 0]
    assert all(step.exit_code in (0, 1, 2) for step in result.session)
    last = result.session[-1]
    assert device.main(shlex.split(last.command)[1:]) == last.exit_code
    assert capsys.readouterr().out.strip() == last.output


@needs_espeak
def test_each_step_with_a_recording_lets_it_be_heard_and_shows_its_spectrogram(made, page):
    _, result = made
    given = [
        Path(word).read_bytes()
        for step in result.session
        for word in shlex.split(step.command)
        if word.endswith(SPEECH.suffix)
    ]
    sounds = re.findall(r'<audio controls preload="metadata" src="data:audio/wav;base64,([^"]+)"', page)
    assert [base64.b64decode(sound) for sound in sounds] == given
    assert len(given) == 14
    steps = page[page.index('<ol class="session spoken">') :]
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', steps)
    assert [base64.b64decode(picture) for picture in pictures] == [spectrogram(wav, speech_input()) for wav in given]
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as image:
        assert image.size == (64, 40)


@needs_espeak
def test_nothing_in_the_report_of_speech_speaks_of_drawings(made, page):
    text = re.sub(r"<style>.*?</style>|within-alphabet", "", page, flags=re.DOTALL)
    assert re.findall(r"\b\w*(?:draw[ei]|character|alphabet)\w*", text) == []
    assert "edge-oneshot demo --speech --out" in page
    assert "--data words --protocol within-alphabet" in page
    assert "low bands at the bottom" in page
    assert f"--data {SPEECH.data} --protocol verification" in demo_text(made[1], SPEECH)


@needs_espeak
def test_the_session_s_recordings_are_about_a_second_of_words_that_no_set_has():
    fresh = fresh_utterances(speech_input())
    files = [wav for wavs in fresh.enrolled.values() for wav in wavs]
    assert all(0.4 < len(read_sound(wav, 16_000, "a word")) / 16_000 < 3.0 for wav in files)
    words = {word.name for words, _ in speech.draw_sets(speech.SETS, speech.WORDS, speech.VOICES, 0) for word in words}
    assert words.isdisjoint([*fresh.enrolled, fresh.stranger])
    assert len({*fresh.enrolled, fresh.stranger}) == 6


def test_without_espeak_the_demo_ends_in_one_line_before_any_work(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(espeak, "PROGRAM", "no-such-program")
    assert cli.main(["demo", "--speech", "--out", str(tmp_path / "demo")]) == 2
    said = capfd.readouterr().err
    assert "apt install espeak-ng" in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_two_demos_at_once_are_refused(tmp_path, capfd):
    assert cli.main(["demo", "--speech", "--door", "--out", str(tmp_path / "demo")]) == 2
    assert "--door and --speech are two demos: give one of them" in capfd.readouterr().err
    assert not (tmp_path / "demo").exists()
