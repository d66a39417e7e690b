"""Framing by ink: where and how large somebody drew makes no difference."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.eight_bit import MAX_PIXELS, MAX_SIDE
from edge_oneshot_device.encoding.framing import frame_ink
from edge_oneshot_device.encoding.preprocessing import prepare

SECTION = InputSection(
    height=48, width=48, colour="grey", resize="bilinear", mean=(0.0,), scale=(1.0,), value_range=(0.0, 255.0),
    min_contrast=16, framing="ink",
)  # fmt: skip


def drawing(size=(105, 105), box=(20, 30, 80, 60), paper=255, ink=0, mode="L") -> Image.Image:
    image = Image.new(mode, size, (paper,) * len(mode))
    draw = ImageDraw.Draw(image)
    draw.ellipse(box, outline=(ink,) * len(mode), width=3)
    return image


def ink_box(image: Image.Image) -> tuple[int, int, int, int]:
    dark = np.asarray(image.convert("L")) < 128
    columns, rows = np.flatnonzero(dark.any(axis=0)), np.flatnonzero(dark.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def framed_box(image: Image.Image) -> tuple[float, tuple[float, ...]]:
    """Side of the square, and the ink's box in it."""
    framed, (near, upper, far, lower) = frame_ink(image)
    assert far - near == lower - upper
    assert 0 <= near < far <= framed.width
    assert 0 <= upper < lower <= framed.height
    left, top, right, bottom = ink_box(framed)
    return far - near, (left - near, top - upper, right - near, bottom - upper)


def test_a_drawing_whose_mass_and_box_agree_is_in_the_middle():
    side, (left, top, right, bottom) = framed_box(drawing(box=(20, 30, 79, 59)))
    assert (right - left, bottom - top) == (60, 30)
    assert left + right == pytest.approx(side, abs=1 / 8)
    assert top + bottom == pytest.approx(side, abs=1 / 8)


def test_side_and_middle_are_those_of_box_and_mass():
    image = Image.new("L", (100, 100), 255)
    image.paste(0, (10, 20, 30, 80))  # a bar
    image.paste(0, (30, 60, 60, 80))  # and its foot
    inked = np.argwhere(np.asarray(image) == 0)[:, ::-1] + 0.5
    centroid = inked.mean(axis=0)
    spread = np.sqrt(((inked - centroid) ** 2).sum(axis=1).mean())
    side, (left, top, right, bottom) = framed_box(image)
    assert side == pytest.approx(5 / 8 * (60 + 3 * spread), abs=1 / 8)
    assert side > 62.5
    assert (right - left, bottom - top) == (50, 60)
    # where the box's own middle comes to lie, from the square's
    assert left + right - side == pytest.approx(35 - centroid[0], abs=1 / 4)
    assert top + bottom - side == pytest.approx(50 - centroid[1], abs=1 / 4)


def test_no_ink_is_left_out():
    image = Image.new("L", (100, 100), 255)
    image.paste(0, (10, 20, 30, 80))
    image.paste(0, (30, 49, 99, 51))  # a long thin tail
    side, (left, _, right, _) = framed_box(image)
    assert right - left == 89
    assert right == pytest.approx(side, abs=1 / 8)


@pytest.mark.parametrize("shift", [(-15, -25), (20, 40), (0, 10)])
def test_a_drawing_elsewhere_is_the_same_drawing(shift):
    here = prepare(drawing(box=(20, 30, 80, 60)), SECTION)
    there = prepare(drawing(box=(20 + shift[0], 30 + shift[1], 80 + shift[0], 60 + shift[1])), SECTION)
    assert np.abs(here.astype(int) - there).max() <= 40  # half a pixel off the middle at most
    assert np.abs(here.astype(int) - there).mean() < 3


def test_a_drawing_of_twice_the_size_is_nearly_the_same():
    small = prepare(drawing(size=(105, 105), box=(20, 30, 80, 60)), SECTION)
    large = prepare(drawing(size=(210, 210), box=(40, 60, 160, 120)).resize((210, 210)), SECTION)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.8


def test_a_dot_stays_small():
    side, (left, _, right, _) = framed_box(drawing(box=(50, 50, 55, 55)))
    assert side == 105 * 5 / 8
    assert right - left == 6


def test_ink_at_the_edge_gets_paper_around_it_as_light_as_the_lightest_pixel():
    framed, (near, _, far, _) = frame_ink(drawing(box=(0, 0, 104, 104), paper=200, ink=50))
    assert far - near > 120
    assert np.asarray(framed)[0, 0] == 200
    assert np.asarray(framed).min() == 50


def test_colours_keep_their_channels():
    assert frame_ink(drawing(mode="RGB"))[0].mode == "RGB"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_sheet_comes_back_as_it_is(level):
    sheet = Image.new("L", (30, 20), level)
    assert frame_ink(sheet) == (sheet, (0, 0, 30, 20))
    assert (prepare(sheet, SECTION) == level).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 1)])
def test_the_smallest_images_are_framed_too(size):
    image = Image.new("L", size, 255)
    image.putpixel((0, 0), 0)
    assert prepare(image, SECTION).shape == (48, 48, 1)


def test_framing_is_held_still():
    # a change here changes what every enrolled template means
    pixels = prepare(drawing(size=(140, 105), box=(3, 10, 90, 100), paper=240, ink=20), SECTION)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "9fad228bce83bd36"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_long_thin_strip_does_not_become_a_square_of_its_length(mode):
    strip = Image.new(mode, (1, MAX_SIDE), (255,) * len(mode))
    for end in (0, MAX_SIDE - 1):
        strip.putpixel((0, end), 0 if mode == "L" else (0, 0, 0))
    framed, _ = frame_ink(strip)
    assert framed.size[0] * framed.size[1] <= MAX_PIXELS
    assert prepare(strip, SECTION).shape == (48, 48, 1)


def test_more_ink_in_a_line_than_fits_a_byte_is_counted():
    image = Image.new("L", (700, 600), 255)
    image.paste(0, (300, 20, 340, 570))  # 550 pixels in each of its columns
    spread = np.sqrt((40**2 - 1) / 12 + (550**2 - 1) / 12)
    side, (left, top, right, bottom) = framed_box(image)
    assert side == pytest.approx(5 / 8 * (550 + 3 * spread), abs=1 / 8)
    assert (right - left, bottom - top) == (40, 550)
    assert left + right == pytest.approx(side, abs=1 / 8)
    assert top + bottom == pytest.approx(side, abs=1 / 8)
