"""A check of an .onnx file's content, before ONNX Runtime opens it.

An encoder is one graph without branches or loops, with all its weights in the file. No digest covers weights in another
file, which ONNX Runtime would look for in the current folder. With nested graphs, or functions that call each other, a
small file can run without end.

The file is a ModelProto in the wire format of Protocol Buffers (https://protobuf.dev/programming-guides/encoding); the
numbers of its fields are those of onnx/onnx.proto3 (ONNX 1.23). Unknown fields are skipped, as ONNX Runtime skips them.
"""

from collections.abc import Iterator
from typing import Final

from edge_oneshot_device.errors import IntegrityError

_MAX_FIELDS: Final = 1_000_000
"""Most fields that are read, which takes a second; a net of 200 MiB has some 10,000."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}

# Per message the fields that hold further messages; no message contains itself, so that the depth is bounded.
_NESTED: Final[dict[str, dict[int, str]]] = {
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
    """Refuse a file with constructs that no encoder has, or with weights in another file.

    Raises:
        IntegrityError: ``model_refused``.
    """
    if content[4:8] == b"ORTM":
        raise _refused("is of ONNX Runtime's own format; give the .onnx that it was made from")
    try:
        _Walk(content).message("ModelProto", 0, len(content))
    except LookupError as error:  # a length beyond the end, or an obsolete wire type
        raise _damaged() from error


class _Walk:
    """Reads the fields of nested messages, at most `_MAX_FIELDS` in all."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = _MAX_FIELDS

    def message(self, name: str, start: int, end: int) -> None:
        """Check a message and all messages in it."""
        nested = _NESTED[name]
        for number, value, span in self._fields(start, end):
            field = name, number
            if field in _REFUSED or (field == _DATA_LOCATION and value != 0):
                raise _refused(f"holds {_REFUSED.get(field, _EXTERNAL)}")
            if field == _OP_TYPE and self._content[span] == _OUTSIDE_OP:
                raise _refused("holds an EPContext, which names another file: give the .onnx that it was made from")
            if number in nested:
                if value is not None:
                    raise _damaged()
                self.message(nested[number], span.start, span.stop)

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int | None, slice]]:
        """Number of each field, its value if it is an integer, and the span of its bytes if it has a length."""
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
            if position > end or not 0 < key < 1 << 32:  # ONNX Runtime would read a larger key as another field
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
