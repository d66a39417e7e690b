"""Made-up speech: words, voices, rooms, noise, and the cache of what espeak-ng said."""

import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from edge_oneshot.data import espeak, speech, spoken_cache
from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.espeak import Voice, speak
from edge_oneshot.data.loading import default_input, kind_of, load_data
from edge_oneshot.data.made_up_speech import ACCENTS, draw_voices, draw_words
from edge_oneshot.data.recordings import speech_input
from edge_oneshot.data.speech import draw_sets, fresh_words, load_voices, load_words
from edge_oneshot.errors import DataError
from tests.raising import raises

SECTION = speech_input()
PERSON = Voice("m3", "en-gb", 160)

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edge-oneshot" / "speech"


def few(seed: int = 0) -> Dataset:
    return load_words(SECTION, sets=2, words=3, voices=4, seed=seed)


def edits(one: list[str], other: list[str]) -> int:
    """The Levenshtein distance."""
    row = list(range(len(other) + 1))
    for place, phoneme in enumerate(one, 1):
        last, row = row, [place]
        for column, wanted in enumerate(other, 1):
            row.append(min(last[column] + 1, row[-1] + 1, last[column - 1] + (phoneme != wanted)))
    return row[-1]


def test_words_differ_by_two_phonemes_from_all_others() -> None:
    words = draw_words(80, np.random.default_rng(1))
    phonemes = [word.text.strip("[]").replace("'", "").split("||") for word in words]
    assert min(edits(one, other) for one, other in itertools.combinations(phonemes, 2)) >= 2
    assert len({word.name for word in words}) == 80


def test_the_words_of_a_smaller_count_of_sets_are_the_first_of_a_larger_one() -> None:
    assert draw_sets(3, 5, 4, 0)[:2] == draw_sets(2, 5, 4, 0)


def test_no_word_and_no_voice_is_in_two_sets() -> None:
    sets = draw_sets(speech.SETS, speech.WORDS, speech.VOICES, 0)
    words = [word.text for words, _ in sets for word in words]
    voices = [voice.settings for _, voices in sets for voice in voices]
    assert len(set(words)) == len(words) == 480
    assert len(set(voices)) == len(voices) == 384


def test_the_voices_of_a_set_have_all_accents() -> None:
    voices = draw_voices([str(number) for number in range(16)], np.random.default_rng(0))
    assert {voice.accent for voice in voices} == set(ACCENTS)


@needs_espeak
def test_what_is_said_is_sound_of_a_sensible_length_without_silence_around_it() -> None:
    sound = speak("hello", PERSON)
    assert sound.dtype == np.float32
    assert 0.2 < len(sound) / espeak.SAMPLE_RATE < 1.0
    assert 0.1 < np.abs(sound).max() <= 1.0
    assert sound[0] != 0
    assert sound[-1] != 0


@needs_espeak
def test_accents_and_settings_are_heard() -> None:
    # espeak-ng takes another voice without a word where it does not know one
    pitched = [(accent, hertz) for accent in ACCENTS for hertz in (80, 240)]
    voices = [Voice(f"{accent}{hertz}", accent, 160, (f"pitch {hertz} {hertz}",)) for accent, hertz in pitched]
    with espeak.voice_folder(voices) as folder:
        said = {espeak.speak_all(["a hello in the coffee house"], voice, folder)[0].tobytes() for voice in voices}
    assert len(said) == 2 * len(ACCENTS)


@needs_espeak
def test_texts_said_in_one_call_are_those_said_one_by_one() -> None:
    texts = [word.text for word in draw_words(4, np.random.default_rng(3))]
    with espeak.voice_folder([PERSON]) as folder:
        together = espeak.speak_all(texts, PERSON, folder)
        apart = [espeak.speak_all([text], PERSON, folder)[0] for text in texts]
    for one, other in zip(together, apart, strict=True):
        assert abs(len(one) - len(other)) < 0.02 * espeak.SAMPLE_RATE


@needs_espeak
def test_a_text_with_markup_is_said_and_not_obeyed() -> None:
    assert len(speak('a <break time="5s"/> & b', PERSON)) < 5 * espeak.SAMPLE_RATE


@needs_espeak
def test_a_text_of_nothing_is_refused() -> None:
    with raises(DataError, match="says nothing for one of the texts", reason="espeak_failed"):
        speak(" ", PERSON)


def test_without_espeak_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "PROGRAM", "no-such-program")
    with raises(DataError, match="apt install espeak-ng", reason="espeak_missing"):
        load_data("words", SECTION)


@needs_espeak
def test_words_are_grouped_in_sets_and_voices_are_the_drawers() -> None:
    words = few()
    assert words.images.shape == (24, 40, 64, 1)
    assert words.images.dtype == np.uint8
    assert words.group_names == ("set01", "set02")
    assert [name.split("/")[0] for name in words.identities] == ["set01"] * 3 + ["set02"] * 3
    assert words.labels.tolist() == [word for word in range(6) for _ in range(4)]
    assert words.groups.tolist() == [0] * 12 + [1] * 12
    assert words.drawers is not None
    assert words.drawers.tolist() == [1, 2, 3, 4] * 6
    assert words.images.max((1, 2, 3)).tolist() == [255] * 24


