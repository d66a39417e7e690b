"""What is an image and what is litter, for both programs."""

import pytest
from PIL import Image

from edge_oneshot_device.image_files import IMAGE_SUFFIXES, PassedOver, is_image, is_litter, passed_over_text

PILLOWS = {"BMP", "JPEG", "PNG", "WEBP"}


def test_every_suffix_that_is_read_is_one_of_a_format_that_is_read() -> None:
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in IMAGE_SUFFIXES if suffix in known} - {"AVIF", "HEIF"} == PILLOWS
    assert set(IMAGE_SUFFIXES) - set(known) <= {".avif", ".heic", ".heif", ".hif"}


def test_every_usual_suffix_of_jpeg_png_webp_and_bmp_is_read() -> None:
    usual = {suffix for suffix, kind in Image.registered_extensions().items() if kind in PILLOWS}
    assert usual - {".apng"} <= set(IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", ["a.jpg", "A.JPE", "b.jfif", "c d.WebP", "scan.heic", "raw.CR2", "x.tiff"])
def test_pictures_are_told_by_their_suffix_in_any_case(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize("name", ["jpg", "a.pdf", "a.jpg.pdf", "a", "notes.txt", "a.mp4", "Thumbs.db", "caf\udce9"])
def test_what_is_no_picture_is_none(name: str) -> None:
    assert not is_image(name)


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "$RECYCLE.BIN", "$Recycle.Bin", "lost+found", ".DS_Store", "Thumbs.db", "THUMBS.DB", "__MACOSX"),
        *("._1.jpg", ".hidden.png", ".git", "desktop.ini", "System Volume Information", "#recycle", "LOST.DIR"),
        *("Icon\r", "ada.png~", "ada.jpg.part", "x.TMP", "@Recycle"),
    ],
)
def test_what_systems_leave_behind_is_litter(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize(
    "name", ["ada", "Ada Lovelace", "lost", "found", "$ada", "@home", "1.jpg", "tmp", "Thumbs.jpg"]
)
def test_a_person_or_a_picture_is_no_litter(name: str) -> None:
    assert not is_litter(name)


def test_what_was_left_out_is_counted_and_the_first_are_named_in_a_line() -> None:
    assert passed_over_text([]) == ""
    few = [PassedOver("Thumbs.db", "litter"), PassedOver("a\nb.pdf", "no_image")]
    assert passed_over_text(few) == "left out 2: Thumbs.db (litter), a\\nb.pdf (no_image)"
    many = passed_over_text([PassedOver(f"{number}.pdf", "no_image") for number in range(12)])
    assert many.startswith("left out 12: 0.pdf (no_image), 1.pdf")
    assert many.endswith("7.pdf (no_image), ...; all of them with --json")
