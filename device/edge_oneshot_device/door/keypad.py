"""The keypad: what is typed at an input device of the kernel, read as the kernel writes it (linux/input.h).

A USB keypad is a keyboard: what is typed there goes to the console too, unless it is taken for this process alone
(EVIOCGRAB), which is done here.
"""

import fcntl
import os
import struct
from typing import Final, Self

from edge_oneshot_device.text import one_line

DONE: Final = "#"
"""What ends an entry: the key #, or Enter."""
CLEAR: Final = "*"
"""What begins an entry again: the key *, or backspace."""

# struct input_event: struct timeval, type, code, value; in native sizes, so on 32 bits too
_EVENT: Final = struct.Struct("@llHHi")
_MOST_EVENTS: Final = 256  # that are taken at once; a person types a few a second
_KEY, _PRESSED = 1, 1  # EV_KEY, and the value of a key that goes down; 2 is its repetition
_GRAB: Final = 0x40044590  # EVIOCGRAB, _IOW('E', 0x90, int)
_SHIFTS: Final = frozenset({42, 54})  # KEY_LEFTSHIFT, KEY_RIGHTSHIFT

# input-event-codes.h: the row of digits, the block of digits, and the keys of a telephone
_DIGITS: Final = {
    **{code: str((code - 1) % 10) for code in range(2, 12)},
    **{0x200 + digit: str(digit) for digit in range(10)},
}
_BLOCK: Final = dict(zip((82, 79, 80, 81, 75, 76, 77, 71, 72, 73), "0123456789", strict=True))
_OTHERS: Final = {28: DONE, 96: DONE, 0x20B: DONE, 14: CLEAR, 55: CLEAR, 0x20A: CLEAR}
_KEYS: Final = {**_DIGITS, **_BLOCK, **_OTHERS}
_SHIFTED: Final = {4: DONE, 9: CLEAR}  # 3 and 8 of an American keyboard, as which keypads type # and *


class Keypad:
    """A keypad, a context manager. It is opened when it is first read, and again after it was away.

    Args:
        path: The input device, such as /dev/input/event0.

    Attributes:
        fault: Why it cannot be read; None: it can, or was not read yet.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._shifts: set[int] = set()
        self._part = b""
        self.fault: str | None = None

    def __enter__(self) -> Self:
        """The keypad."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def keys(self) -> list[str]:
        """The keys that were pressed since the last call, without waiting: digits, `DONE` and `CLEAR`."""
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            content = os.read(self._descriptor, _MOST_EVENTS * _EVENT.size)
        except BlockingIOError:
            return []
        except OSError as error:
            self.close()
            self.fault = f"the keypad {self._path} cannot be read: {one_line(error.strerror or str(error))}"
            return []
        if not content:
            self.close()
            self.fault = f"the keypad {self._path} has ended"
            return []
        content = self._part + content
        whole = len(content) - len(content) % _EVENT.size
        self._part = content[whole:]
        keys = [self._key(code, value) for *_, kind, code, value in _EVENT.iter_unpack(content[:whole]) if kind == _KEY]
        return [key for key in keys if key is not None]

    def close(self) -> None:
        """Close it; the next `keys` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._part = None, b""
        self._shifts.clear()

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._descriptor, _GRAB, 1)
        except OSError:
            # what is typed must not reach a console, nor another program that has taken the keypad
            self.close()
            raise
        self.fault = None

    def _key(self, code: int, value: int) -> str | None:
        """What a key stands for; None for one that is let go, repeats or stands for nothing."""
        if code in _SHIFTS:
            (self._shifts.add if value else self._shifts.discard)(code)
            return None
        if value != _PRESSED:
            return None
        if self._shifts:
            return _SHIFTED.get(code)
        return _KEYS.get(code)
