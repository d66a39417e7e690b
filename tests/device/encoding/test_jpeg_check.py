"""A JPEG's header: the memory that its decoder will keep, and what no camera writes."""

import pytest
from PIL import Image

from edge_oneshot_device.encoding.jpeg_check import check_jpeg, check_memory
from edge_oneshot_device.errors import InputError
from tests.raising import raises
from tests.samples.pictures import encoded

MIB = 1 << 20


def jpeg(mode: str = "RGB", size: tuple[int, int] = (40, 24), **options: object) -> bytes:
    return encoded(Image.new(mode, size), "JPEG", **options)


@pytest.mark.parametrize(
    ("mode", "subsampling", "blocks"),
    [
        ("L", 0, 5 * 3),
        ("RGB", 0, 3 * 5 * 3),  # 4:4:4
        ("RGB", 1, (2 + 1 + 1) * 3 * 3),  # 4:2:2, in units of 16 x 8
        ("RGB", 2, (4 + 1 + 1) * 3 * 2),  # 4:2:0, in units of 16 x 16
        ("CMYK", 0, 4 * 5 * 3),
    ],
)
def test_a_progressive_jpeg_keeps_64_coefficients_of_two_bytes_for_each_block(mode, subsampling, blocks):
    assert check_jpeg(jpeg(mode, progressive=True, subsampling=subsampling), "a") == 128 * blocks
    assert check_jpeg(jpeg(mode, subsampling=subsampling), "a") == 0


def test_so_does_another_one_whose_components_come_in_scans_of_their_own():
    content = jpeg()
    scan = content.index(b"\xff\xda")
    assert content[scan + 4] == 3
    alone = content[: scan + 4] + b"\1" + content[scan + 5 :]
    assert check_jpeg(alone, "a") == check_jpeg(jpeg(progressive=True), "a") > 0


def test_what_is_kept_and_made_has_to_fit():
    check_memory("a", 300 * MIB, 20 * MIB, 20 * MIB)
    with raises(InputError, match=r"^a is a progressive JPEG, which takes 401 MiB", reason="image_too_costly"):
        check_memory("a", 300 * MIB, 20 * MIB, 21 * MIB)
    check_memory("a", 0, 200 * MIB, 0)  # the process's own limit is for those


@pytest.mark.parametrize("marker", [0xC3, 0xC7, 0xCB, 0xCF])
def test_a_lossless_jpeg_is_refused_by_name(marker):
    content = jpeg()
    place = content.index(b"\xff\xc0")
    with raises(InputError, match="lossless JPEG", reason="not_an_image"):
        check_jpeg(content[: place + 1] + bytes([marker]) + content[place + 2 :], "a")


def test_a_header_cut_short_anywhere_keeps_nothing_or_is_counted():
    content = jpeg(progressive=True)
    whole = check_jpeg(content, "a")
    for end in range(len(content)):
        assert check_jpeg(content[:end], "a") in (0, whole, *range(128, whole, 128))
