"""How pixels are scaled to a model file's input, as far as its quantization or its metadata declares it.

A .tflite may hold a second FlatBuffer, ``TFLITE_METADATA``, of the schema metadata_schema.fbs of TensorFlow Lite
Support, with ``NormalizationOptions``: the mean and the scale of the pixels.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema
from flatbuffers.number_types import Float32Flags, Uint8Flags
from flatbuffers.table import Table

from edge_oneshot_device.bundle.fields import MAX_LEVEL, MIN_SCALE
from edge_oneshot_device.bundle.manifest import InputSection, value_range
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.formats.tflite_file import Tensor, read_tflite

APART: Final = 0.1
"""How much the ends of two ranges of input values may differ, as a share of the declared range. Ranges that a converter
found on a few photos differ by less; 0 to 1 and -1 to 1 differ by more."""

_NORMALISATION: Final = 1  # of the union ProcessUnitOptions
_LEAST: Final = {"uint8": 0, "int8": -128}


@dataclass(frozen=True, slots=True)
class Scaling:
    """A scaling of pixels: the model is given (pixel - mean) / scale.

    Attributes:
        mean: One value, or one per channel.
        scale: Likewise.
        source: Where the file declares it, in words.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    source: str

    @property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest value that the model is given."""
        return value_range(self.mean, self.scale)

    def contradicts(self, mean: Sequence[float], scale: Sequence[float]) -> bool:
        """Whether a mean and a scale give the model another range of values.

        Args:
            mean: One value, or one per channel.
            scale: Likewise.

        Returns:
            Whether the ranges differ. The order of light and dark is not compared.
        """
        own, other = self.span, value_range(mean, scale)
        return any(abs(a - b) > APART * (own[1] - own[0]) for a, b in zip(own, other, strict=True))

    def require(self, name: str, section: InputSection) -> None:
        """Refuse an input section that contradicts this scaling.

        Args:
            name: Name of the file's variant, for the message.
            section: The input section.

        Raises:
            ModelError: ``contradicted``.
        """
        if self.contradicts(section.mean, section.scale):
            raise ModelError(
                f"{scaled(section.mean, section.scale)} give the model {_in_words(section.value_range)}, but by"
                f" {self.source}, the {name} file takes {_in_words(self.span)}, as of {scaled(self.mean, self.scale)}:"
                " leave --mean and --scale out, or give what agrees (--anyway takes yours)",
                reason="contradicted",
            )


PIXELS: Final = Scaling((0.0,), (1.0,), "its uint8 input without quantization, which is pixels as they are")


def scaled(mean: Sequence[float], scale: Sequence[float]) -> str:
    """Mean and scale for a message, with a single value where all channels have the same.

    Args:
        mean: One value, or one per channel.
        scale: Likewise.

    Returns:
        The text.
    """
    return " and ".join(
        f"{name} {','.join(f'{value:g}' for value in (values[:1] if len(set(values)) == 1 else values))}"
        for name, values in (("mean", mean), ("scale", scale))
    )


def tflite_scaling(content: bytes) -> Scaling | None:
    """The scaling that a .tflite file declares; None if it declares none, or an implausible one.

    Quantization takes precedence over metadata, because the runtime computes with it.
    """
    graph = read_tflite(content).subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    if image.dtype == "uint8" and not image.scales:
        return PIXELS
    if image.dtype != "float32":
        return _quantization(image)
    readers = [operator for operator in graph.operators if graph.inputs[0] in operator.inputs]
    within = [graph.tensors[reader.outputs[0]] for reader in readers if reader.name == "QUANTIZE"]
    return _metadata(content) or (_quantization(within[0]) if within else None)


def _quantization(tensor: Tensor) -> Scaling | None:
    """The scaling that maps the lightest pixel to the largest integer and the darkest to the smallest."""
    if tensor.dtype not in _LEAST or len(tensor.scales) != 1 or not tensor.scales[0] > 0.0:
        return None
    scale, zero_point = tensor.scales[0], (tensor.zero_points or (0,))[0]
    source = f"the quantization of its input, scale {scale:.6g} and zero point {zero_point}"
    # six digits, as a float32 has: 255 and not 254.99998
    return _sensible((float(zero_point - _LEAST[tensor.dtype]),), (float(f"{1.0 / scale:.6g}"),), source)


def _metadata(content: bytes) -> Scaling | None:
    try:
        model = schema.Model.GetRootAs(content)
        for index in range(model.MetadataLength()):
            entry = model.Metadata(index)
            if entry.Name() == b"TFLITE_METADATA" and entry.Buffer() < model.BuffersLength():
                return _normalisation(bytes(model.Buffers(entry.Buffer()).DataAsNumpy()))
    except (struct.error, TypeError, ValueError, IndexError):  # damaged metadata declares nothing
        return None
    return None


def _normalisation(metadata: bytes) -> Scaling | None:
    """The normalisation of the first tensor of the first subgraph."""
    root = Table(metadata, struct.unpack_from("<I", metadata)[0])
    unit = root
    for field in (3, 2):  # subgraph_metadata, input_tensor_metadata
        listed = _tables(unit, field)
        if not listed:
            return None
        unit = listed[0]
    for step in _tables(unit, 4):  # process_units
        place = step.Offset(4)
        if not place or step.Get(Uint8Flags, step.Pos + place) != _NORMALISATION or not step.Offset(6):
            continue
        options = Table(metadata, step.Indirect(step.Pos + step.Offset(6)))
        mean, scale = _floats(options, 0), _floats(options, 1)
        if len(mean) in (1, 3) and len(scale) in (1, 3):
            return _sensible(mean, scale, "its metadata")
    return None


def _sensible(mean: tuple[float, ...], scale: tuple[float, ...], source: str) -> Scaling | None:
    count = max(len(mean), len(scale))
    mean, scale = (values * count if len(values) == 1 else values for values in (mean, scale))
    within = all(math.isfinite(value) and abs(value) <= MAX_LEVEL for value in (*mean, *scale))
    return Scaling(mean, scale, source) if within and all(abs(value) >= MIN_SCALE for value in scale) else None


def _in_words(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"


def _tables(table: Table, field: int) -> list[Table]:
    place = table.Offset(4 + 2 * field)
    if not place:
        return []
    start = table.Vector(place)
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(min(table.VectorLen(place), 100))]


def _floats(table: Table, field: int) -> tuple[float, ...]:
    place: Any = table.Offset(4 + 2 * field)
    if not place:
        return ()
    start, count = table.Vector(place), min(table.VectorLen(place), 100)
    return tuple(float(table.Get(Float32Flags, start + 4 * index)) for index in range(count))
