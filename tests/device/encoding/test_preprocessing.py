"""Preprocessing: what a picture becomes, held still, and which pictures are refused."""

import hashlib
import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_image, prepare, require_content, scale
from edge_oneshot_device.errors import InputError
from tests.raising import raises
from tests.samples.pictures import encoded

# Of the picture of `ripples`, made 8 high and 9 wide: row 3 of the first channel, and the
# SHA-256 of all of it. A change here changes what every enrolled template means.
GOLDEN = [
    ("grey", "box", [80, 129, 99, 117, 131, 119, 122, 117, 96], "fb1801c2a7ee1c0f"),
    ("grey", "bilinear", [104, 127, 112, 127, 128, 123, 118, 123, 114], "95409ddfbb5c3746"),
    ("grey", "hamming", [97, 128, 98, 124, 130, 121, 118, 124, 108], "7adccaa06806024e"),
    ("grey", "bicubic", [97, 130, 109, 127, 130, 123, 114, 121, 109], "3b32cf31de2a147b"),
    ("grey", "lanczos", [95, 131, 108, 128, 130, 124, 110, 121, 108], "e164398978d70cc2"),
    ("rgb", "box", [91, 127, 142, 109, 140, 116, 112, 104, 146], "708260996edc1c79"),
    ("rgb", "bilinear", [113, 138, 130, 111, 135, 124, 119, 111, 141], "80d1f10e33a64b71"),
    ("rgb", "hamming", [108, 133, 129, 104, 133, 115, 118, 103, 148], "e88b07e13134733a"),
    ("rgb", "bicubic", [109, 143, 132, 108, 134, 122, 116, 105, 145], "5f98d50e902011a2"),
    ("rgb", "lanczos", [108, 149, 130, 108, 132, 124, 114, 102, 147], "a769accf1dba3e25"),
]


def make_section(colour: str = "grey", *, size: tuple[int, int] = (8, 8), resize: str = "box") -> InputSection:
    channels = 1 if colour == "grey" else 3
    return InputSection(
        height=size[1], width=size[0], colour=colour, resize=resize, mean=(0.0,) * channels, scale=(1.0,) * channels,
        value_range=(0.0, 255.0), min_contrast=16,
    )  # fmt: skip


