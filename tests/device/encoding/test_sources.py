"""What an image may be given as, to the recognizer and to the encoder."""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from edge_oneshot_device import Recognizer
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding import sources
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests.raising import raises
from tests.samples.pictures import encoded
from tests.samples.tiny import MakeBundle, People


@pytest.fixture
def recognizer(make_bundle: MakeBundle, tmp_path: Path) -> Iterator[Recognizer]:
    install(make_bundle(), tmp_path / "state", InstallOptions(keep_photos=True))
    with Recognizer.open(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def encoder(recognizer: Recognizer) -> Encoder:
    return recognizer.encoder


@pytest.fixture
def photo(people: People) -> bytes:
    return people["ada"][0]


def pixels(photo: bytes, mode: str = "RGB") -> np.ndarray:
    return np.array(Image.open(io.BytesIO(photo)).convert(mode))


def given(photo: bytes, folder: Path) -> dict[str, Any]:
    """One photo in every form that is taken."""
    path = folder / "ada.png"
    path.write_bytes(photo)
    loaded = Image.open(path)
    loaded.load()
    behind = io.BytesIO()
    behind.write(photo)  # its place is at the end, as after a picture was saved to it
    reader, writer = os.pipe()
    threading.Thread(target=lambda: (os.write(writer, photo), os.close(writer))).start()
    return {
        "path": path,
        "path as text": str(path),
        "bytes": photo,
        "bytearray": bytearray(photo),
        "memoryview": memoryview(photo),
        "file": path.open("rb"),
        "raw file": path.open("rb", buffering=0),
        "in memory": behind,
        "pipe": os.fdopen(reader, "rb", buffering=0),
        "Pillow, not decoded": Image.open(path),
        "Pillow, decoded": loaded,
        "Pillow, made": Image.fromarray(pixels(photo)),
        "array": pixels(photo),
        "array, every other row of a larger one": np.repeat(pixels(photo), 2, axis=0)[::2],
        "array that cannot be written to": np.frombuffer(pixels(photo).tobytes(), np.uint8).reshape(
            pixels(photo).shape
        ),
    }


def test_one_photo_gives_the_same_embedding_in_every_form(encoder: Encoder, photo: bytes, tmp_path: Path) -> None:
    expected = encoder.embed_image(photo)
    for form, source in given(photo, tmp_path).items():
        np.testing.assert_array_equal(encoder.embed_image(source), expected, err_msg=form)
        if hasattr(source, "close"):
            source.close()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_a_pillow_image_of_any_mode_is_taken_as_its_file_is(encoder: Encoder, photo: bytes, mode: str) -> None:
    image = Image.open(io.BytesIO(photo)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    content = encoded(image.convert("RGB" if mode == "CMYK" else mode))
    np.testing.assert_array_equal(encoder.embed_image(image), encoder.embed_image(content))


def test_a_grey_array_is_taken_as_its_picture_is(encoder: Encoder, photo: bytes) -> None:
    grey = pixels(photo, "L")
    np.testing.assert_array_equal(encoder.embed_image(grey), encoder.embed_image(Image.fromarray(grey)))


def test_a_loaded_photo_is_turned_upright_as_its_file_is(encoder: Encoder, photo: bytes, tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.open(io.BytesIO(photo)).save(path, exif=tag)
    with Image.open(path) as image:
        image.load()
        np.testing.assert_array_equal(encoder.embed_image(image), encoder.embed_image(path))
        kept = sources.take_file(image).content
    np.testing.assert_array_equal(encoder.embed_image(kept), encoder.embed_image(path))


def test_a_photo_of_faces_is_made_smaller_alike_from_a_file_and_from_pixels() -> None:
    large = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(large))
    for source in (large, Image.fromarray(large)):
        photo = load_photo(source, 20)
        assert photo.size == (30, 24)
        assert photo.tobytes() == load_photo(content, 20).tobytes()
    assert load_photo(large[:, :, 0], 200).mode == "RGB"


def test_enrol_verify_and_identify_take_frames_of_a_camera(recognizer: Recognizer, people: People) -> None:
    bgr = pixels(people["ada"][0])[:, :, ::-1]  # as OpenCV has it
    assert recognizer.enrol("ada", bgr[:, :, ::-1], Image.open(io.BytesIO(people["ada"][1]))).templates == 2
    recognizer.enrol("alan", io.BytesIO(people["alan"][0]))
    assert recognizer.verify("ada", pixels(people["ada"][2])).accepted
    assert recognizer.identify(Image.fromarray(pixels(people["alan"][1]))).person == "alan"
    assert recognizer.identify(pixels(people["stranger"][0])).reason == "below_threshold"


def test_the_photo_that_is_kept_of_pixels_is_a_png_of_them(recognizer, encoder, people):
    frame = pixels(people["ada"][0])
    file = io.BytesIO(people["ada"][1])
    recognizer.enrol("ada", frame, file)
    with recognizer.gallery.reading() as transaction:
        ((first, second),) = renewal.photos(transaction).values()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(first))), frame)
    assert second == people["ada"][1]
    np.testing.assert_array_equal(encoder.embed_image(first), encoder.embed_image(frame))


