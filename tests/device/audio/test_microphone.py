"""The microphone: heard only while somebody listens, lost and found again; from a fake PortAudio and from a file."""

import io
import sys
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device.audio import microphone
from edge_oneshot_device.audio.microphone import Microphone, record_utterance
from edge_oneshot_device.audio.sound_captures import open_capture
from edge_oneshot_device.audio.sound_file import read_sound, to_wav
from edge_oneshot_device.errors import InputError, MachineError
from tests.device.audio.fake_portaudio import RATE, STEP, FakeSoundDevice, PortAudioError
from tests.device.door.waiting import wait_until

BLOCK = RATE // 20


@pytest.fixture
def device(monkeypatch):
    device = FakeSoundDevice()
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    monkeypatch.setattr(microphone, "_PAUSES", (0.01, 0.02))
    monkeypatch.setattr(microphone, "_CLOSING", 0.0)  # its thread mostly waits for a block that no test gives
    yield device
    device.fault = PortAudioError("the end")
    device.give(100)
    wait_until(lambda: all(thread.name != "microphone" for thread in threading.enumerate()))


def opened(device):
    """A microphone that was tried."""
    found = Microphone("default", RATE)
    device.give()
    wait_until(lambda: device.openings == 1 and device.opened == 0)
    return found


def level(*blocks):
    """The samples of the blocks with these numbers."""
    return np.array(blocks, np.float32) * np.float32(STEP / 32768.0)


def taken(found, count):
    """The samples of so many blocks, once they have come."""
    parts = []

    def enough():
        parts.append(found.heard())
        return sum(map(len, parts)) >= count * BLOCK

    wait_until(enough)
    return np.concatenate(parts)


def test_it_is_closed_until_somebody_listens_and_what_it_was_tried_with_is_not_heard(device):
    with opened(device) as found:
        assert found.fault is None
        assert len(found.heard()) == 0
        found.listen()
        device.give(2)
        np.testing.assert_array_equal(np.unique(taken(found, 2)), level(1, 2))
        assert device.opened == 1
        found.rest()
        device.give()
        wait_until(lambda: device.opened == 0)
        assert len(found.heard()) == 0


def test_what_was_heard_before_somebody_listens_anew_is_not_heard(device):
    with opened(device) as found:
        found.listen()
        device.give(3)
        taken(found, 3)
        device.give()
        wait_until(lambda: found._blocks)
        found.rest()
        found.listen()  # before the thread has noticed: its next block may have begun before
        device.give(2)
        np.testing.assert_array_equal(np.unique(taken(found, 1)), level(1))
        assert device.openings == 3


def test_sound_that_nobody_takes_is_kept_for_five_seconds(device):
    with opened(device) as found:
        found.listen()
        device.give(130)
        wait_until(lambda: device.blocks._value == 0 and found._blocks[-1][0] == level(130))
        heard = found.heard()
        assert len(heard) == 5 * RATE
        assert heard[0] == level(31)


def test_a_microphone_that_is_lost_is_a_fault_and_found_again_among_the_devices_of_then(device):
    with opened(device) as found:
        found.listen()
        device.give()
        taken(found, 1)
        device.fault = PortAudioError("Device unavailable")
        device.give()
        wait_until(lambda: found.fault is not None)
        assert "the microphone default does not work: Device unavailable" in found.fault
        wait_until(lambda: device.enumerations > 1)
        device.fault = None
        device.give()
        wait_until(lambda: found.fault is None)
        assert device.opened <= 1


def test_a_microphone_that_does_not_work_at_the_start_is_a_fault_though_nobody_listens(device):
    device.fault = PortAudioError("Error querying device -1")
    with Microphone("USB", RATE) as found:
        wait_until(lambda: found.fault is not None)
        device.fault = None
        device.give()
        wait_until(lambda: found.fault is None)
        assert device.wanted["device"] == "USB"


