"""A challenge at the door is counted and recorded like an attempt, and a frame that is none is refused."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device import Recognizer
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.liveness.challenge import Challenge
from edge_oneshot_device.liveness.watcher import FAILURES, Liveness, Watcher
from edge_oneshot_device.recognition.challenges import draw
from tests.raising import raises
from tests.samples.tiny import People

FRAME = Image.new("RGB", (320, 240))
ENCODER: Any = SimpleNamespace(faces=SimpleNamespace(find=lambda _: []))
"""With nets that find no face."""


@pytest.fixture
def door(opener: Callable[..., Recognizer], people: People) -> Iterator[Recognizer]:
    with opener() as opened:
        opened.enrol("ada", people["ada"][0])
        yield opened


def begin(door: Recognizer, limits: Limits | None = Limits()) -> Watcher | Refusal:  # noqa: B008 (frozen)
    return draw(door.gallery, ENCODER, -0.5, limits)


def end(watcher: Watcher | Refusal, monkeypatch: pytest.MonkeyPatch, reason: str, seconds: float = 1.0) -> Liveness:
    """Let a challenge end with the next frame."""
    passed = reason == "passed"
    found = Liveness(passed, reason, None if passed else "blink", np.ones(2, np.float32) if passed else None)
    monkeypatch.setattr(Watcher, "_look", lambda self, *_: setattr(self, "_result", found))
    assert isinstance(watcher, Watcher)
    result = watcher.feed(FRAME, seconds).result
    assert result is not None
    return result


def rows(door: Recognizer) -> list[dict[str, Any]]:
    return [json.loads(row.detail) for row in door.gallery.rows() if row.act == "challenge"]


def test_failed_challenges_are_counted_like_rejections_and_make_the_door_wait(door, machine, people, monkeypatch):
    for _ in range(10):
        assert end(begin(door), monkeypatch, "wrong_action").reason == "wrong_action"
    assert begin(door) == Refusal("rate_limited", 60.0)
    assert door.identify(people["ada"][0]).reason == "rate_limited"
    machine.seconds += 60.0
    assert isinstance(begin(door), Watcher)
    failed = {"passed": False, "reason": "wrong_action", "action": "blink"}
    assert rows(door)[1::2][:10] == [failed] * 10
    assert [row["reason"] for row in rows(door)[20:]] == ["rate_limited", "begun"]
    assert door.gallery.check_audit().people == 1


def test_challenges_and_rejections_count_together(door: Recognizer, people: People) -> None:
    for _ in range(5):
        begin(door)
        assert door.identify(people["stranger"][0]).reason == "below_threshold"
    assert begin(door) == Refusal("rate_limited", 60.0)


def test_whoever_passes_is_not_counted_and_may_be_identified_at_once(door, people, monkeypatch):
    for _ in range(3):
        assert end(begin(door, Limits(rejections_per_minute=1)), monkeypatch, "passed").passed
    assert rows(door)[-1] == {"passed": True, "reason": "passed", "action": None}
    assert door.identify(people["ada"][0]).accepted


def test_whoever_breaks_a_challenge_off_has_used_it_up_even_if_the_program_dies(door, tmp_path, machine):
    for _ in range(10):
        begin(door)  # nobody feeds it
    with Gallery.open(
        tmp_path / "gallery.db", door.gallery.fingerprint, door.gallery.size, clock=machine.clock()
    ) as again:
        assert isinstance(draw(again, ENCODER, -0.5, Limits()), Refusal)


def test_a_pass_that_cannot_be_recorded_is_none(door: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = begin(door)

    def full() -> None:
        raise MachineError("the disk is full", reason="disk_full")

    monkeypatch.setattr(door.gallery, "writing", full)
    with pytest.raises(MachineError):
        end(watcher, monkeypatch, "passed")
    assert isinstance(watcher, Watcher)
    result = watcher.feed(FRAME, 2.0).result
    assert result is not None
    assert (result.passed, result.reason, result.embedding) == (False, "not_recorded", None)
    assert result.reason in FAILURES


def test_the_end_is_recorded_once(door: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = begin(door)
    end(watcher, monkeypatch, "timed_out")
    assert isinstance(watcher, Watcher)
    for seconds in (2.0, 3.0):
        assert watcher.feed(FRAME, seconds).result is not None
    assert [row["reason"] for row in rows(door)] == ["begun", "timed_out"]


def test_a_bundle_without_faces_has_no_challenge_and_counts_none(door: Recognizer) -> None:
    with raises(InputError, reason="no_faces"):
        door.challenge()
    assert rows(door) == []


# frames


@pytest.mark.parametrize(
    "frame",
    [
        Image.new("L", (320, 240)),
        Image.new("RGBA", (320, 240)),
        Image.new("CMYK", (320, 240)),
        Image.new("F", (320, 240)),
        Image.new("RGB", (63, 240)),
        Image.new("RGB", (4097, 100)),
        Image.new("RGB", (0, 0)),
        np.zeros((240, 320, 3), np.uint8),
        b"frame",
        None,
    ],
)
def test_a_frame_that_is_no_rgb_image_of_a_camera_is_refused_and_the_challenge_goes_on(frame: Any) -> None:
    watcher = Watcher(ENCODER, Challenge.draw(), -0.5)
    with raises(InputError, match="the frame is", reason="bad_frame") as refused:
        watcher.feed(frame, 1.0)
    assert "\n" not in str(refused.value)
    assert watcher.feed(FRAME, 1.0).result is None


def test_a_frame_whose_file_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:20_000])
    with Image.open(path) as frame, pytest.raises(InputError, match="damaged") as refused:
        Watcher(ENCODER, Challenge.draw(), -0.5).feed(frame, 1.0)
    assert refused.value.reason == "bad_frame"


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 1.0, 0.9])
def test_a_time_that_is_no_number_or_not_later_is_refused_and_does_not_stop_the_clock(seconds: float) -> None:
    watcher = Watcher(ENCODER, Challenge.draw(), -0.5)
    watcher.feed(FRAME, 1.0)
    with raises(InputError, reason="wrong_time"):
        watcher.feed(FRAME, seconds)
    assert watcher.feed(FRAME, 1.1).result is None
