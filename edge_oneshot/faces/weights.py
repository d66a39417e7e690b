"""The weights of dlib's face recognition network, read from its .dat file."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.errors import DataError

STAGES: Final = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Count of filters and of residual blocks of each stage; each stage after the first halves the map."""

EMBEDDING: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Weights in the order of computation.

    Attributes:
        convolutions: The kernel, float32 (rows, columns, in, out), and the bias, float32 (out,), of each, with the
            affine layer after it folded in.
        dense: float32 (256, 128).
    """

    convolutions: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    dense: NDArray[np.float32]


def read_weights(content: bytes) -> Weights:
    """Read the weights from the content of ``dlib_face_recognition_resnet_model_v1.dat``.

    dlib writes the layers from the input on, each after its name. An integer is a byte with the count of its bytes,
    and then these; a tensor is a version, four dimensions and float32 values. All of it is little-endian.

    Raises:
        DataError: Reason ``wrong_file``: the layers are not those of this network.
    """
    reader = _LayerReader(content)
    try:
        kernels = [_kernel(reader, *shape) for shape in _shapes()]
        reader.skip_to(b"fc_2")
        sizes = reader.integer(), reader.integer()
        if sizes != (EMBEDDING, STAGES[-1][0]):
            raise ValueError(f"a dense layer of {sizes}")
        dense = reader.tensor(STAGES[-1][0] * EMBEDDING).reshape(STAGES[-1][0], EMBEDDING)
    except (ValueError, IndexError) as error:
        message = f"the face weights are not dlib's face recognition network v1 ({error}); use an intact copy"
        raise DataError(message, reason="wrong_file") from error
    return Weights(tuple(kernels), dense)


def _shapes() -> list[tuple[int, int, int]]:
    """Side of the kernel, input channels and output channels of each convolution."""
    shapes = [(7, 3, STAGES[0][0])]
    for filters, blocks in STAGES:
        for _ in range(blocks):
            shapes += [(3, shapes[-1][2], filters), (3, filters, filters)]
    return shapes


def _kernel(
    reader: "_LayerReader", side: int, inside: int, outside: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    reader.skip_to(b"con_4")
    values = reader.tensor((side * side * inside + 1) * outside)
    kernel, bias = values[:-outside].reshape(outside, inside, side, side), values[-outside:]
    reader.skip_to(b"affine_")
    gamma, beta = reader.tensor(2 * outside).reshape(2, outside)
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0) * gamma), bias * gamma + beta


class _LayerReader:
    """Reads the file from its beginning on."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def skip_to(self, layer: bytes) -> None:
        """Move to the end of the next name of a layer of this kind; the length of a name precedes it."""
        mark = bytes((1, len(layer))) + layer
        self._position = self._content.index(mark, self._position) + len(mark)

    def integer(self) -> int:
        start, size = self._position + 1, self._content[self._position]
        self._position = start + size
        return int.from_bytes(self._content[start : start + size], "little")

    def tensor(self, size: int) -> NDArray[np.float32]:
        """Read a tensor of this many values, as one row."""
        head = tuple(self.integer() for _ in range(5))
        if head[0] != 2 or head[1] * head[2] * head[3] * head[4] != size:
            raise ValueError(f"a tensor of {head[1:]}, version {head[0]}, where {size} values belong")
        values = np.frombuffer(self._content, "<f4", size, self._position)
        self._position += values.nbytes
        return values
