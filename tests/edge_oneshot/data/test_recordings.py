"""Folders of recordings, and Google Speech Commands in its official layout."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_oneshot.data.loading import default_input, kind_of, load_data, passed_over
from edge_oneshot.data.recordings import speech_input
from edge_oneshot.data.speech_commands import load_speech_commands
from edge_oneshot.errors import DataError
from edge_oneshot.unseen_data import load_unseen, published_names
from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.image_files import PassedOver
from tests.raising import raises
from tests.samples.pictures import pack
from tests.samples.recordings import spoken

SECTION = speech_input()
SILENCE = to_wav(np.zeros(16000, np.float32), 16000)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


WORDS = {"open/1.wav": spoken(1), "open/2.WAV": spoken(1, 1), "close/a.wav": spoken(2), "note.txt": b""}


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_recordings_is_told_from_photos_and_loaded_as_the_device_reads_them(tmp_path, zipped):
    path = pack(tmp_path / "words.zip", WORDS) if zipped else fill(tmp_path / "words", WORDS)
    assert kind_of(str(path)) == "speech"
    assert default_input(str(path)) == SECTION
    words = load_data(str(path), SECTION)
    assert words.identities == words.group_names == ("close", "open")
    assert words.labels.tolist() == [0, 1, 1]
    assert words.drawers is None
    np.testing.assert_array_equal(words.images[2], load_image(WORDS["open/2.WAV"], SECTION))


def test_what_is_no_recording_is_passed_over_and_named(tmp_path):
    path = fill(tmp_path, WORDS | {"open/photo.png": b"", "stray.wav": b"", "empty/readme": b""})
    assert passed_over(str(path)) == [
        PassedOver("empty/readme", "no_recording"),
        PassedOver("note.txt", "no_recording"),
        PassedOver("open/photo.png", "no_recording"),
        PassedOver("stray.wav", "no_person"),
        PassedOver("empty/", "no_recording"),
    ]


def test_a_recording_of_silence_is_an_error_that_names_it_or_left_out_where_that_is_asked_for(tmp_path):
    path = fill(tmp_path, WORDS | {"open/3.wav": SILENCE, "close/b.wav": b"RIFF"})
    with raises(DataError, match=r"close/b\.wav", reason="not_a_recording"):
        load_data(str(path), SECTION)
    told = {}
    words = load_data(str(path), SECTION, unreadable=told.__setitem__)
    assert told == {"open/3.wav": "no_speech", "close/b.wav": "not_a_recording"}
    assert words.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(("section", "kind"), [(SECTION, "recordings"), (default_input("photos"), "images")])
def test_a_folder_without_what_the_encoder_takes_is_refused(tmp_path, section, kind):
    files = {"ada/1.png": b"", "bob/1.png": b""} if section is SECTION else WORDS
    with raises(DataError, match=f"one folder of {kind} each", reason="too_few_identities"):
        load_data(str(fill(tmp_path, files)), section)


COMMANDS = {
    "yes/0a1b_nohash_0.wav": spoken(1),
    "yes/0a1b_nohash_1.wav": spoken(1, 1),
    "yes/77ff_nohash_0.wav": spoken(1, 2),
    "no/0a1b_nohash_0.wav": spoken(2),
    "no/33cc_nohash_0.wav": spoken(2, 1),
    "no/77ff_nohash_0.wav": spoken(2, 2),
    "_background_noise_/white_noise.wav": spoken(3),
    "testing_list.txt": b"yes/77ff_nohash_0.wav\nno/77ff_nohash_0.wav\n",
    "validation_list.txt": b"no/33cc_nohash_0.wav\n",
    "README.md": b"",
}


def test_speech_commands_has_words_as_groups_and_speakers_as_drawers_and_keeps_its_testing_list_apart(tmp_path):
    path = str(fill(tmp_path, COMMANDS))
    assert kind_of(path) == "speech"
    background = load_data(path, SECTION)
    assert background.name == "speech_commands"
    assert background.identities == background.group_names == ("no", "yes")
    assert background.labels.tolist() == [0, 0, 1, 1]
    assert background.drawers is not None
    assert background.drawers.tolist() == [0, 1, 0, 0]
    np.testing.assert_array_equal(background.images[1], load_image(COMMANDS["no/33cc_nohash_0.wav"], SECTION))
    evaluation = load_data(path, SECTION, subset="evaluation")
    assert evaluation.drawers is not None
    assert evaluation.drawers.tolist() == [2, 2]
    assert evaluation.labels.tolist() == [0, 1]


def test_recordings_of_speech_commands_in_which_nothing_is_heard_are_left_out(tmp_path):
    path = str(fill(tmp_path, COMMANDS | {"no/44dd_nohash_0.wav": SILENCE}))
    assert load_data(path, SECTION).labels.tolist() == [0, 0, 1, 1]


def test_a_damaged_recording_of_speech_commands_is_an_error_that_names_it_or_left_out(tmp_path):
    path = fill(tmp_path, COMMANDS | {"no/44dd_nohash_0.wav": b"RIFF"})
    with raises(DataError, match=r"no/44dd_nohash_0\.wav: cannot be read", reason="not_a_recording"):
        load_speech_commands(path, SECTION)
    told = {}
    assert len(load_speech_commands(path, SECTION, unreadable=told.__setitem__).labels) == 4
    assert told == {"no/44dd_nohash_0.wav": "not_a_recording"}


@pytest.mark.parametrize(
    ("change", "message", "reason"),
    [
        ({"testing_list.txt": b"\xff\xfe"}, "is no list of files", "bad_list"),
        ({"testing_list.txt": "\n".join(COMMANDS).encode()}, "0 words", "too_few_identities"),
    ],
)
def test_a_list_of_speech_commands_that_cannot_be_meant_is_refused(tmp_path, change, message, reason):
    with raises(DataError, match=message, reason=reason):
        load_speech_commands(fill(tmp_path, COMMANDS | change), SECTION)


def test_speech_commands_is_refused_for_an_encoder_of_images(tmp_path):
    with raises(DataError, match="the encoder takes images", reason="wrong_kind"):
        load_data(str(fill(tmp_path, COMMANDS)), default_input("photos"))


def test_unseen_of_speech_commands_are_other_words_by_the_speakers_of_its_testing_list(tmp_path):
    path = str(fill(tmp_path, COMMANDS))
    trained_on = published_names(path, ["yes"])
    manifest = SimpleNamespace(input=SECTION, provenance=SimpleNamespace(trained_on=trained_on))
    unseen, seen = load_unseen(path, manifest)
    assert (unseen.identities, seen) == (("no",), ("yes",))
    assert unseen.drawers.tolist() == [2]
