"""What an .onnx file may hold, read from its bytes before ONNX Runtime sees them.

An encoder is one graph without branches or loops, and all its weights are in the file. Those that a tensor names
elsewhere are in no digest, and ONNX Runtime looks for them in the folder that it was started in. With graphs in graphs,
or functions that call each other, a small file's work is endless.

The file is a ModelProto in the wire format of Protocol Buffers (https://protobuf.dev/programming-guides/encoding); the
numbers of its fields are those of onnx/onnx.proto3 (ONNX 1.23). Unknown fields are skipped, as ONNX Runtime skips them.
"""

from collections.abc import Iterator
from typing import Final

from edge_oneshot_device.errors import IntegrityError

_MAX_FIELDS: Final = 1_000_000
"""That are looked at: a second of work. A net of 200 MiB has some 10,000."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}

# Per message the fields that hold further messages; none holds itself, so that the depth is bounded.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "ModelProto": {7: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto", 10: "TensorProto", 22: "SparseTensorProto", 23: "SparseTensorProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
_LOOP: Final = "a branch or a loop (If, Loop, Scan ...): export it without, loops unrolled"
_EXTERNAL: Final = "weights outside of the file: export it with them inside"
_REFUSED: Final = {
    ("ModelProto", 20): "training instructions: export it without",
    ("ModelProto", 25): "functions of its own: inline them with onnx.inliner.inline_local_functions",
    ("AttributeProto", 6): _LOOP,
    ("AttributeProto", 11): _LOOP,
    ("TensorProto", 13): _EXTERNAL,
}
_OP_TYPE: Final = ("NodeProto", 4)
_DATA_LOCATION: Final = ("TensorProto", 14)
_OUTSIDE_OP: Final = b"EPContext"  # names a file of a compiled graph


def check_onnx(content: bytes) -> None:
    """Refuse a file that holds what no encoder has, or whose weights are elsewhere.

    Raises:
        IntegrityError: ``model_refused``.
    """
    if content[4:8] == b"ORTM":
        raise _refused("is of ONNX Runtime's own format; give the .onnx that it was made from")
    try:
        _Walk(content).message("ModelProto", 0, len(content))
    except LookupError as error:  # beyond the end, or of a kind that is out of use
        raise _damaged() from error


class _Walk:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = _MAX_FIELDS

    def message(self, name: str, start: int, end: int) -> None:
        inside = _INSIDE[name]
        for number, value, span in self._fields(start, end):
            field = name, number
            if field in _REFUSED or (field == _DATA_LOCATION and value != 0):
                raise _refused(f"holds {_REFUSED.get(field, _EXTERNAL)}")
            if field == _OP_TYPE and self._content[span] == _OUTSIDE_OP:
                raise _refused("holds an EPContext, which names another file: give the .onnx that it was made from")
            if number in inside:
                if value is not None:
                    raise _damaged()
                self.message(inside[number], span.start, span.stop)

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int | None, slice]]:
        """Number of each field, its value if it is an integer, and where its bytes are if it has a length."""
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise _refused(f"has more than {_MAX_FIELDS:,} parts; export a smaller encoder")
            key, position = self._varint(position)
            number, kind = key >> 3, key & 7
            value, start = None, position
            if kind == _VARINT:
                value, position = self._varint(position)
            elif kind == _LENGTH:
                size, start = self._varint(position)
                position = start + size
            else:
                value, position = -1, position + _SIZES[kind]
            if position > end or not 0 < key < 1 << 32:  # ONNX Runtime would take a larger key for another field
                raise _damaged()
            yield number, value, slice(start, position)

    def _varint(self, position: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise _damaged()


def _damaged() -> IntegrityError:
    return _refused("is damaged, or no .onnx file; export it again")


def _refused(what: str) -> IntegrityError:
    return IntegrityError(f"the model file {what}", reason="model_refused")
