"""What a face must be like to be embedded: measures of made-up faces, and the fault that is named."""

import msgspec
import numpy as np
import pytest

from edge_oneshot_device.bundle.face_section import FaceLimits
from edge_oneshot_device.faces.detection import Detection
from edge_oneshot_device.faces.quality import QUALITY_FAULTS, Quality, blur, find_fault, measure, pose, worst_share

LIMITS = FaceLimits(
    max_outside=0.25, max_yaw=25.0, max_pitch=20.0, min_detail=0.12, min_light=40.0, max_glare=0.3, max_blur=0.7
)
GOOD = Quality(outside=0.0, yaw=5.0, pitch=-5.0, detail=0.7, light=180.0, glare=0.0, blur=0.5)
SAME = np.array([(1.0, 0, 0), (0, 1.0, 0)])


HEAD = np.array([(-30, -20, 0), (30, -20, 0), (0, 13.84, -34.8), (-25, 40, 0), (25, 40, 0)], float)  # x, y, depth


def seen(yaw=0.0, pitch=0.0, tilt=0.0):
    """The points of a head that is turned to the left of the photo, down, and then tilted, by degrees."""
    x, y, z = HEAD.T
    for first, angle in (("yaw", np.radians(yaw)), ("pitch", np.radians(pitch))):
        if first == "yaw":
            x, z = x * np.cos(angle) + z * np.sin(angle), z * np.cos(angle) - x * np.sin(angle)
        else:
            y, z = y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)
    at = (x + 1j * y) * np.exp(1j * np.radians(tilt))
    return np.column_stack([at.real + 75, at.imag + 75])


def face(points=None, box=((25, 20), (125, 140))):
    return Detection(0.9, np.array(box, float), seen() if points is None else points)


@pytest.fixture
def chip():
    return np.random.default_rng(0).integers(100, 200, (150, 150, 3)).astype(np.uint8)


@pytest.mark.parametrize("tilt", [0, 15, -40])
def test_a_face_that_looks_ahead_is_not_turned(tilt):
    assert pose(seen(tilt=tilt)) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("tilt", [0, 20])
@pytest.mark.parametrize("angle", [-40, -10, 25, 60])
def test_a_turn_is_measured_in_degrees_with_its_sign(angle, tilt):
    assert pose(seen(yaw=angle, tilt=tilt)) == pytest.approx((angle, 0.0), abs=1e-6)
    assert pose(seen(pitch=angle, tilt=tilt)) == pytest.approx((0.0, angle), abs=1e-6)


def test_points_in_one_place_have_some_pose():
    assert all(map(np.isfinite, pose(np.zeros((5, 2)))))


def test_what_lies_beyond_the_frame_is_a_share_of_the_box(chip):
    def outside(box):
        return measure(face(box=box), chip, SAME, (300, 200)).outside

    assert outside(((25, 20), (125, 140))) == 0.0
    assert outside(((-25, 20), (75, 140))) == 0.25
    assert outside(((250, 100), (350, 300))) == 0.75
    assert outside(((300, 20), (400, 140))) == 1.0


def test_light_and_glare_are_those_between_brows_and_chin():
    chip = np.full((150, 150, 3), 255, np.uint8)
    chip[36:146, 26:124] = 30  # 18 above the eyes, 30 below the mouth, 18 beside the eyes
    chip[37:70, 27:123] = 251  # three tenths of it
    found = measure(face(), chip, SAME, (150, 150))
    assert found.light == pytest.approx(251.0)
    assert found.glare == pytest.approx(0.3, abs=0.02)
    chip[37:62, 27:123] = 30  # less than a tenth is left
    assert measure(face(), chip, SAME, (150, 150)).light == pytest.approx(30.0)


def test_an_eye_or_a_mouth_that_is_covered_shows_no_detail(chip):
    assert measure(face(), chip, SAME, (150, 150)).detail == pytest.approx(1.0, abs=0.2)
    for x, y in seen()[[0, 1, 3, 4]].astype(int).tolist():
        covered = chip.copy()
        covered[y - 12 : y + 12, x - 15 : x + 15] = 128
        assert measure(face(), covered, SAME, (150, 150)).detail == 0.0
    assert measure(face(seen() - 100), chip, SAME, (150, 150)).detail == 0.0


@pytest.mark.parametrize("part", [np.s_[80:90], np.s_[30:41], np.s_[:, 70:80], np.s_[46:55, 33:45]])
def test_a_band_of_a_face_or_a_quarter_of_an_eye_that_is_covered_shows_no_detail(chip, part):
    chip[part] = 128
    assert measure(face(), chip, SAME, (150, 150)).detail < 0.05


def test_limits_that_an_earlier_bundle_lacks_are_left_out_of_its_manifest():
    earlier = msgspec.structs.replace(LIMITS, min_detail=None)
    assert "min_detail" not in msgspec.json.decode(msgspec.json.encode(earlier))
    assert msgspec.json.decode(msgspec.json.encode(earlier), type=FaceLimits) == earlier
    covered = Quality(**{name: getattr(GOOD, name) for name in Quality.__slots__} | {"detail": 0.0})
    assert find_fault(covered, earlier) is None
    assert worst_share(covered, earlier) < 1.0


