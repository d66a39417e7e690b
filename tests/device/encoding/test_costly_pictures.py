"""Pictures built to cost time or memory: each is read within bounds, or refused, and the next one is read."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding import preprocessing
from edge_oneshot_device.encoding.bounded import MEMORY_BYTES, PROCESSOR_SECONDS
from edge_oneshot_device.encoding.preprocessing import load_image, load_photo
from edge_oneshot_device.errors import InputError
from tests.samples.pictures import encoded

WIDE, HIGH = 16_384, 3_000
SAMSUNGS = (16_320, 12_240)  # the 200 megapixels of a phone
SECTION = InputSection(
    height=48, width=48, colour="grey", resize="bilinear", mean=(0.0,), scale=(1.0,), value_range=(0.0, 255.0),
    min_contrast=16, framing="ink",
)  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], depth: int, colour: int, *before: bytes, interlaced: bool = False) -> bytes:
    """All pixels 0; `before` are chunks before them."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + (size[0] * channels * depth + 7) // 8)
    packer = zlib.compressobj(9)
    pixels = b"".join([packer.compress(row) for _ in range(size[1] + 16 * interlaced)]) + packer.flush()
    header = struct.pack(">2I5B", *size, depth, colour, 0, 0, interlaced)
    palette = [chunk(b"PLTE", bytes(768)), chunk(b"tRNS", bytes(256))] if colour == 3 else []
    parts = [chunk(b"IHDR", header), *palette, *before, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def progressive(size: tuple[int, int], scans: int, between: bytes = b"") -> bytes:
    """Its last scan so many times over."""
    content = encoded(Image.new("L", size, 200), "JPEG", progressive=True, quality=10)
    last = content.rindex(b"\xff\xda")
    return content[:last] + (between + content[last:-2]) * scans + b"\xff\xd9"


def other_size(jpeg: bytes, size: tuple[int, int]) -> bytes:
    """A JPEG whose header tells of this size."""
    place = next(found.start() for found in re.finditer(rb"\xff[\xc0\xc2]\0", jpeg))
    return jpeg[: place + 5] + struct.pack(">2H", size[1], size[0]) + jpeg[place + 9 :]


def within_jpeg(inserted: bytes) -> bytes:
    content = encoded(Image.new("L", (64, 64), 200), "JPEG")
    return content[:2] + inserted + content[2:]


def segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">2BH", 0xFF, kind, len(data) + 2) + data


def exif(entries: bytes, count: int) -> bytes:
    return segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries)


def webp(size: tuple[int, int], frames: int = 1) -> bytes:
    images = [Image.new("RGB", size, (level % 256, 0, 0)) for level in range(frames)]
    return encoded(images[0], "WEBP", save_all=frames > 1, append_images=images[1:], quality=0, method=0)


def other_canvas(content: bytes, size: tuple[int, int]) -> bytes:
    """An animated WebP whose header tells of a canvas of this size."""
    width, height = ((side - 1).to_bytes(3, "little") for side in size)
    return content[:24] + width + height + content[30:]


