"""The audio part of a manifest: what it says can be computed."""

import json

import msgspec
import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.codec import decode_manifest, encode_manifest
from edge_oneshot_device.errors import IntegrityError
from tests.raising import raises
from tests.samples.recordings import tiny_speech_section

AUDIO = json.loads(msgspec.json.encode(tiny_speech_section().audio))


@pytest.fixture
def section():
    return tiny_speech_section()


@pytest.fixture
def plain(make_bundle):
    """The manifest of a bundle for recordings, in plain data."""
    bundle = make_bundle(calibrated=False, variants=("float32",))
    return json.loads(encode_manifest(Bundle.open(bundle).manifest))


def test_a_manifest_for_recordings_is_read(plain):
    manifest = decode_manifest(json.dumps(plain).encode())
    assert manifest.input.audio == tiny_speech_section().audio
    assert manifest.input.kind == "recording"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"audio": {**AUDIO, "low_hz": 7600.0}}, "bands from 7600 to 7600 Hz"),
        ({"audio": {**AUDIO, "low_hz": 7599.9}}, "bands from 7599.9 to 7600 Hz"),  # within one step of the spectrum
        ({"audio": {**AUDIO, "high_hz": 8001.0}}, "bands from 60 to 8001 Hz of 16000"),
        ({"audio": {**AUDIO, "hop": 4096, "sample_rate": 8000, "high_hz": 4000.0}, "width": 64}, "longer than 10 s"),
        ({"framing": "ink"}, "framed whole"),
        ({"audio": {**AUDIO, "window": 1 << 20}}, "audio.window"),
        ({"audio": {**AUDIO, "pitch": 1}}, "pitch"),
    ],
)
def test_what_cannot_be_computed_is_refused(plain, change, said):
    plain["input"].update(change)
    with raises(IntegrityError, match=said, reason="bad_manifest"):
        decode_manifest(json.dumps(plain).encode())