def test_a_microphone_that_opens_and_gives_nothing_is_a_fault(device, monkeypatch):
    with opened(device) as found:
        monkeypatch.setattr(microphone, "_SILENT", -1.0)
        assert found.fault is None  # it is closed
        found.listen()
        wait_until(lambda: found.fault is not None)
        assert "gives no sound" in found.fault
        found.rest()
        assert found.fault is not None  # it still does not answer


def test_a_microphone_of_another_rate_is_resampled(device):
    pytest.importorskip("soxr")
    device.rates = {48000}
    capture = open_capture("3", RATE)
    assert device.wanted == {"device": 3, "channels": 1, "dtype": "int16"}
    device.give(40)
    samples = np.concatenate([capture.read() for _ in range(40)])
    capture.close()
    assert len(samples) == pytest.approx(40 * BLOCK, rel=0.1)
    assert samples[-1] == pytest.approx(0.04, rel=0.1)
    assert device.opened == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("No module named 'sounddevice'"), 'pip install "sounddevice'),
        (OSError("PortAudio library not found"), "apt install libportaudio2"),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch, error, words):
    def fail(name):
        assert name == "sounddevice"
        raise error

    monkeypatch.setattr("importlib.import_module", fail)
    for use in (lambda: Microphone("default", RATE), lambda: record_utterance("default", RATE)):
        with pytest.raises(MachineError, match=r".") as caught:
            use()
        assert caught.value.reason == "extra_missing"
        assert words in str(caught.value)


@pytest.mark.parametrize(("source", "reason"), [("", "no_microphone"), ("missing.wav", "not_found")])
def test_a_source_that_is_none_is_refused(source, reason):
    with pytest.raises(InputError) as caught:
        Microphone(source, RATE)
    assert caught.value.reason == reason


@pytest.fixture
def recording(tmp_path):
    """A sound file: a second of a quiet room, a tone, and the room again."""
    at = np.arange(3 * RATE) / RATE
    samples = np.random.default_rng(0).standard_normal(len(at)) * 0.001
    spoken = (at >= 1.0) & (at < 1.6)
    samples[spoken] += 0.2 * np.sin(2 * np.pi * 700.0 * at[spoken])
    path = tmp_path / "said.wav"
    path.write_bytes(to_wav(samples.astype(np.float32), RATE))
    return str(path)


def test_a_file_is_heard_from_its_beginning_whenever_somebody_begins_to_listen(recording):
    with Microphone(recording, RATE) as found:
        firsts = []
        for _ in range(2):
            found.listen()
            firsts.append(taken(found, 3)[: 3 * BLOCK])
            found.rest()
    np.testing.assert_array_equal(*firsts)
    np.testing.assert_allclose(firsts[0], read_sound(Path(recording).read_bytes(), RATE, "")[: 3 * BLOCK])


def test_after_its_end_a_file_is_silent(recording):
    capture = open_capture(recording, RATE, paced=False)
    blocks = [capture.read() for _ in range(80)]
    assert np.any(blocks[59])
    assert not np.any(blocks[60:])


def test_an_utterance_is_recorded_as_a_wav_and_no_more_than_that(recording):
    ready = []
    content = record_utterance(recording, RATE, ready=lambda: ready.append(True))
    with wave.open(io.BytesIO(content)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, 2)
        assert sound.getnframes() / RATE == pytest.approx(1.4, abs=0.05)
    assert ready == [True]


def test_nothing_said_and_a_microphone_that_fails_are_errors(device, tmp_path):
    (tmp_path / "silence.wav").write_bytes(to_wav(np.zeros(RATE, np.float32), RATE))
    with pytest.raises(InputError) as silent:
        record_utterance(str(tmp_path / "silence.wav"), RATE, 2.0)
    assert silent.value.reason == "no_word"
    device.fault = PortAudioError("Device unavailable")
    with pytest.raises(MachineError) as failed:
        record_utterance("default", RATE)
    assert failed.value.reason == "no_microphone"