def bmp(size: tuple[int, int], bits: int, compression: int, data: bytes) -> bytes:
    header = struct.pack("<I2i2H6I", 40, *size, 1, bits, compression, len(data), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + bytes(1024) + data


FROM_THE_REVIEW = {
    "a JPEG of 2,000 scans": lambda: progressive((2048, 2048), 2_000),
    "a JPEG of 20,000 scans": lambda: progressive((2048, 2048), 20_000),
    "a JPEG of 5,000,000 empty segments": lambda: within_jpeg(5_000_000 * segment(0xFE, b"")),
    "a JPEG of 4,000,000 segments of a byte": lambda: within_jpeg(4_000_000 * segment(0xFE, b"x")),
    "a JPEG with filler": lambda: within_jpeg(30_000_000 * b"\xff"),
    "a PPM of comments": lambda: b"P6\n" + 2_000_000 * b"#\n" + b"8 8\n255\n" + bytes(192),
    "a PPM of blanks": lambda: b"P6\n" + 20_000_000 * b" " + b"8 8\n255\n" + bytes(192),
    "a plain PPM of blanks": lambda: b"P3\n8 8\n255\n" + 20_000_000 * b" ",
    "a WebP of 49 megapixels": lambda: webp((16_383, HIGH)),
}
OTHERS = {
    "a PNG of 49 megapixels, RGBA": lambda: png((WIDE, HIGH), 8, 6),
    "a progressive JPEG of 49 megapixels": lambda: encoded(
        Image.new("RGB", (WIDE, HIGH)), "JPEG", progressive=True, quality=1
    ),
    "a progressive JPEG that tells of 200 megapixels": lambda: other_size(progressive((64, 64), 1), SAMSUNGS),
    "a JPEG that tells of 200 megapixels": lambda: other_size(encoded(Image.new("L", (64, 64)), "JPEG"), SAMSUNGS),
    "a PNG of 49 megapixels, 16 bits": lambda: png((WIDE, HIGH), 16, 0),
    "a PNG of 49 megapixels, 16 bits of RGBA": lambda: png((WIDE, HIGH), 16, 6),
    "a PNG of 49 megapixels, a transparent palette": lambda: png((WIDE, HIGH), 8, 3),
    "a PNG of 49 megapixels, interlaced": lambda: png((WIDE, HIGH), 8, 2, interlaced=True),
    "a PNG of 2,000,000 chunks": lambda: png((8, 8), 8, 0, 2_000_000 * chunk(b"tExx", b"")),
    "a PNG of 200,000 texts": lambda: png((8, 8), 8, 0, 200_000 * chunk(b"tEXt", b"a\0b")),
    "a PNG of packed texts": lambda: png((8, 8), 8, 0, 80 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))),
    "a PNG of packed profiles": lambda: png(
        (8, 8), 8, 0, *(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))),) * 60
    ),
    "a JPEG with scans behind a false end": lambda: progressive((2048, 2048), 20_000, segment(0xFE, b"\xff\xd9")),
    "a progressive JPEG of 49 megapixels, CMYK": lambda: encoded(
        Image.new("CMYK", (WIDE, HIGH)), "JPEG", progressive=True, quality=1
    ),
    "a JPEG whose EXIF has 1,000 parts": lambda: within_jpeg(1_000 * segment(0xE1, b"Exif\0\0" + bytes(65_000))),
    "a JPEG whose EXIF counts to 4,000,000,000": lambda: within_jpeg(
        exif(5_000 * struct.pack("<2HII", 0x0112, 2, 4_000_000_000, 8), 5_000)
    ),
    "a JPEG whose EXIF repeats itself": lambda: within_jpeg(
        exif(5_400 * struct.pack("<2HII", 0x0112, 7, 65_000, 0), 5_400)
    ),
    "a WebP of 2,000 frames": lambda: webp((64, 64), 2_000),
    "a WebP that tells of 49 megapixels": lambda: other_canvas(webp((64, 64), 2), (16_384, HIGH)),
    "a WebP that tells of 19 megapixels": lambda: other_canvas(webp((64, 64), 2), (16_384, 1_200)),
    "a BMP of 49 megapixels, packed": lambda: bmp(
        (WIDE, HIGH), 8, 1, 49 * 4_000 * (255).to_bytes(1) + bytes(1_000_000)
    ),
    "a BMP of many empty runs": lambda: bmp((WIDE, HIGH), 8, 1, 15_000_000 * b"\0\2\0\0"),
    "a BMP of 49 megapixels, one bit": lambda: bmp((WIDE, HIGH), 1, 0, bytes(WIDE * HIGH // 8)),
    "a strip one pixel high": lambda: png((WIDE, 1), 8, 0),
    "a strip three pixels wide": lambda: png((3, WIDE), 8, 6),
    "a GIF of 49 megapixels": lambda: b"GIF89a" + struct.pack("<2H3B", WIDE, HIGH, 0xF7, 0, 0) + bytes(1 << 20),
}
LARGE = {
    "a JPEG of 48 megapixels": lambda size: encoded(ramp(size), "JPEG", quality=80),
    "a progressive JPEG of 48 megapixels": lambda size: encoded(ramp(size), "JPEG", quality=80, progressive=True),
    "a grey PNG of 48 megapixels": lambda size: encoded(ramp(size).convert("L"), "PNG", compress_level=1),
}
REASONS = {"image_too_costly", "image_too_large", "not_an_image", "image_truncated"}


def ramp(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).resize(size).convert("RGB")


def status(process: int | str, key: str) -> int:
    """KiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def processes() -> tuple[int, int]:
    """The supervisor, and the worker of the moment."""
    preprocessing.start_decoder()
    supervisor = preprocessing._decoder._supervisor
    while not (children := Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()):
        pass
    return supervisor, int(children[0])


def seconds() -> float:
    """Processor time of the worker and of those before it."""
    supervisor, worker = processes()
    ended, own = (Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in (supervisor, worker))
    return sum(map(int, [*ended[13:15], *own[11:13]])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(autouse=True)
def patience():
    """However busy the machine is: what counts here is the processor's time."""
    with pytest.MonkeyPatch.context() as patch:  # a test's own ends before `ordinary` reads again
        patch.setattr("edge_oneshot_device.encoding.bounded._REPLY_SECONDS", 3600.0)
        yield


@pytest.fixture
def ordinary():
    """An ordinary picture, which is read as ever after whatever came before it."""
    picture = encoded(ramp((96, 80)), "PNG")
    expected = load_image(picture, SECTION)
    yield
    assert np.array_equal(load_image(picture, SECTION), expected)


def refusal(read, content: bytes) -> InputError | None:
    """Read within the bounds, or refused; what this process needed is little more than the file."""
    for process in ("self", processes()[1]):
        Path(f"/proc/{process}/clear_refs").write_text("5")  # the highest memory from here on
    worker = status(processes()[1], "VmRSS")  # with what it shares with this process, whatever ran here before
    before, spent = status("self", "VmRSS"), seconds()
    error = None
    try:
        read(content)
    except InputError as caught:
        error = caught
    assert error is None or (error.reason in REASONS and "\n" not in str(error))
    assert seconds() - spent < PROCESSOR_SECONDS + 1
    assert status("self", "VmHWM") - before < len(content) // 1024 + 24 * 1024
    assert status(processes()[1], "VmHWM") - worker < MEMORY_BYTES // 1024
    return error


def as_drawing(content: bytes) -> None:
    assert load_image(content, SECTION).shape == SECTION.shape


def as_photo(content: bytes) -> None:
    assert min(load_photo(content, 1000).size) < 2000


@pytest.mark.parametrize("kind", FROM_THE_REVIEW)
@pytest.mark.usefixtures("ordinary")
def test_a_picture_that_once_took_minutes_or_a_gigabyte_is_refused(kind):
    content = FROM_THE_REVIEW[kind]()
    for read in (as_drawing, as_photo):
        error = refusal(read, content)
        assert error is not None
        expected = "not_an_image" if "PPM" in kind else "image_too_large" if "WebP" in kind else "image_too_costly"
        assert error.reason == expected


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.usefixtures("ordinary")
def test_whatever_a_picture_is_built_from_its_cost_is_bounded(kind):
    refusal(as_drawing, OTHERS[kind]())


@pytest.mark.parametrize("kind", ["a PNG of 2,000,000 chunks", "a JPEG with scans behind a false end"])
@pytest.mark.usefixtures("ordinary")
def test_what_no_check_foresees_is_ended_by_the_bound_of_time(kind):
    error = refusal(as_photo, OTHERS[kind]())
    assert error is not None
    assert "takes more than 1.5 s to decode: save it smaller, as a plain JPEG or PNG" in str(error)


@pytest.mark.usefixtures("ordinary")
def test_what_no_check_foresees_is_ended_by_the_bound_of_memory():
    error = refusal(as_drawing, OTHERS["a PNG of 49 megapixels, a transparent palette"]())
    assert error is not None
    assert "takes more than 400 MiB to decode: save it smaller, as a plain JPEG or PNG" in str(error)


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.usefixtures("ordinary", "slow")
def test_the_largest_pictures_that_phones_take_are_read(kind):
    content = LARGE[kind]((8000, 6000))
    as_drawing(content)
    as_photo(content)


@pytest.fixture
def slow(monkeypatch):
    """How long a large picture takes depends on the machine; with memory it is as in use."""
    preprocessing._decoder._stop()
    monkeypatch.setattr("edge_oneshot_device.encoding.bounded.PROCESSOR_SECONDS", 60.0)
    yield
    preprocessing._decoder._stop()


@pytest.mark.usefixtures("ordinary", "slow")
def test_two_hundred_megapixels_are_read_at_a_quarter_as_a_photo():
    content = encoded(Image.linear_gradient("L").resize(SAMSUNGS), "JPEG", quality=75)
    as_drawing(content)
    assert load_photo(content, 3000).size == (4080, 3060)
    Path(f"/proc/{processes()[1]}/clear_refs").write_text("5")
    before = status(processes()[1], "VmRSS")
    load_photo(content, 3000)
    assert status(processes()[1], "VmHWM") - before < 150 * 1024


@pytest.mark.usefixtures("ordinary", "slow")
def test_a_jpeg_of_more_than_fifty_megapixels_is_reduced_even_if_it_is_narrow():
    content = encoded(Image.new("L", (16_000, 3_200), 200), "JPEG")
    assert load_photo(content, 3000).size == (8_000, 1_600)
    assert load_photo(encoded(Image.new("L", (15_600, 3_200), 200), "JPEG"), 3000).size == (15_600, 3_200)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.usefixtures("ordinary", "slow")
def test_the_largest_photo_that_stays_whole_is_read_and_turned_again_and_again(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(ramp((8_400, 5_900)), kind, exif=exif, **({"compress_level": 1} if kind == "PNG" else {}))
    for _ in range(3):
        assert load_photo(content, 3000).size == (5_900, 8_400)


def test_a_progressive_jpeg_that_cannot_fit_is_refused_before_it_is_decoded():
    content = other_size(encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True), SAMSUNGS)
    # six blocks of 64 coefficients of 2 bytes for each 16 x 16 pixels, and 4 bytes for each of those that are kept
    told = (1020 * 765 * 6 * 128 + 4 * 2040 * 1530 + len(content)) >> 20
    with pytest.raises(InputError, match=f"is a progressive JPEG, which takes {told} MiB to decode, more than the 400"):
        load_photo(content, 1000)


@pytest.mark.parametrize(
    ("size", "least"), [((16_320, 12_256), "200,000,000"), ((16_385, 100), "16384 a side"), ((16_384, 16_384), "200,")]
)
def test_a_jpeg_of_more_than_two_hundred_megapixels_is_refused(size, least):
    with pytest.raises(InputError, match=least) as caught:
        load_photo(other_size(encoded(Image.new("L", (64, 64)), "JPEG"), size), 1000)
    assert caught.value.reason == "image_too_large"


@pytest.mark.usefixtures("ordinary")
def test_a_picture_of_a_user_is_named_when_it_costs_too_much(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(OTHERS["a PNG of 2,000,000 chunks"]())
    with pytest.raises(InputError) as caught:
        load_image(path, SECTION)
    assert os.fsencode(str(caught.value)).startswith(os.fsencode(path) + b" takes more than")
    assert caught.value.exit_code == 2
