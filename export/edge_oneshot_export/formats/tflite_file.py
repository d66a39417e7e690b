"""Read a .tflite file: its subgraphs, operators in order, and tensors with their quantization.

The file is a FlatBuffer (schema.fbs of TensorFlow Lite) and is not trusted: whatever it contains, reading gives its
content or raises a `ModelError`. TensorFlow is not imported.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_oneshot_export.errors import ModelError

EDGETPU_OP = "edgetpu-custom-op"

# Elements of all lists and characters of all names: a hostile file of a few kB can point to one list a million times.
# Real models of 100 MB have about 100,000.
_MAX_ELEMENTS = 4_000_000

_DTYPES: dict[int, str] = {n: name.lower() for name, n in vars(schema.TensorType).items() if isinstance(n, int)}
_BUILTINS: dict[int, str] = {n: name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int)}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of a subgraph.

    Attributes:
        name: The converter's name.
        shape: The sides; free sides are 1.
        shape_signature: The same with -1 for free sides; equal to `shape` if the file has none.
        dtype: The name in TensorType in lower case, such as ``int8`` or ``float32``.
        scales: One for the tensor, or one for each slice along `quantized_dimension`; empty without quantization.
        zero_points: As many as `scales`.
        quantized_dimension: The axis of `scales` if there are several.
        buffer: Number of the file's buffer, which several tensors may share.
        data: The content of a constant, little-endian; None if the values are computed at run time.
    """

    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    buffer: int
    data: memoryview | None = field(repr=False)

    @property
    def constant(self) -> bool:
        """Whether the file contains its values."""
        return self.data is not None

    @property
    def bytes(self) -> int:
        """Size of the values that the file contains."""
        return 0 if self.data is None else self.data.nbytes

    @property
    def dynamic(self) -> bool:
        """Whether a side is free until run time."""
        return any(side < 0 for side in self.shape_signature)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """An operator of a subgraph.

    Attributes:
        name: The name in BuiltinOperator, such as ``CONV_2D``, or the custom code.
        custom: Whether `name` is a custom code.
        version: The version of the operator, from 1 on.
        inputs: Tensors by their index in the subgraph; -1 for an absent optional one.
        outputs: Tensors by their index in the subgraph.
        options: The fields of the schema's options table of this operator, by their names in camelCase, such as
            ``fusedActivationFunction``; enums as numbers.
        custom_options: The bytes of a custom operator's options.
    """

    name: str
    custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    custom_options: memoryview = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    """A graph of operators in the order of their execution; `inputs` and `outputs` are tensors by index."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TfliteFile:
    """A .tflite file. The first subgraph is the model, and others are the bodies of its branches and loops."""

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators of all subgraphs, in order."""
        return tuple(operator for graph in self.subgraphs for operator in graph.operators)

    @property
    def compiled(self) -> bool:
        """Whether the Edge TPU compiler wrote it."""
        return any(operator.custom and operator.name == EDGETPU_OP for operator in self.operators)


