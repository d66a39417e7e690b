"""HEIC and AVIF, as phones write them: read where their decoders are installed, else refused by name."""

import io
import subprocess
import sys
import zlib
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding import preprocessing
from edge_oneshot_device.encoding.heif import INSTALL, MAX_HEIF_PIXELS, heif_kind
from edge_oneshot_device.encoding.preprocessing import load_image, load_photo
from edge_oneshot_device.errors import InputError
from tests.raising import raises
from tests.samples.pictures import encoded

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no decoder of AVIF")
SECTION = InputSection(
    height=8, width=8, colour="grey", resize="box", mean=(0.0,), scale=(1.0,), value_range=(0.0, 255.0), min_contrast=16
)
KINDS = ["HEIC", pytest.param("AVIF", marks=needs_avif)]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="1"/></x:xmpmeta>'


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """However busy the machine is: what counts here is the processor's time."""
    monkeypatch.setattr("edge_oneshot_device.encoding.bounded._REPLY_SECONDS", 3600.0)


@pytest.fixture(scope="module")
def heif() -> ModuleType:
    return pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")


def written(kind: str, image: Image.Image, **options: object) -> bytes:
    """A picture as a HEIC or an AVIF file."""
    if kind == "AVIF":
        return encoded(image, "AVIF", speed=10, **options)
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    others = [heif.from_pillow(one)[0] for one in options.pop("append_images", [])]
    file, content = heif.from_pillow(image), io.BytesIO()
    # without options, it takes what Pillow knows of the image
    file[0].info.update(exif=options.pop("exif", None), xmp=options.pop("xmp", None))
    file.save(content, append_images=others, **options)
    return content.getvalue()


def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (8, 8), dtype=np.uint8)


def squares() -> np.ndarray:
    """`noise` in squares of 16 pixels."""
    return np.kron(noise(), np.ones((16, 16), dtype=np.uint8))


def picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


def differs(content: bytes, expected: np.ndarray) -> int:
    """The largest difference of the pixels that come out."""
    return int(np.abs(load_image(content, SECTION)[..., 0].astype(int) - expected).max())


def orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def other_size(content: bytes, size: tuple[int, int]) -> bytes:
    """A file whose boxes tell of this size."""
    sides = b"".join(side.to_bytes(4) for side in size)
    parts = content.split(b"ispe\0\0\0\0")
    return b"ispe\0\0\0\0".join([parts[0], *(sides + part[8:] for part in parts[1:])])


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_read_whatever_it_is_called(kind, tmp_path):
    for name in ("photo.jpg", "photo.heic", "photo.avif", "photo"):
        path = tmp_path / name
        path.write_bytes(written(kind, picture(squares()), quality=95))
        assert differs(path, noise()) <= 8
    assert load_photo(path, 32).size == (32, 32)
    assert load_photo(path, 100).size == (128, 128)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_picture_is_turned_upright_once(kind, value):
    upright = squares()
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: np.rot90(upright, 2).T, 8: np.rot90(upright, -1),
    }[value]  # fmt: skip
    content = written(kind, picture(stored), quality=95, exif=orientation(value))
    assert (b"irot" in content or b"imir" in content) == (value > 1)
    assert differs(content, noise()) <= 8
    photo = np.asarray(load_photo(content, 128).convert("L")).astype(int)
    assert np.abs(photo - upright).mean() < 8


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_that_tells_of_another_orientation_than_the_boxes_turns_nothing(kind):
    height = Image.Exif()
    height[0x0101] = 6
    content = written(kind, picture(squares()), quality=95, exif=height.tobytes(), xmp=XMP)
    told, other = height.tobytes()[6:], orientation(6)[6:]
    assert content.count(told) == 1
    assert len(told) == len(other)
    assert b"irot" not in content
    told_by_xmp, other_by_xmp = b'Orientation="1"', b'Orientation="6"'
    assert content.count(told_by_xmp) == 1
    for one in (content.replace(told, other), content.replace(told_by_xmp, other_by_xmp)):
        assert differs(one, noise()) <= 8


def test_of_several_pictures_the_primary_one_counts(heif):
    first, second = (picture(np.full((64, 64), level, dtype=np.uint8)) for level in (40, 200))
    for primary, level in ((0, 40), (1, 200)):
        file = heif.from_pillow(first)
        file.add_from_pillow(second)
        content = io.BytesIO()
        file.save(content, primary_index=primary, save_all=True)
        assert set(load_image(content.getvalue(), SECTION).ravel().tolist()) <= set(range(level - 2, level + 3))


@needs_avif
def test_of_an_animation_the_first_frame_counts():
    first, second = (picture(np.full((64, 64), level, dtype=np.uint8)) for level in (40, 200))
    content = encoded(first, "AVIF", save_all=True, append_images=[second])
    assert set(load_image(content, SECTION).ravel().tolist()) <= set(range(38, 43))


