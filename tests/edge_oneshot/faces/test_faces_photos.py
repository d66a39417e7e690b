"""From a photo to the chip, with the real nets and a photo of a package."""

import io
from importlib import util

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageFilter

from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot.faces.packages import ASTRONAUT, read_package_file
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from tests.raising import raises
from tests.samples.pictures import encoded

ORIENTED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
EYES = ((204, 102), (248, 106))  # of the astronaut, about


@pytest.fixture(scope="module")
def finder(faces_extra):  # noqa: ARG001 (skips)
    section = face_input()
    return FaceFinder(face_files(), section, section.face)


@pytest.fixture(scope="module")
def photo(finder):  # noqa: ARG001 (skips)
    return load_photo(read_package_file(ASTRONAUT), 1000)


@pytest.fixture(scope="module")
def chip(finder, photo):
    return finder.chip(photo)


def points(finder, photo):
    """The five points of the only face."""
    (face,) = finder.find(photo)
    return face.detection.points


def as_in(reference):
    """Points like these, but for 0.15 of the distance between the eyes."""
    return pytest.approx(reference, abs=0.15 * float(np.hypot(*(reference[1] - reference[0]))))


def test_the_only_face_is_found_with_its_eyes_where_they_are(finder, photo):
    (face,) = finder.find(photo)
    assert face.detection.score > 0.9
    assert face.detection.points[:2] == pytest.approx(np.array(EYES), abs=6)


def test_pixels_and_open_files_give_the_chip_of_their_file(finder, photo, chip):
    for source in (photo, np.asarray(photo), io.BytesIO(encoded(photo)), Image.open(io.BytesIO(encoded(photo)))):
        np.testing.assert_array_equal(finder.load(source), finder.load(encoded(photo)))
    np.testing.assert_array_equal(finder.load(photo), chip)