def read_tflite(content: bytes, name: str = "the model") -> TfliteFile:
    """Read a .tflite file.

    Args:
        content: The file.
        name: The name of the file in error messages.

    Returns:
        What it contains.

    Raises:
        ModelError: ``not_tflite``: it is another kind of file, or damaged.
    """
    if content[4:8] != b"TFL3":
        raise _not_tflite(name, "it lacks the mark TFL3")
    try:
        return _TfliteReader(content).file()
    except (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # the flatbuffers package raises these on invalid offsets, lengths and numbers
        raise _not_tflite(name, "its content is damaged") from error


def _not_tflite(name: str, why: str) -> ModelError:
    return ModelError(f"{name}: not a .tflite file: {why}; give one as the converter wrote it", reason="not_tflite")


class _TfliteReader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._model = schema.Model.GetRootAs(content)
        self._left = _MAX_ELEMENTS

    def file(self) -> TfliteFile:
        model = self._model
        if model.SubgraphsLength() < 1:
            raise ValueError("no subgraph")
        graphs = range(self._spend(model.SubgraphsLength()))
        return TfliteFile(
            version=model.Version(),
            description=self._text(model.Description()),
            subgraphs=tuple(self._subgraph(model.Subgraphs(index)) for index in graphs),
        )

    def _subgraph(self, graph: Any) -> Subgraph:
        tensors = tuple(self._tensor(graph.Tensors(i)) for i in range(self._spend(graph.TensorsLength())))
        count = len(tensors)
        return Subgraph(
            name=self._text(graph.Name()),
            tensors=tensors,
            operators=tuple(
                self._operator(graph.Operators(i), count) for i in range(self._spend(graph.OperatorsLength()))
            ),
            inputs=self._indices(graph.InputsAsNumpy(), count),
            outputs=self._indices(graph.OutputsAsNumpy(), count),
        )

    def _tensor(self, tensor: Any) -> Tensor:
        quantization = tensor.Quantization()
        scales: tuple[float, ...] = ()
        zero_points: tuple[int, ...] = ()
        if quantization is not None:
            scales = tuple(map(float, self._numbers(quantization.ScaleAsNumpy())))
            zero_points = tuple(map(int, self._numbers(quantization.ZeroPointAsNumpy())))
        shape = tuple(map(int, self._numbers(tensor.ShapeAsNumpy())))
        return Tensor(
            name=self._text(tensor.Name()),
            shape=shape,
            shape_signature=tuple(map(int, self._numbers(tensor.ShapeSignatureAsNumpy()))) or shape,
            dtype=_DTYPES[tensor.Type()],
            scales=scales,
            zero_points=zero_points,
            quantized_dimension=0 if quantization is None else quantization.QuantizedDimension(),
            buffer=tensor.Buffer(),
            data=self._buffer(tensor.Buffer()),
        )

    def _operator(self, operator: Any, tensors: int) -> Operator:
        index = operator.OpcodeIndex()
        if not 0 <= index < self._model.OperatorCodesLength():
            raise ValueError("an operator without a code")
        code = self._model.OperatorCodes(index)
        # codes below 127 are also in the deprecated field, in old files only there
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = number == schema.BuiltinOperator.CUSTOM
        return Operator(
            name=self._text(code.CustomCode()) if custom else _BUILTINS[number],
            custom=custom,
            version=code.Version(),
            inputs=self._indices(operator.InputsAsNumpy(), tensors),
            outputs=self._indices(operator.OutputsAsNumpy(), tensors),
            options=_options(operator),
            custom_options=_bytes(operator.CustomOptionsAsNumpy()),
        )

    def _buffer(self, index: int) -> memoryview | None:
        if not 0 <= index < self._model.BuffersLength():
            raise ValueError("a tensor without a buffer")
        buffer = self._model.Buffers(index)
        if buffer.Offset() > 1:  # a file above 2 GB has its constants after the FlatBuffer
            start, size = buffer.Offset(), buffer.Size()
            if start + size > len(self._content):
                raise ValueError("a buffer beyond the file")
            return memoryview(self._content)[start : start + size]
        data = _bytes(buffer.DataAsNumpy())
        return data if data.nbytes else None

    def _indices(self, vector: Any, tensors: int) -> tuple[int, ...]:
        indices = tuple(map(int, self._numbers(vector)))
        if not all(-1 <= index < tensors for index in indices):
            raise ValueError("an index beyond the tensors")
        return indices

    def _numbers(self, vector: Any) -> list[Any]:
        # flatbuffers returns 0 for an absent vector
        if not isinstance(vector, np.ndarray):
            return []
        self._spend(vector.size)
        return list(vector.tolist())

    def _text(self, text: bytes | None) -> str:
        if text is None:
            return ""
        self._spend(len(text))
        return text.decode(errors="replace")

    def _spend(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("more elements than a model has")
        return count


def _bytes(vector: Any) -> memoryview:
    return memoryview(b"") if not isinstance(vector, np.ndarray) else vector.data


def _options(operator: Any) -> Mapping[str, Any]:
    kind = operator.BuiltinOptionsType()
    if kind in (schema.BuiltinOptions.NONE, schema.BuiltinOptions.VarHandleOptions):  # the latter: texts of any length
        return {}
    options = schema.BuiltinOptionsCreator(kind, operator.BuiltinOptions())
    return {} if options is None else vars(options)