def test_pixels_too_large_to_be_kept_are_refused(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1 << 20)
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    with raises(InputError, match="as a PNG to be kept, is larger than 1 MiB", reason="file_too_large"):
        recognizer.enrol("ada", noise)
    assert recognizer.people() == []


class Tensor:
    """What another library's array looks like."""

    shape = (3, 16, 16)
    dtype = "float32"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "of type NoneType"),  # what OpenCV gives when it could not read
        (3, "of type int"),
        (True, "of type bool"),
        (["a.png"], "of type list"),
        (Tensor(), "of type Tensor and shape (3, 16, 16)"),
        (np.zeros((16, 16, 3), np.float32), "of type array of float32 and shape (16, 16, 3)"),
        (np.zeros((16, 16), np.int64), "of type array of int64 and shape (16, 16)"),
        (np.zeros((3, 16, 16), np.uint8), "of type array of uint8 and shape (3, 16, 16)"),
        (np.zeros((16, 16, 4), np.uint8), "of type array of uint8 and shape (16, 16, 4)"),
        (np.zeros((16, 16, 1), np.uint8), "of type array of uint8 and shape (16, 16, 1)"),
        (np.zeros((1, 16, 16, 3), np.uint8), "of type array of uint8 and shape (1, 16, 16, 3)"),
        (np.zeros((0, 16, 3), np.uint8), "of type array of uint8 and shape (0, 16, 3)"),
        (np.zeros(16, np.uint8), "of type array of uint8 and shape (16,)"),
        (np.array("a.png"), "of type array of <U5 and shape ()"),
    ],
)
def test_anything_else_is_refused_by_its_type_and_shape(recognizer: Recognizer, source: Any, words: str) -> None:
    for act in (lambda: recognizer.enrol("ada", source), lambda: recognizer.identify(source)):
        with raises(InputError, reason="wrong_type") as refused:
            act()
        assert str(refused.value).startswith(f"an image cannot be {words}; give a path, bytes, ")


@pytest.mark.parametrize("path", ["a\0b.png", "\0", "\ud800.png", "PNG\0\0\0"])
def test_what_no_path_can_be_is_refused_as_such(encoder: Encoder, path: str) -> None:
    with raises(InputError, match=" is no path: ", reason="not_found"):
        encoder.embed_image(path)


