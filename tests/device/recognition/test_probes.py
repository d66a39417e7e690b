"""A probe that is there already is decided as an image is, and one that no encoder makes is refused."""

import json
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest

from edge_oneshot_device import Recognizer
from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.limits import Limits
from edge_oneshot_device.recognition.comparing import check_probe
from tests.raising import raises
from tests.samples.tiny import People


@pytest.fixture
def door(opener: Callable[..., Recognizer], people: People) -> Iterator[Recognizer]:
    with opener() as opened:
        opened.enrol("ada", people["ada"][0])
        yield opened


def embedding(door: Recognizer, image: bytes) -> np.ndarray:
    return door.encoder.embed_image(image).copy()


def test_a_probe_is_decided_and_recorded_as_its_image_is(door, people):
    for image in (people["ada"][1], people["stranger"][0]):
        decided = door.identify(image)
        assert door.identify_probe(embedding(door, image), 1) == decided
        rows = [json.loads(row.detail) for row in door.gallery.rows() if row.act == "identify"][-2:]
        assert rows[0] == rows[1]
    assert door.gallery.check_audit().people == 1


def test_the_score_of_the_mean_of_frames_is_the_mean_of_their_scores(door, people):
    images = [people["ada"][0], people["ada"][1]]
    probes = [embedding(door, image) for image in images]
    wanted = np.mean([door.identify_probe(probe, 1).score for probe in probes])
    decision = door.identify_probe(np.mean(probes, axis=0), 2)
    assert decision.score == pytest.approx(wanted, abs=1e-5)
    assert decision.person == "ada"
    # frames of two people are nobody
    mixed = np.mean([probes[0], embedding(door, people["stranger"][0])], axis=0)
    assert door.identify_probe(mixed, 2).score < 0.7


def test_rejected_probes_are_limited_as_images_are(opener, people):
    with opener(limits=Limits(rejections_per_minute=2)) as door:
        door.enrol("ada", people["ada"][0])
        stranger = embedding(door, people["stranger"][0])
        reasons = [door.identify_probe(stranger, 5).reason for _ in range(3)]
        assert reasons == ["below_threshold", "below_threshold", "rate_limited"]
        assert door.identify_probe(embedding(door, people["ada"][0]), 5).reason == "rate_limited"
        assert door.identify(people["ada"][0]).reason == "rate_limited"


def test_the_least_score_is_the_threshold_of_verification(door, people):
    assert door.least_score == door.verify("ada", people["ada"][1]).threshold


@pytest.mark.parametrize(
    ("probe", "frames"),
    [
        (np.ones(4, np.float32), 5),  # of length 2
        (np.full(4, 0.51, np.float32), 5),
        (np.full(4, 0.4, np.float32), 1),  # of one frame, and shorter than 1
        (np.zeros(4, np.float32), 5),
        (np.full(4, 0.5, np.float32), 0),
        (np.full(4, 0.5, np.float64), 1),
        (np.full(3, 0.5, np.float32), 5),
        (np.full((1, 4), 0.5, np.float32), 1),
        (np.full(4, np.nan, np.float32), 1),
        (np.full(4, np.inf, np.float32), 5),
    ],
)
def test_a_probe_that_no_encoder_makes_is_refused(probe, frames):
    section = EmbeddingSection(size=4, metric="cosine")
    with raises(InputError, match="give a finite float32", reason="bad_probe"):
        check_probe(probe, frames, section)


def test_probes_as_encoders_make_them_are_taken():
    section = EmbeddingSection(size=4, metric="cosine")
    for scale, frames in ((0.5, 1), (0.5, 5), (0.3, 5)):
        check_probe(np.full(4, scale, np.float32), frames, section)
    check_probe(np.full(4, 80.0, np.float32), 5, msgspec.structs.replace(section, metric="euclidean"))


def test_a_bad_probe_is_no_attempt(door):
    with raises(InputError, reason="bad_probe"):
        door.identify_probe(np.full(door.encoder.embedding.size, 9.0, np.float32), 5)
    assert [row for row in door.gallery.rows() if row.act == "identify"] == []
