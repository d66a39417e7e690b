"""The keypad: events of the kernel become keys, and nothing that comes from it can do harm."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_oneshot_device.door import keypad
from edge_oneshot_device.door.keypad import Keypad

DOWN, UP, REPEAT = 1, 0, 2
SHIFT = 42


def event(code: int, value: int, kind: int = 1) -> bytes:
    return struct.pack("@llHHi", 1, 2, kind, code, value)


def pressed(*codes: int) -> bytes:
    return b"".join(event(code, DOWN) + event(0, 0, kind=0) + event(code, UP) for code in codes)


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Keypad, int]]:
    """A keypad, and where to write what it types."""
    monkeypatch.setattr(keypad.fcntl, "ioctl", lambda *_: 0)  # a pipe cannot be grabbed
    path = tmp_path / "keypad"
    os.mkfifo(path)
    pad = Keypad(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    yield pad, writer
    pad.close()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("codes", "keys"),
    [
        ((11, 2, 3, 4, 5, 6, 7, 8, 9, 10), "0123456789"),  # the row of digits
        ((82, 79, 80, 81, 75, 76, 77, 71, 72, 73), "0123456789"),  # the block of digits
        ((0x200, 0x201, 0x209, 0x20A, 0x20B), "019*#"),  # a telephone
        ((28, 96, 14, 55), "##**"),  # Enter twice, backspace, the block's star
        ((30, 57, 1, 700, 65535), ""),  # A, blank, escape, none at all
    ],
)
def test_keys_become_digits_star_and_hash(codes: tuple[int, ...], keys: str, pipe: tuple[Keypad, int]) -> None:
    pad, writer = pipe
    os.write(writer, pressed(*codes))
    assert "".join(pad.keys()) == keys
    assert pad.keys() == []
    assert pad.fault is None


def test_shift_makes_hash_and_star_of_digits_while_it_is_held(pipe: tuple[Keypad, int]) -> None:
    pad, writer = pipe
    os.write(writer, event(SHIFT, DOWN) + pressed(4, 9, 2) + event(SHIFT, UP) + pressed(4, 9))
    assert "".join(pad.keys()) == "#*38"


def test_a_key_that_is_held_counts_once(pipe: tuple[Keypad, int]) -> None:
    pad, writer = pipe
    os.write(writer, event(2, DOWN) + event(2, REPEAT) * 50 + event(2, UP))
    assert pad.keys() == ["1"]


def test_an_event_that_comes_in_two_parts_is_joined(pipe: tuple[Keypad, int]) -> None:
    pad, writer = pipe
    content = pressed(2, 3)
    os.write(writer, content[:30])
    first = pad.keys()
    os.write(writer, content[30:])
    assert first + pad.keys() == ["1", "2"]


def test_a_flood_is_taken_in_bounded_portions(pipe: tuple[Keypad, int]) -> None:
    pad, writer = pipe
    os.write(writer, event(2, DOWN) * 1000)
    assert 0 < len(pad.keys()) <= 256


def test_a_keypad_that_is_away_is_a_fault_and_works_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keypad"
    pad = Keypad(str(path))
    assert pad.keys() == []
    assert "cannot be read" in str(pad.fault)
    monkeypatch.setattr(keypad.fcntl, "ioctl", lambda *_: 0)
    path.write_bytes(pressed(5))
    assert pad.keys() == ["4"]
    assert pad.fault is None
    assert pad.keys() == []
    assert "has ended" in str(pad.fault)
    pad.close()


def test_what_cannot_be_taken_for_this_process_alone_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "no keypad"
    path.write_bytes(pressed(5))
    pad = Keypad(str(path))
    assert pad.keys() == []
    assert pad.fault is not None
