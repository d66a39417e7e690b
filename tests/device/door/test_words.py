"""The word of somebody whose face fits: decided and recorded in the gallery of the words."""

import contextlib

import numpy as np
import pytest

from edge_oneshot_device import Recognizer
from edge_oneshot_device.audio.listener import Listener
from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.diagnostics import door_trial
from edge_oneshot_device.door import running
from edge_oneshot_device.door.config_file import parse_config
from edge_oneshot_device.door.hearing import Utterance
from edge_oneshot_device.door.prompter import Prompter
from edge_oneshot_device.door.second_factor import Outcome, WordFactor, prompt_text
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from tests.raising import raises
from tests.samples.recordings import NOISE, RATE, spoken, tiny_speech_section, word
from tests.samples.tiny import bundle_maker, draw_people, tiny_section

ADA, OTHER = 24, 25
"""Words that the tiny net tells apart."""
QUIET = np.random.default_rng(0).normal(0.0, NOISE, RATE).astype(np.float32)


@pytest.fixture
def section() -> InputSection:
    return tiny_speech_section()


@pytest.fixture
def words(make_bundle, tmp_path):
    """The gallery of the words, with that of one person."""
    installer.install(make_bundle(), tmp_path / "words", InstallOptions(target_far=0.05), key=tmp_path / "key")
    with Recognizer.open(tmp_path / "words", key=tmp_path / "key") as recognizer:
        recognizer.enrol("ada", spoken(ADA))
        yield recognizer


def said(seed: int) -> Utterance:
    """A word as the door hears it."""
    (samples,) = Listener(RATE).feed(np.concatenate([QUIET, word(seed, speaking=1), QUIET]))
    return Utterance(samples, 0.0)


def test_the_person_s_own_word_passes_and_another_one_does_not(words):
    assert WordFactor(words, "ada").hear(said(ADA)) == Outcome(True, "passed")
    assert WordFactor(words, "ada").hear(said(OTHER)) == Outcome(False, "wrong_word")
    assert words.gallery.check_audit().rows > 3


def test_somebody_without_a_word_is_refused(words):
    assert WordFactor(words, "grace").hear(said(ADA)) == Outcome(False, "not_enrolled")


@pytest.mark.parametrize("samples", [QUIET, np.zeros(RATE, np.float32)], ids=["noise", "silence"])
def test_what_is_no_speech_is_no_attempt(words, samples):
    before = words.gallery.check_audit().rows
    assert WordFactor(words, "ada").hear(Utterance(samples, 0.0)) is None
    assert words.gallery.check_audit().rows == before


def test_after_five_wrong_words_the_right_one_has_to_wait_too(words):
    for _ in range(5):
        assert WordFactor(words, "ada").hear(said(OTHER)) == Outcome(False, "wrong_word")
    assert WordFactor(words, "ada").hear(said(ADA)) == Outcome(False, "delayed")


def test_frames_and_keys_say_nothing_and_the_prompt_is_in_words(words):
    factor = WordFactor(words, "ada")
    assert factor.see(None) is None
    assert factor.press(["1", "#"]) is None
    assert (prompt_text(factor.prompt), factor.overdue) == ("say your word", "no_word")


@pytest.mark.parametrize(("is_calibrated", "reason"), [(True, "no_speech_bundle"), (False, "uncalibrated")])
def test_a_door_does_not_begin_with_a_bundle_that_cannot_decide_words(make_bundle, tmp_path, is_calibrated, reason):
    bundle = make_bundle(calibrated=is_calibrated)
    if is_calibrated:
        bundle = bundle_maker(tmp_path, draw_people(), tiny_section())()
    installer.install(bundle, tmp_path / "words", key=tmp_path / "key")
    config = parse_config(f'second_factor.mode = "word"\nword.state = "{tmp_path / "words"}"')
    with contextlib.ExitStack() as stack, raises(InputError, reason=reason):
        running._open_words(config, tmp_path / "key", Prompter(()), stack)


@pytest.mark.parametrize(("level", "found"), [(0.1, "ok"), (0.0, "warning")])
def test_the_trial_of_a_door_says_how_loud_the_place_is(tmp_path, level, found):
    (tmp_path / "place.wav").write_bytes(to_wav(np.full(2 * RATE, level, np.float32), RATE))
    config = parse_config(f'word.microphone = "{tmp_path / "place.wav"}"')
    finding = door_trial._microphone(config)
    assert finding.level == found
    assert ("-20 dB" in finding.text) == (found == "ok")


def test_the_trial_of_a_door_names_a_microphone_that_does_not_work(monkeypatch):
    class Broken:
        fault = "the microphone USB does not work: Device unavailable"

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def listen(self):
            pass

    monkeypatch.setattr(door_trial, "Microphone", Broken)
    with raises(MachineError, reason="no_microphone", match="Device unavailable"):
        door_trial._microphone(parse_config('word.microphone = "USB"'))
