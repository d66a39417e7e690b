"""Framing by ink: where and how large somebody drew makes no difference."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import MAX_PIXELS, MAX_SIDE, frame_ink, prepare

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


def test_the_longer_side_fills_four_fifths_and_the_middle_is_the_middle():
    framed = frame_ink(drawing(box=(20, 30, 79, 59)))
    left, top, right, bottom = ink_box(framed)
    assert framed.size == (75, 75)
    assert (right - left, bottom - top) == (60, 30)
    assert abs((left + right) - 75) <= 1
    assert abs((top + bottom) - 75) <= 1


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
    framed = frame_ink(drawing(box=(50, 50, 55, 55)))
    assert framed.size == (65, 65)
    left, _, right, _ = ink_box(framed)
    assert right - left == 6


def test_ink_at_the_edge_gets_paper_around_it_as_light_as_the_lightest_pixel():
    framed = frame_ink(drawing(box=(0, 0, 104, 104), paper=200, ink=50))
    assert framed.size == (131, 131)
    assert np.asarray(framed)[0, 0] == 200
    assert np.asarray(framed).min() == 50


def test_colours_keep_their_channels():
    assert frame_ink(drawing(mode="RGB")).mode == "RGB"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_sheet_comes_back_as_it_is(level):
    sheet = Image.new("L", (30, 20), level)
    assert frame_ink(sheet) is sheet
    assert (prepare(sheet, SECTION) == level).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 1)])
def test_the_smallest_images_are_framed_too(size):
    image = Image.new("L", size, 255)
    image.putpixel((0, 0), 0)
    assert prepare(image, SECTION).shape == (48, 48, 1)


def test_framing_is_held_still():
    # a change here changes what every enrolled template means
    pixels = prepare(drawing(size=(140, 105), box=(3, 10, 90, 100), paper=240, ink=20), SECTION)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "5007601225c0a1ac"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_long_thin_strip_does_not_become_a_square_of_its_length(mode):
    strip = Image.new(mode, (1, MAX_SIDE), (255,) * len(mode))
    for end in (0, MAX_SIDE - 1):
        strip.putpixel((0, end), 0 if mode == "L" else (0, 0, 0))
    framed = frame_ink(strip)
    assert framed.size[0] * framed.size[1] <= MAX_PIXELS
    assert prepare(strip, SECTION).shape == (48, 48, 1)