@pytest.mark.parametrize("kind", KINDS)
def test_a_transparent_picture_lies_on_white(kind):
    image = picture(np.zeros((64, 64), dtype=np.uint8))
    image.putalpha(Image.fromarray(np.repeat([[0], [255]], 32, axis=0).repeat(64, axis=1).astype(np.uint8)))
    pixels = load_image(written(kind, image, quality=95), SECTION)[..., 0]
    assert (pixels[:3] > 250).all()
    assert (pixels[5:] < 6).all()


def test_ten_bits_and_tiles_are_read(heif):
    values = np.repeat(squares()[..., np.newaxis], 3, axis=2).astype("<u2") * 257
    deep = heif.from_bytes("RGB;16", (128, 128), values.tobytes())
    content = io.BytesIO()
    deep.save(content, quality=95)
    assert differs(content.getvalue(), noise()) <= 8
    large = np.kron(squares(), np.ones((5, 5), dtype=np.uint8))
    assert differs(written("HEIC", picture(large), quality=80, tile_size=256), noise()) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_too_large_is_refused_by_its_header_with_the_limit_of_its_kind(kind):
    content = written(kind, picture(squares()))
    assert MAX_HEIF_PIXELS == 30_000_000
    limit = f"at most 16384 a side and 30,000,000 in all are read of {kind}; save it smaller, or as a JPEG"
    with raises(InputError, match=f"is too large: 8064 x 6048 pixels; {limit}", reason="image_too_large"):
        load_image(other_size(content, (8064, 6048)), SECTION)


def is_read_or_refused(content: bytes) -> bool:
    """Whether it comes to an image or to an error of one line."""
    try:
        pixels = load_image(content, SECTION)
    except InputError as error:
        return "\n" not in str(error)
    return pixels.shape == (8, 8, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_picture_is_read_or_refused_in_one_line(kind):
    whole = written(kind, picture(squares()[:64, :64]), quality=50)

    @settings(max_examples=60)
    @given(st.integers(0, len(whole) - 1), st.binary(max_size=6), st.integers(0, 6))
    def check(position: int, inserted: bytes, removed: int) -> None:
        damaged = whole[:position] + inserted + whole[position + removed :]
        assert is_read_or_refused(damaged)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_cut_short_or_of_a_wrong_size_is_refused_or_read_within_the_limits(kind):
    whole = written(kind, picture(squares()))
    for content in (whole[: len(whole) // 2], whole[:20], whole[:12] + bytes(2000)):
        with pytest.raises(InputError) as caught:
            load_image(content, SECTION)
        assert caught.value.reason in ("not_an_image", "image_truncated")
    for size in ((16, 16), (4000, 4000), (0, 0), (1, 16_384)):
        assert is_read_or_refused(other_size(whole, size))


@pytest.mark.parametrize(("kind", "module"), [("HEIC", "_pillow_heif"), ("AVIF", "PIL.AvifImagePlugin")])
@pytest.mark.parametrize("brands", [b"major\0\0\0", b"mif1\0\0\0\0miaf"])
def test_without_its_decoder_a_picture_is_refused_by_name(kind, module, brands, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed, to the worker too
    preprocessing._decoder._stop()
    brand = {"HEIC": b"heic", "AVIF": b"avif"}[kind]
    boxes = brands.replace(b"major", brand) + brand
    path = tmp_path / "IMG_0001.jpg"
    path.write_bytes((8 + len(boxes)).to_bytes(4) + b"ftyp" + boxes + zlib.compress(b"no picture"))
    told = f"{path} is a picture in {kind}, whose decoder is not installed: run {INSTALL[kind]}, or send a JPEG"
    with pytest.raises(InputError) as caught:
        load_photo(path, 8)
    assert (caught.value.reason, str(caught.value), caught.value.exit_code) == ("decoder_missing", told, 2)
    preprocessing._decoder._stop()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0miafavif", "AVIF"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0miafavif", None),  # behind the box
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", None),
        (b"\xff\xff\xff\xffftyp", None),
        (b"\0\0\0\0ftypheic", "HEIC"),
        (b"\xff\xff\xff\xffftypmp42\0\0\0\0" + 100 * b"isom" + b"heic", None),
        (b"", None),
    ],
)
def test_the_kind_is_that_of_the_brands(content, kind):
    assert heif_kind(content) == kind


def test_neither_decoder_is_loaded_before_a_picture_needs_it():
    code = "import sys; from edge_oneshot_device.encoding import decoding; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "PIL.JpegImagePlugin" in loaded
    assert not {"pillow_heif", "_pillow_heif", "PIL.AvifImagePlugin", "PIL._avif"} & set(loaded)
