"""A share of the campaign against doors at work; whole it is part of `make soak`."""

from pathlib import Path

import pytest

pytest.importorskip("rich", reason="the campaigns show their progress with rich")
pytest.importorskip("skimage", reason="the extra faces is not installed")
pytest.importorskip("cv2", reason="the extra camera is not installed")
pytest.importorskip("gpiozero", reason="the extra gpio is not installed")
pytest.importorskip("paho", reason="the extra mqtt is not installed")

from tests.campaigns import door_faults
from tests.campaigns.durability import mounts
from tests.campaigns.faulty_doors.cases import KINDS
from tests.campaigns.faulty_doors.judging import Opening, openings_of
from tests.campaigns.faulty_doors.rig import Device, prepare
from tests.device.door.board import Change
from tests.device.door.outgoing import MOSQUITTO


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, faces_bundle: Path) -> Device:
    if MOSQUITTO is None:
        pytest.skip("no broker is installed")
    return prepare(tmp_path_factory.mktemp("device"), faces_bundle)


# a case takes a quarter of a minute; the campaign has all kinds
SHARE = ("kill -9, deciding", "kill -9, unlocked", "SIGTERM, unlocked", "broker lost", "disk full", "program stopped")


@pytest.mark.parametrize("name", SHARE)
def test_nothing_opens_undecided_no_event_is_lost_and_the_door_works_again(device, name, tmp_path):
    if name == "disk full" and (why := mounts.why_not(tmp_path)) is not None:
        pytest.skip(why)
    tally = door_faults.part(KINDS[name], device, tmp_path, [0], 1, lambda: None)
    assert tally.failures == []
    assert sum(tally.outcomes.values()) == 1
    assert tally.facts["openings"] >= 1
    assert tally.facts["events"] >= 1


def test_an_opening_lasts_from_the_first_high_level_to_the_next_low_one():
    levels = [(0.0, 0), (1.0, 1), (1.5, 1), (3.0, 0), (3.5, 0), (4.0, 1)]
    assert openings_of([Change(at, level, 1) for at, level in levels]) == [Opening(1.0, 3.0), Opening(4.0, None)]