def ripples() -> Image.Image:
    y, x, channel = np.mgrid[0:23, 0:31, 0:3]
    return Image.fromarray(((7 * x * x + 13 * y * y + 5 * x * y + 60 * channel * x) % 256).astype(np.uint8))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels begin: whoever decodes it finds nothing."""
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


@pytest.mark.parametrize(("colour", "resize", "row", "digest"), GOLDEN)
def test_preprocessing_gives_the_golden_pixels(colour, resize, row, digest):
    pixels = load_image(encoded(ripples()), make_section(colour, size=(9, 8), resize=resize))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (8, 9, 1 if colour == "grey" else 3)
    assert pixels[3, :, 0].tolist() == row
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == digest


def test_a_path_its_content_and_the_decoded_image_give_the_same(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(ripples()))
    expected = prepare(ripples(), make_section())
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(load_image(source, make_section()), expected)
    assert expected.flags.writeable


def test_an_image_of_the_models_size_passes_unchanged():
    grey, colour = noise(8, 8), noise(8, 8, 3)
    for resize in ("box", "bilinear", "hamming", "bicubic", "lanczos"):
        assert np.array_equal(load_image(encoded(Image.fromarray(grey)), make_section(resize=resize))[..., 0], grey)
        rgb = load_image(encoded(Image.fromarray(colour)), make_section("rgb", resize=resize))
        assert np.array_equal(rgb, colour)


def test_reducing_averages_all_pixels():
    blocks = noise(8, 8)
    picture = np.kron(blocks, np.ones((5, 5), dtype=np.uint8)).astype(np.int16)
    picture[::5, ::5] += np.where(picture[::5, ::5] > 127, -25, 25)  # one pixel of 25: the mean moves by 1
    pixels = load_image(encoded(Image.fromarray(picture.astype(np.uint8))), make_section())
    assert np.array_equal(pixels[..., 0], np.where(blocks > 127, blocks - 1, blocks + 1))


def test_grey_is_the_luma_of_itu_r_601():
    colour = noise(8, 8, 3)
    luma = colour.astype(np.float64) @ (0.299, 0.587, 0.114)
    grey = load_image(encoded(Image.fromarray(colour)), make_section())[..., 0]
    assert np.abs(grey - luma).max() < 0.51


def test_a_grey_picture_has_three_equal_channels_as_rgb():
    pixels = load_image(encoded(Image.fromarray(noise(8, 8))), make_section("rgb"))
    assert np.array_equal(pixels, np.repeat(noise(8, 8)[..., np.newaxis], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_turned_upright_by_its_exif_tag(orientation, format_):
    upright = np.kron(noise(8, 8), np.ones((8, 8), dtype=np.uint8))
    # How a camera held this way stores it: the inverse of what EXIF 2.32, 4.6.4, says a reader does.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: np.rot90(upright, 2).T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = encoded(Image.fromarray(np.ascontiguousarray(stored)), format_, exif=exif, quality=95)
    pixels = load_image(picture, make_section())[..., 0]
    assert np.abs(pixels.astype(int) - noise(8, 8)).max() <= (0 if format_ == "PNG" else 12)


def test_damaged_exif_is_no_reason_to_refuse_a_picture():
    picture = encoded(Image.fromarray(noise(8, 8)), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(load_image(picture, make_section())[..., 0], noise(8, 8))


def transparent_left_half(mode: str) -> Image.Image:
    alpha = np.zeros((8, 8), dtype=np.uint8)
    alpha[:, 4:] = 255
    image = Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_a_transparent_picture_lies_on_white(mode, format_):
    options = {"lossless": True} if format_ == "WEBP" else {}
    picture = encoded(transparent_left_half(mode).convert("RGBA" if format_ == "WEBP" else mode), format_, **options)
    for colour in ("grey", "rgb"):
        pixels = load_image(picture, make_section(colour))
        assert (pixels[:, :4] == 255).all()
        assert (pixels[:, 4:] == 0).all()


def test_half_transparent_ink_is_half_as_dark():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert set(load_image(encoded(image), make_section()).ravel().tolist()) == {127}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_transparent_colour_lies_on_white(mode):
    black = np.zeros((8, 8), dtype=np.uint8)
    black[:, 4:] = 255
    image = Image.fromarray(black).convert(mode)
    transparency = {"RGB": (0, 0, 0), "P": image.getpixel((0, 0))}.get(mode, 0)
    assert (load_image(encoded(image, transparency=transparency), make_section()) == 255).all()
    assert (load_image(encoded(image), make_section())[:, :4] == 0).all()


def test_a_palette_with_partly_transparent_colours_lies_on_white():
    image = Image.fromarray(np.array([[0, 1] * 4] * 8, dtype=np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 200, 200, 200])
    pixels = load_image(encoded(image, transparency=bytes([128, 255])), make_section())
    assert pixels[0, :, 0].tolist() == [127, 200] * 4


def test_a_palette_picture_is_resized_in_its_colours_not_its_numbers():
    image = Image.fromarray(np.array([[0, 2] * 8] * 16, dtype=np.uint8)).convert("P")
    image.putpalette([100, 100, 100, 0, 0, 0, 200, 200, 200])
    for format_ in ("PNG", "BMP"):
        assert (load_image(encoded(image, format_), make_section()) == 150).all()


def test_a_one_bit_picture_is_resized_in_grey():
    image = Image.fromarray(np.array([[0, 255] * 8] * 16, dtype=np.uint8)).convert("1")
    for format_ in ("PNG", "BMP"):
        assert (load_image(encoded(image, format_), make_section()) == 128).all()


def test_sixteen_bits_are_scaled_not_clipped():
    levels = (np.arange(64, dtype=np.uint16) * 4).reshape(8, 8)
    picture = encoded(Image.fromarray(levels * 257))
    assert np.array_equal(load_image(picture, make_section())[..., 0], levels)
    assert np.array_equal(load_image(picture, make_section("rgb"))[..., 2], levels)


def test_sixteen_bits_are_rounded_to_the_nearest_level():
    values = np.array([0, 128, 129, 65535 - 129, 65535 - 128, 65535, 256, 257], dtype=np.uint16)
    pixels = load_image(encoded(Image.fromarray(np.tile(values, (8, 1)))), make_section())
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255, 1, 1]


def test_a_cmyk_jpeg_has_its_colours():
    ink = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    ink.paste((0, 255, 255, 0), (8, 0, 16, 16))
    pixels = load_image(encoded(ink, "JPEG", quality=95), make_section("rgb")).astype(int)
    assert np.abs(pixels[:, :3] - 255).max() <= 6
    assert np.abs(pixels[:, 5:] - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_a_photo_far_larger_than_the_model_looks_the_same_decoded_at_part_of_its_size(colour):
    y, x, channel = np.mgrid[0:960, 0:1280, 0:3]
    waves = 127.5 + 60 * np.sin(x / 97 + channel) + 60 * np.cos(y / 83)
    photo = encoded(Image.fromarray(waves.astype(np.uint8)), "JPEG", quality=95)
    section = make_section(colour, size=(48, 36), resize="bilinear")
    with Image.open(io.BytesIO(photo)) as whole:
        expected = whole.convert("L" if colour == "grey" else "RGB").resize((48, 36), Image.Resampling.BILINEAR)
    pixels = load_image(photo, section).astype(int)
    assert np.abs(pixels - np.asarray(expected, dtype=int).reshape(pixels.shape)).max() <= 4
    small = load_image(encoded(Image.open(io.BytesIO(photo)).reduce(2), "JPEG", quality=95), section).astype(int)
    assert np.abs(pixels - small).max() <= 4


def test_an_animation_counts_by_its_first_frame():
    frames = [Image.fromarray(np.full((8, 8), level, dtype=np.uint8)) for level in (40, 200)]
    for format_, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        picture = encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)
        assert set(load_image(picture, make_section()).ravel().tolist()) == {40}


def test_of_a_jpeg_with_several_pictures_as_phones_write_it_the_first_counts():
    first, second = (Image.fromarray(np.full((64, 64, 3), level, dtype=np.uint8)) for level in (40, 200))
    picture = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.abs(load_image(picture, make_section()).astype(int) - 40).max() <= 2
    film = encoded(first, "JPEG") + random.Random(7).randbytes(3_000_000)
    assert np.array_equal(load_image(film, make_section()), load_image(encoded(first, "JPEG"), make_section()))


def test_the_path_of_a_refused_picture_is_named(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    with raises(InputError, match=r"notes\.png is no PNG, JPEG, HEIC, AVIF, WebP or BMP file", reason="not_an_image"):
        load_image(path, make_section())


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"\xff\xd8\xff", b"%!PS-Adobe-3.0"]
)
def test_what_is_no_picture_is_refused(content):
    with raises(InputError, reason="not_an_image"):
        load_image(content, make_section())


@pytest.mark.parametrize("format_", ["GIF", "PPM", "TIFF", "PCX", "SGI", "TGA"])
def test_formats_that_nobody_asked_for_are_not_decoded(format_):
    with raises(InputError, reason="not_an_image"):
        load_image(encoded(ripples(), format_), make_section())


def test_a_missing_picture_and_a_folder_are_refused(tmp_path):
    with raises(InputError, reason="not_found"):
        load_image(tmp_path / "missing.png", make_section())
    with raises(InputError, reason="not_a_file"):
        load_image(tmp_path, make_section())


@pytest.mark.parametrize(
    ("width", "height"),
    [(20_000, 10), (10, 16_385), (16_384, 16_384), (7_072, 7_071), (60_000, 60_000), (2**31 - 1, 1)],
)
def test_a_picture_too_large_is_refused_before_it_is_decoded(width, height):
    with raises(InputError, match="too large", reason="image_too_large"):
        load_image(png_header(width, height), make_section())


def test_the_largest_picture_allowed_is_only_missing_its_content():
    with raises(InputError, reason="image_truncated"):
        load_image(png_header(16_384, 3_051), make_section())


def test_a_real_picture_20000_pixels_wide_is_refused_with_its_size():
    picture = encoded(Image.new("L", (20_000, 9)))
    with pytest.raises(InputError, match="20000 x 9 pixels; at most 16384 a side and 50,000,000 in all"):
        load_image(picture, make_section())


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_picture_cut_short_is_refused(format_):
    picture = encoded(Image.fromarray(noise(64, 64)).convert("RGB"), format_)
    with raises(InputError, reason=("not_an_image" if format_ == "WEBP" else "image_truncated")):
        load_image(picture[: len(picture) // 2], make_section())


def test_pixels_without_a_meaning_in_eight_bits_are_refused():
    with raises(InputError, match="type F", reason="not_an_image"):
        prepare(Image.new("F", (8, 8)), make_section())
    wide = Image.fromarray(np.full((8, 8), 70_000, dtype=np.int32))
    with pytest.raises(InputError, match="32 bits"):
        prepare(wide, make_section())


FORMATS = [("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("BMP", "RGB"), ("WEBP", "RGB")]


@pytest.mark.parametrize(("format_", "mode"), FORMATS)
def test_a_damaged_picture_is_read_or_refused_in_one_line(format_, mode):
    whole = encoded(ripples().convert(mode), format_)

    @given(st.integers(0, len(whole) - 1), st.binary(max_size=6), st.integers(0, 6))
    def check(position: int, inserted: bytes, removed: int) -> None:
        damaged = whole[:position] + inserted + whole[position + removed :]
        try:
            pixels = load_image(damaged, make_section())
        except InputError as error:
            refusal = error
        else:
            assert pixels.shape == (8, 8, 1)
            return
        assert refusal.reason in {"not_an_image", "image_truncated", "image_too_large"}
        assert "\n" not in str(refusal)

    check()


def test_a_blank_picture_has_no_content():
    section = make_section()
    blank = load_image(encoded(Image.new("L", (50, 50), 200)), section)
    with raises(InputError, match=r"contrast is 0 of 255 levels, 16 are needed", reason="no_content"):
        require_content(blank, section)


def test_the_contrast_asked_for_is_the_least_that_passes():
    section = make_section()
    pixels = np.full((8, 8, 1), 250, dtype=np.uint8)
    pixels[3, 3] = 250 - 16
    require_content(pixels, section)
    pixels[3, 3] += 1
    with raises(InputError, reason="no_content"):
        require_content(pixels, section)


def test_contrast_in_one_channel_is_content_and_a_single_colour_is_none():
    section = make_section("rgb")
    red = np.tile(np.array([255, 0, 0], dtype=np.uint8), (8, 8, 1))
    with raises(InputError, reason="no_content"):
        require_content(red, section)
    red[0, 0, 2] = 16
    require_content(red, section)


def test_scaling_subtracts_the_mean_and_divides_per_channel():
    section = InputSection(
        height=8, width=8, colour="rgb", resize="box", mean=(0.0, 127.5, 255.0), scale=(255.0, 127.5, -255.0),
        value_range=(-1.0, 1.0), min_contrast=1,
    )  # fmt: skip
    pixels = np.array([[0, 0, 0], [255, 255, 255], [51, 51, 51]], dtype=np.uint8)
    scaled = scale(pixels, section)
    assert scaled.dtype == np.float32
    assert scaled.tolist() == np.float32([[0, -1, 1], [1, 1, 0], [0.2, -0.6, 0.8]]).tolist()