def test_a_file_that_gives_no_bytes_is_refused_with_what_to_do(encoder: Encoder, photo: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ada.png"
    path.write_bytes(photo)
    closed = path.open("rb")
    closed.close()

    class Odd:
        def read(self, _size: int) -> str:
            return "text"

    text, write_only = path.open(), (tmp_path / "out").open("wb")
    for source, words in (
        (text, "open it with mode 'rb'"),
        (io.StringIO("text"), "is a file of text, not of bytes"),
        (Odd(), "is a file of str, not of bytes"),
        (closed, "closed file; open it for reading bytes"),
        (write_only, "open it for reading bytes"),
    ):
        with raises(InputError, reason="wrong_type") as refused:
            encoder.embed_image(source)  # type: ignore[arg-type]
        assert words in str(refused.value)
    text.close()
    write_only.close()


def test_an_open_file_is_named_and_read_to_its_bound_and_no_further(encoder, tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_bytes(b"hello")
    with (tmp_path / "bad.png").open("rb") as file, pytest.raises(InputError, match=r"bad\.png is no PNG"):
        encoder.embed_image(file)
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1 << 20)
    with Path("/dev/zero").open("rb") as endless, pytest.raises(InputError) as refused:
        encoder.embed_image(endless)
    assert refused.value.reason == "file_too_large"


def test_a_file_that_fails_while_it_is_read_is_the_machines_fault(encoder: Encoder) -> None:
    class Failing(io.RawIOBase):
        def read(self, _size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with raises(MachineError, match="Input/output error", reason="cannot_read"):
        encoder.embed_image(Failing())  # type: ignore[arg-type]


def test_what_pillow_has_only_opened_is_decoded_by_the_process_that_may_die(encoder, photo, monkeypatch):
    image = Image.open(io.BytesIO(photo))
    expected = encoder.embed_image(photo)

    def fail(*_: object) -> None:
        raise AssertionError("decoded in this process")

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", fail)
        np.testing.assert_array_equal(encoder.embed_image(image), expected)
    assert pixels(photo).tolist() == np.array(image.convert("RGB")).tolist()  # and can still be used


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_file_behind_a_pillow_image_is_read_whatever_its_format(encoder: Encoder, photo: bytes, kind: str) -> None:
    content = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").save(content, kind)
    image = Image.open(content)
    np.testing.assert_array_equal(encoder.embed_image(image), encoder.embed_image(content.getvalue()))


def test_a_picture_of_a_format_that_is_not_read_is_refused_behind_a_pillow_image_too(encoder, photo):
    content = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").save(content, "TIFF")
    with raises(InputError, reason="not_an_image"):
        encoder.embed_image(Image.open(content))


def test_a_pillow_image_that_was_closed_or_moved_on_is_refused(encoder: Encoder, photo: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ada.png"
    path.write_bytes(photo)
    with Image.open(path) as closed:
        pass
    with raises(InputError, match="was closed before its pixels were read; give its path", reason="not_decoded"):
        encoder.embed_image(closed)
    with path.open("rb") as file:
        closed = Image.open(file)
    with raises(InputError, match="was closed before its pixels were read; give its path", reason="not_decoded"):
        encoder.embed_image(closed)
    made = Image.fromarray(pixels(photo))
    made.close()
    with raises(InputError, reason="not_decoded"):
        encoder.embed_image(made)
    moving = tmp_path / "moving.png"
    Image.fromarray(pixels(photo)).save(moving, save_all=True, append_images=[Image.new("RGB", (16, 16))])
    with Image.open(moving) as second:
        second.seek(1)
        with pytest.raises(InputError, match=r"at frame 1 of its file, not the first; give image\.copy\(\)") as refused:
            encoder.embed_image(second)
    assert refused.value.reason == "not_decoded"


@pytest.mark.parametrize("size", [(16_385, 1), (8_000, 8_000)])
def test_pixels_are_bounded_as_those_of_a_file_are(encoder: Encoder, size: tuple[int, int]) -> None:
    array = np.broadcast_to(np.uint8(0), (*size, 3))
    for source in (array, Image.new("1", size)):
        with raises(InputError, match="is too large", reason="image_too_large"):
            encoder.embed_image(source)


def test_a_pillow_image_without_a_pixel_or_of_floats_is_refused(encoder: Encoder) -> None:
    for image, reason in ((Image.new("RGB", (0, 5)), "wrong_type"), (Image.new("F", (16, 16)), "not_an_image")):
        with raises(InputError, reason=reason):
            encoder.embed_image(image)