@needs_espeak
def test_voices_are_the_same_recordings_with_the_words_as_drawers() -> None:
    words, voices = few(), load_voices(SECTION, sets=2, words=3, voices=4)
    assert voices.identities[:5] == (
        "set01/voice01",
        "set01/voice02",
        "set01/voice03",
        "set01/voice04",
        "set02/voice01",
    )
    assert voices.drawers is not None
    for label, group, drawer, image in zip(voices.labels, voices.groups, voices.drawers, voices.images, strict=True):
        place = group * 12 + (drawer - 1) * 4 + label % 4
        np.testing.assert_array_equal(image, words.images[place])


@needs_espeak
def test_the_same_seed_gives_the_same_recordings_from_the_cache_as_before_and_another_gives_others(cache: Path) -> None:
    first = few()
    assert len(list(cache.iterdir())) == 2
    np.testing.assert_array_equal(few().images, first.images)
    assert not np.array_equal(few(seed=1).images, first.images)


@needs_espeak
def test_what_is_in_the_cache_is_what_was_said() -> None:
    few()
    (words, voices), _ = draw_sets(2, 3, 4, 0)
    kept = spoken_cache.read("set01", words, voices, espeak.version())
    assert kept is not None
    with espeak.voice_folder(voices) as folder:
        said = espeak.speak_all([word.text for word in words], voices[2], folder)
    for row, sound in zip(kept, said, strict=True):
        np.testing.assert_array_equal(row[2], sound)


@needs_espeak
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "other"])
def test_a_damaged_file_of_the_cache_is_made_again(cache: Path, damage: str) -> None:
    before = few().images
    victim, other = sorted(cache.iterdir())
    content = victim.read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    victim.write_bytes(
        {"cut": content[:middle], "empty": b"", "changed": changed, "other": other.read_bytes()[9:]}[damage]
    )
    np.testing.assert_array_equal(few().images, before)
    assert victim.read_bytes() != changed
    assert spoken_cache.read("set01", *draw_sets(2, 3, 4, 0)[0], espeak.version()) is not None


@needs_espeak
def test_other_words_leave_nothing_of_the_former_in_the_cache(cache: Path) -> None:
    few()
    former = set(cache.iterdir())
    few(seed=1)
    assert len(list(cache.iterdir())) == 2
    assert former.isdisjoint(cache.iterdir())


@needs_espeak
def test_two_programs_that_fill_the_cache_at_once_get_the_same(cache: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(few, (0, 0))
    np.testing.assert_array_equal(one.images, other.images)
    assert [path.suffix for path in cache.iterdir()] == [".npz", ".npz"]


@needs_espeak
def test_after_an_interruption_no_further_set_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    interrupted = Event()
    read = spoken_cache.read

    def watched(name: str, *rest):
        begun.append(name)
        if name != "set01":
            interrupted.wait(5)
        return read(name, *rest)

    def interrupt(_done: int, _total: int) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(spoken_cache, "read", watched)
    with pytest.raises(KeyboardInterrupt):
        load_words(SECTION, sets=12, words=1, voices=1, progress=interrupt)
    assert len(begun) < 12


@needs_espeak
def test_where_the_cache_cannot_be_written_the_words_are_there_all_the_same(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"a file")
    assert len(few().images) == 24


@needs_espeak
def test_fresh_words_are_in_no_set() -> None:
    fresh = fresh_words(words=2, voices=3)
    sets = draw_sets(speech.SETS, speech.WORDS, speech.VOICES, 0)
    assert {word.text for words, _ in sets for word in words}.isdisjoint(word.text for word in fresh.words)
    assert {voice.settings for _, voices in sets for voice in voices}.isdisjoint(
        voice.settings for voice in fresh.voices
    )
    assert [len(row) for row in fresh.recordings] == [3, 3]
    assert all(0 < np.abs(sound).max() <= 1 for row in fresh.recordings for sound in row)


@needs_espeak
def test_progress_counts_recordings() -> None:
    told: list[tuple[int, int]] = []
    load_words(SECTION, sets=2, words=2, voices=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 8), (8, 8)]


def test_the_input_follows_from_the_kind_of_data() -> None:
    assert kind_of("words") == kind_of("voices") == "speech"
    assert default_input("words") == default_input("voices", size=96) == SECTION
    assert default_input("glyphs").audio is None


def test_drawings_and_speech_are_not_joined() -> None:
    with raises(DataError, match="joins drawings and speech", reason="bad_mix"):
        load_data("words+glyphs", SECTION)


@pytest.mark.parametrize(("data", "section"), [("words", default_input("glyphs")), ("glyphs", SECTION)])
def test_data_of_another_kind_than_the_encoder_takes_is_refused(data: str, section) -> None:
    with raises(DataError, match="give data of its kind", reason="wrong_kind"):
        load_data(data, section)
