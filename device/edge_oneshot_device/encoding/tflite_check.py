"""A check of a .tflite file's content, before a runtime opens it.

An encoder is one graph of built-in operators with all its weights in the file. A second graph would be the body of a
branch or a loop, which may run without end; newer files may refer to other files for their weights.

The file is a FlatBuffer (https://flatbuffers.dev/internals); the offsets of fields and the numbers of operators are
those of LiteRT's schema.fbs (2.3). An operator that calls a graph is refused even in a file with one graph, because it
could call itself.
"""

import struct
from typing import Final

from edge_oneshot_device.errors import IntegrityError

_MAX_CODES: Final = 10_000  # kinds of operators
_CALLING: Final = {
    31: "CALL",
    118: "IF",
    119: "WHILE",
    129: "CALL_ONCE",
    174: "STABLEHLO_REDUCE",
    190: "STABLEHLO_SCATTER",
    198: "STABLEHLO_REDUCE_WINDOW",
    199: "STABLEHLO_SORT",
    200: "STABLEHLO_WHILE",
    206: "STABLEHLO_COMPOSITE",
    209: "STABLEHLO_CASE",
}
_CUSTOM: Final = 32
_COMPILED: Final = b"edgetpu-custom-op"
# offsets in a table's list of fields
_MODEL_CODES, _MODEL_GRAPHS, _MODEL_OUTSIDE = 6, 8, (20, 22)
_CODE_OLD, _CODE_NAME, _CODE_NEW = 4, 6, 10


def check_tflite(content: bytes, *, compiled: bool = False) -> None:
    """Refuse a file with constructs that no encoder has.

    Args:
        content: The file.
        compiled: Whether the Edge TPU's custom operator is allowed.

    Raises:
        IntegrityError: ``model_refused``.
    """
    try:
        if content[4:8] != b"TFL3":
            raise _damaged()
        _check(_FlatBuffer(content), compiled)
    except struct.error as error:  # an offset beyond the end
        raise _damaged() from error


def _check(file: "_FlatBuffer", compiled: bool) -> None:
    model = file.follow(0)
    for code in file.tables(model, _MODEL_CODES):
        # codes below 127 are in the older field too, and in older files only there
        number = max(file.number(code, _CODE_OLD, "<b"), file.number(code, _CODE_NEW, "<i"))
        if number in _CALLING:
            name = _CALLING[number]
            raise _refused(
                f"holds a {name}: an encoder has no branches or loops; export it without"
                " (a recurrent layer unrolled, or as UNIDIRECTIONAL_SEQUENCE_LSTM)"
            )
        if number == _CUSTOM and not (compiled and file.text(code, _CODE_NAME) == _COMPILED):
            name = repr(file.text(code, _CODE_NAME)[:50].decode(errors="replace"))
            raise _refused(f"holds the custom operator {name}, which no runtime has; export it with built-in ones")
    if len(file.tables(model, _MODEL_GRAPHS)) != 1:
        raise _refused("holds more than one graph, or none; export it without branches, loops and further signatures")
    if any(file.field(model, place) for place in _MODEL_OUTSIDE):
        raise _refused("holds weights outside of the file; export it with them inside")


class _FlatBuffer:
    """Tables of a FlatBuffer, by their positions."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def follow(self, position: int) -> int:
        """The position that the offset at `position` points to."""
        return position + self._unpack("<I", position)

    def field(self, table: int, place: int) -> int:
        """The position of a table's field; 0 when the field is absent."""
        fields = table - self._unpack("<i", table)
        offset = self._unpack("<H", fields + place) if place < self._unpack("<H", fields) else 0
        return table + offset if offset else 0

    def number(self, table: int, place: int, kind: str) -> int:
        """A number in a table; 0 when the field is absent."""
        position = self.field(table, place)
        return self._unpack(kind, position) if position else 0

    def tables(self, table: int, place: int) -> list[int]:
        """The tables in a field that is a list of tables."""
        position = self.field(table, place)
        if not position:
            return []
        start = self.follow(position)
        count = self._unpack("<I", start)
        if count > _MAX_CODES:
            raise _refused(f"has more than {_MAX_CODES:,} kinds of operators; export a smaller encoder")
        return [self.follow(start + 4 + 4 * index) for index in range(count)]

    def text(self, table: int, place: int) -> bytes:
        """A text in a table; empty when the field is absent."""
        position = self.field(table, place)
        if not position:
            return b""
        start = self.follow(position)
        return self._content[start + 4 : start + 4 + self._unpack("<I", start)]

    def _unpack(self, kind: str, position: int) -> int:
        if position < 0:  # struct would count it from the end
            raise _damaged()
        value: int = struct.unpack_from(kind, self._content, position)[0]
        return value


def _damaged() -> IntegrityError:
    return _refused("is damaged, or no .tflite file; export it again")


def _refused(what: str) -> IntegrityError:
    return IntegrityError(f"the model file {what}", reason="model_refused")