def test_detail_that_averaging_takes_away_is_sharp():
    noise = np.random.default_rng(0).uniform(0, 255, (100, 90)).astype(np.float32)
    slope = np.tile(np.arange(90, dtype=np.float32), (100, 1))
    assert blur(noise) < 0.2
    assert blur(slope + slope[:, ::-1]) == 1.0  # one level: nothing to take away
    assert blur(slope) == 1.0


def test_the_direction_that_has_less_detail_decides():
    stripes = np.tile(np.array([0, 255], np.float32), (100, 50))
    assert blur(stripes) == blur(stripes.T) == 1.0


def test_blur_is_the_same_in_any_light():
    image = np.random.default_rng(0).uniform(0, 255, (100, 90)).astype(np.float32)
    image += np.linspace(0, 400, 90, dtype=np.float32)
    assert blur(image * np.float32(0.1) + 7) == pytest.approx(blur(image), abs=1e-4)


def test_each_smoothing_is_more_blur():
    image = np.random.default_rng(0).uniform(0, 255, (100, 90))
    found = []
    for _ in range(4):
        found.append(blur(image.astype(np.float32)))
        image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, (1, 1), (0, 1))) / 4
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.05


def test_a_face_turned_out_of_sight_is_measured_all_the_same(chip):
    assert 0.0 <= measure(face(np.full((5, 2), 75.0)), chip, SAME, (150, 150)).blur <= 1.0


def test_a_good_face_has_no_fault():
    assert find_fault(GOOD, LIMITS) is None


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (
            {"outside": 0.3},
            "face_cut_off",
            "is cut by the frame: 30% of it lies outside, at most 25% may; bring the face",
        ),
        ({"yaw": -26.0}, "face_turned_away", "is turned to the side by 26 degrees, at most 25 are allowed; look"),
        ({"pitch": 31.0}, "face_turned_away", "is turned down by 31 degrees, at most 20"),
        ({"pitch": -21.0, "yaw": 25.0}, "face_turned_away", "is turned up by 21 degrees"),
        ({"detail": 0.1}, "face_covered", "is covered: a part of it shows nothing; take off"),
        ({"light": 39.0}, "face_too_dark", "is too dark: its light parts reach 39 of 255 levels, 40 are needed; put"),
        ({"glare": 0.5}, "face_too_bright", "is too bright: 50% of it is burnt out, at most 30% may be; go out of"),
        ({"blur": 0.8}, "face_blurred", "is blurred: 0.80 on a scale to 1, at most 0.70 is allowed; hold still"),
    ],
)
def test_a_fault_says_what_is_wrong_and_what_to_do(change, reason, words):
    found = find_fault(Quality(**{name: getattr(GOOD, name) for name in Quality.__slots__} | change), LIMITS)
    assert found[0] == reason
    assert found[1].startswith(words)


def test_a_measure_that_is_no_number_is_refused():
    unknown = Quality(**{name: getattr(GOOD, name) for name in Quality.__slots__} | {"outside": float("nan")})
    assert find_fault(unknown, LIMITS)[0] == "face_cut_off"


def test_at_its_limits_a_face_is_taken():
    edge = Quality(outside=0.25, yaw=-25.0, pitch=20.0, detail=0.12, light=40.0, glare=0.3, blur=0.7)
    assert find_fault(edge, LIMITS) is None


def test_of_several_faults_the_first_is_named():
    bad = Quality(outside=1.0, yaw=90.0, pitch=90.0, detail=0.0, light=0.0, glare=1.0, blur=1.0)
    order = []
    for name, good in (("outside", 0.0), ("yaw", 0.0), ("light", 99.0), ("glare", 0.0), ("detail", 1.0), ("blur", 0.0)):
        order.append(find_fault(bad, LIMITS)[0])
        values = {field: getattr(bad, field) for field in Quality.__slots__} | {name: good}
        bad = Quality(**values | ({"pitch": 0.0} if name == "yaw" else {}))
    assert tuple(order) == QUALITY_FAULTS


@pytest.mark.parametrize(
    ("change", "share"),
    [
        ({}, 0.5 / 0.7),
        ({"outside": 0.2}, 0.8),
        ({"yaw": -25.0}, 1.0),
        ({"pitch": 18.0}, 0.9),
        ({"detail": 0.125}, 0.96),
        ({"light": 42.0}, 40 / 42),
        ({"light": 0.0}, np.inf),
        ({"glare": 0.27}, 0.9),
        ({"blur": 0.9}, 0.9 / 0.7),
    ],
)
def test_how_good_a_face_is_goes_by_the_limit_that_it_is_nearest_to(change, share):
    quality = Quality(**{name: getattr(GOOD, name) for name in Quality.__slots__} | change)
    assert worst_share(quality, LIMITS) == pytest.approx(share)


def test_limits_are_a_part_of_the_manifest():
    assert msgspec.json.decode(msgspec.json.encode(LIMITS), type=FaceLimits) == LIMITS
