"""Sound files: what is read, and what becomes of files whose headers lie."""

import io
import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_oneshot_device.audio.sound_file import read_sound, to_wav
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.errors import InputError
from tests.samples.recordings import RATE, speech_section, spoken, wav, word

soundfile = pytest.importorskip("soundfile")
SECTION = speech_section()
TONE = (0.5 * np.sin(np.arange(RATE) / 9.0)).astype(np.float32)


def written(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def lying_flac(offset: int, value: bytes) -> bytes:
    """A FLAC with other bytes in its STREAMINFO: its rate is at 18, its count of samples at 21."""
    content = bytearray(written(TONE, form="FLAC"))
    content[offset : offset + len(value)] = value
    return bytes(content)


LYING = {
    "empty": (b"", "not_a_recording"),
    "text": (b"hello " * 100, "not_a_recording"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not_a_recording"),
    "RIFF alone": (b"RIFF", "not_a_recording"),
    "no chunks": (b"RIFF\x04\0\0\0WAVE", "not_a_recording"),
    "no data chunk": (wav(b"")[:36], "not_a_recording"),
    "no samples": (wav(b""), "not_a_recording"),
    "a header cut short": (wav(bytes(100))[:30], "recording_truncated"),
    "data cut short": (spoken(1)[:1000], "recording_truncated"),
    "2^31 samples": (wav(bytes(1000), size=0xFFFFFFFE), "recording_truncated"),
    "no channels": (wav(bytes(1000), channels=0), "not_a_recording"),
    "65535 channels": (wav(bytes(1000), channels=65535), "not_a_recording"),
    "nine channels": (wav(bytes(1800), channels=9), "not_a_recording"),
    "a rate of 0": (wav(bytes(1000), rate=0), "not_a_recording"),
    "a rate of 2^32 - 1": (wav(bytes(1000), rate=0xFFFFFFFF), "not_a_recording"),
    "0 bits": (wav(bytes(1000), bits=0), "not_a_recording"),
    "64 bits of PCM": (wav(bytes(1000), bits=64), "not_a_recording"),
    "65535 bits": (wav(bytes(1000), bits=65535), "not_a_recording"),
    "an unknown coding": (wav(bytes(1000), form=0x1234), "not_a_recording"),
    "ADPCM": (written(TONE, subtype="MS_ADPCM"), "not_a_recording"),
    "not numbers": (written(np.full(RATE, np.nan, np.float32), subtype="FLOAT"), "not_a_recording"),
    "61 s": (wav(bytes(61 * 8000), rate=8000, bits=8), "recording_too_long"),
    "61 s of FLAC": (written(np.zeros(61 * 8000, np.float32), 8000, "FLAC"), "recording_too_long"),
    "FLAC alone": (b"fLaC", "not_a_recording"),
    "a FLAC cut short": (written(TONE, form="FLAC")[:5000], "recording_truncated"),
    "a FLAC of 2^36 samples": (lying_flac(21, b"\xff" * 5), "recording_truncated"),
    "a FLAC of rate 0": (lying_flac(18, b"\0\0\0"), "not_a_recording"),
    "Ogg": (written(TONE, form="OGG", subtype="VORBIS"), "not_a_recording"),
}


@pytest.mark.parametrize("what", LYING)
def test_file_that_lies_gets_an_error_of_one_line_from_the_worker(what):
    content, reason = LYING[what]
    with pytest.raises(InputError) as caught:
        load_image(content, SECTION)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the recording ")


def test_file_of_millions_of_chunks_is_stopped_by_the_workers_limit():
    chunks = b"junk\0\0\0\0" * (6 << 20)
    with pytest.raises(InputError) as caught:
        load_image(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks, SECTION)
    assert caught.value.reason == "recording_too_costly"
    assert load_image(spoken(1), SECTION).shape == (40, 64, 1)


@given(st.data())
def test_damaged_recording_is_read_or_refused(data):
    content = bytearray(data.draw(st.sampled_from([spoken(1), written(TONE, form="FLAC")])))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    try:
        samples = read_sound(bytes(content), RATE, "it")
    except InputError:
        return
    assert samples.dtype == np.float32
    assert np.abs(samples).max() <= 1.0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_samples_of_every_width_are_the_same(subtype):
    tolerance = {"PCM_U8": 1 / 128, "ULAW": 0.02, "ALAW": 0.02}.get(subtype, 1 / 32768)
    assert np.abs(read_sound(written(TONE, subtype=subtype), RATE, "it") - TONE).max() <= tolerance


def test_flac_holds_the_samples_it_is_made_of():
    levels = np.rint(20000.0 * TONE).astype(np.int16)
    assert np.array_equal(read_sound(written(levels, form="FLAC"), RATE, "it") * 32768.0, levels)


def test_channels_are_averaged():
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    assert np.abs(read_sound(written(stereo), RATE, "it") - TONE / 2).max() <= 1 / 32768


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 192000])
def test_other_rate_is_resampled(rate):
    """The same tone comes out, away from the ends."""
    times = np.arange(rate) / rate
    found = read_sound(written(0.5 * np.sin(2000.0 * times), rate), RATE, "it")
    assert len(found) == RATE
    expected = 0.5 * np.sin(2000.0 * np.arange(RATE) / RATE)
    assert np.abs(found - expected)[1000:-1000].max() < 1e-3


def test_values_beyond_full_scale_are_clipped():
    assert np.array_equal(read_sound(written(1e30 * TONE, subtype="FLOAT"), RATE, "it"), np.sign(TONE))


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (written(TONE, form="FLAC"), "soundfile"),
        (written(TONE, subtype="FLOAT"), "soundfile"),
        (written(TONE, 8000), "soxr"),
    ],
)
def test_missing_decoder_names_the_extra(monkeypatch, content, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match="sounddevice>=") as caught:
        read_sound(content, RATE, "it")
    assert caught.value.reason == "decoder_missing"


def test_plain_wav_at_the_models_rate_needs_no_extra(monkeypatch):
    for extra in ("soundfile", "soxr", "sounddevice"):
        monkeypatch.setitem(sys.modules, extra, None)
    assert np.abs(read_sound(to_wav(TONE, RATE), RATE, "it") - TONE).max() <= 1 / 32768


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_wav_holds_the_samples_it_is_made_of(dtype):
    levels = np.array([-32768, -1, 0, 1, 32767], np.int16)
    samples = levels if dtype == np.int16 else levels.astype(np.float32) / 32768.0
    assert np.array_equal(read_sound(to_wav(samples, RATE), RATE, "it") * 32768.0, levels)


def test_word_of_another_rate_and_format_has_nearly_the_same_spectrogram():
    plain = load_image(spoken(3), SECTION).astype(int)
    other = load_image(written(word(3, rate=48000), 48000, "FLAC"), SECTION).astype(int)
    assert np.abs(plain - other)[plain > 128].mean() < 12