def test_of_many_photos_a_sharp_one_in_good_light_is_rated_best(finder, photo):
    blurred = photo.filter(ImageFilter.GaussianBlur(1.5))
    dark = photo.point(lambda level: level // 5)
    best, *rest = (finder.rate(one) for one in (photo, blurred, dark))
    assert 0.0 < best < min(rest)
    assert max(rest) <= 1.0
    with raises(InputError, reason="no_face"):
        finder.rate(photo.crop((0, 300, 100, 400)))


def test_the_chip_has_its_points_on_the_template(finder, chip):
    section = face_input()
    enlarged = Image.new("RGB", (336, 336))
    enlarged.paste(Image.fromarray(chip), (112, 112))
    (face,) = finder.find(enlarged)
    for place in section.face.template:
        found = face.detection.points[place.point] - 112
        assert found == pytest.approx((place.x * 112, place.y * 112), abs=8)


@pytest.mark.parametrize("orientation", ORIENTED)
def test_a_photo_that_lies_on_its_side_is_turned_upright(finder, photo, chip, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = photo.transpose(ORIENTED[orientation])
    np.testing.assert_array_equal(finder.load(encoded(turned, exif=exif)), chip)


def test_grey_and_cmyk_photos_are_read(finder, photo):
    for other in (encoded(photo.convert("L")), encoded(photo.convert("CMYK"), "JPEG", quality=95)):
        assert points(finder, load_photo(other, PHOTO_SIDE)) == as_in(points(finder, photo))


@pytest.mark.parametrize("box", [(130, 0, 330, 512), (0, 20, 512, 260)])
def test_a_narrow_photo_shows_the_same_face_as_with_black_about_it(finder, photo, box):
    narrow, square = photo.crop(box), Image.new("RGB", (512, 512))
    corner = (512 - narrow.width) // 2, (512 - narrow.height) // 2
    square.paste(narrow, corner)
    (face,), (same,) = finder.find(narrow), finder.find(square)
    assert face.detection.points + corner == as_in(same.detection.points)


def test_a_tilted_head_has_its_points_turned_along(finder, photo):
    straight = points(finder, photo)
    turn, middle = np.exp(1j * np.deg2rad(20)), 256 + 256j  # in pixels, whose rows go down
    back = (points(finder, photo.rotate(20, Image.Resampling.BICUBIC)) @ (1, 1j) - middle) * turn + middle
    assert np.column_stack([back.real, back.imag]) == as_in(straight)


def test_a_face_is_found_in_a_photo_of_12_megapixels_as_in_a_small_one(finder, photo):
    large = load_photo(encoded(photo.resize((4000, 3000), Image.Resampling.BICUBIC), "JPEG", quality=95), PHOTO_SIDE)
    narrow = photo.resize((1000, 750), Image.Resampling.BICUBIC)
    assert points(finder, large) * 750 / large.height == as_in(points(finder, narrow))


def test_a_large_photo_that_is_no_jpeg_is_averaged_down(photo):
    assert load_photo(encoded(photo.resize((2100, 2000))), 1000).size == (1050, 1000)


def test_a_face_that_fills_the_photo_is_found(finder, photo):
    close = points(finder, photo.crop((185, 65, 275, 185)))
    assert close + np.array((185, 65)) == as_in(points(finder, photo))


@pytest.mark.parametrize("picture", ["data/coffee.png", "data/chelsea.png", "data/text.png"])
def test_a_photo_without_a_face_is_refused(finder, picture):
    path = next(iter(util.find_spec(ASTRONAUT.package).submodule_search_locations))
    with raises(InputError, match="shows no face; take another picture", reason="no_face"):
        finder.load(f"{path}/{picture}")


def test_a_photo_of_two_people_is_refused(finder, photo):
    both = Image.new("RGB", (1024, 512))
    both.paste(photo, (0, 0))
    both.paste(photo, (512, 0))
    with raises(InputError, match="shows 2 faces, one is needed", reason="several_faces"):
        finder.chip(both)


def test_a_face_that_is_too_small_is_refused(finder, photo):
    with pytest.raises(
        InputError, match=r"the face in the image is too small: 1\d pixels between the eyes, 20 are"
    ) as caught:
        finder.chip(photo.resize((170, 170), Image.Resampling.BICUBIC))
    assert caught.value.reason == "face_too_small"


def close_up(photo):
    """The astronaut's head."""
    return photo.crop((120, 0, 330, 210)).resize((420, 420), Image.Resampling.BICUBIC)


def swung(photo):
    """Moved by 24 pixels while it was taken."""
    return Image.fromarray(np.mean([np.roll(photo, step, axis=1) for step in range(24)], axis=0).astype(np.uint8))


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda photo: photo.filter(ImageFilter.GaussianBlur(5)), "face_blurred", "is blurred: 0"),
        (swung, "face_blurred", "hold still"),
        (lambda photo: photo.point(lambda level: level // 10), "face_too_dark", "put light on the face"),
        (lambda photo: photo.point(lambda level: min(level * 2, 255)), "face_too_bright", "burnt out, at most 20%"),
        (lambda photo: photo.crop((0, 0, 420, 225)), "face_cut_off", "is cut by the frame"),
    ],
)
def test_a_photo_that_is_not_good_enough_is_refused_with_what_to_do(finder, photo, change, reason, words):
    near = close_up(photo)
    assert finder.chip(near).shape == (112, 112, 3)
    with raises(InputError, match=words, reason=reason) as caught:
        finder.chip(change(near))
    assert "the face in the image" in str(caught.value)


def test_without_limits_any_face_is_taken(photo):
    section = face_input()
    lenient = msgspec.structs.replace(section.face, limits=None)
    blurred = close_up(photo).filter(ImageFilter.GaussianBlur(5))
    assert FaceFinder(face_files(), section, lenient).chip(blurred).shape == (112, 112, 3)


def test_an_image_of_one_level_and_a_strip_show_no_face(finder):
    for size in ((300, 300), (1, 1), (4000, 2)):
        assert finder.find(Image.new("RGB", size, "grey")) == []


def test_the_mesh_is_found_on_request(finder, photo):
    (face,) = finder.find(photo)
    assert finder.mesh(photo, face).points.shape == (468, 2)


def test_the_section_takes_what_sface_takes():
    section = face_input()
    assert section.shape == (112, 112, 3)
    assert section.value_range == (0.0, 255.0)
    assert [place.point for place in section.face.template] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("colour", [(128, 128, 128), (15, 15, 15), (222, 171, 145)], ids=["grey", "black", "skin"])
@pytest.mark.parametrize(
    "box",
    [(0, 0, 512, 103), (0, 0, 512, 108), (188, 92, 220, 114), (200, 140, 248, 164), (0, 150, 512, 512)],
    ids=["down to the eyes", "over the eyes", "over one eye", "over the mouth", "from the mouth down"],
)
def test_a_face_under_a_cover_is_refused(finder, photo, box, colour):
    covered = photo.copy()
    covered.paste(colour, box)
    with raises(InputError, match="is covered: a part of it", reason="face_covered"):
        finder.chip(covered)
