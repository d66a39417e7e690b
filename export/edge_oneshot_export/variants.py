"""The variants of an encoder that a bundle can hold, one row each. Whatever depends on the variant is in its row."""

from dataclasses import dataclass
from typing import Final, Literal

from edge_oneshot_device.bundle.manifest import Format, Runtime
from edge_oneshot_device.bundle.runtime_kinds import runtimes_of
from edge_oneshot_export.errors import ModelError

Precision = Literal["float32", "float16", "dynamic", "int8"]


@dataclass(frozen=True, slots=True)
class CosineGate:
    """A variant fails when a statistic of its cosines to the float model lies below a bound.

    Attributes:
        statistic: ``min``, ``mean`` or ``p01`` (the first percentile), as in the manifest's `Drift`.
        name: The statistic as messages name it.
        bound: The smallest value that passes.
    """

    statistic: Literal["min", "mean", "p01"]
    name: str
    bound: float


@dataclass(frozen=True, slots=True)
class VariantKind:
    """A variant before it is made for one encoder.

    Attributes:
        name: The name in options and in the manifest.
        format: The file format, which also decides the converter and the runtimes.
        precision: ``float32``; ``float16``: weights of 16 bits; ``dynamic``: int8 weights, activations that a kernel
            quantizes itself; ``int8``: 8 bits inside, and for TFLite at the input and the output as well.
        gates: The variant is not shipped when one of them fails.
        tolerance: The self-test's tolerance for a float output, as a share of the largest golden output. An integer
            output has a tolerance in steps, which the export measures.
        shared_dense_scale: All weights of a dense layer have one scale instead of one a channel.
        edgetpu: ``mapped``: it is left out unless the Edge TPU runs all of it; ``compiled``: it is compiled for the
            Edge TPU when that runs all of it and no ``mapped`` variant is in the bundle; ``unused`` otherwise.
        layer_errors: The export measures what quantization costs in each layer.
        reduced_range: Weights take 7 of the 8 bits.
    """

    name: str
    format: Format
    precision: Precision
    gates: tuple[CosineGate, ...]
    tolerance: float
    shared_dense_scale: bool = False
    edgetpu: Literal["mapped", "compiled", "unused"] = "unused"
    layer_errors: bool = False
    reduced_range: bool = False

    @property
    def runtimes(self) -> tuple[Runtime, ...]:
        """The runtimes that execute it, the default one first."""
        return runtimes_of(self.format)


_FLOAT32: Final = (CosineGate("min", "minimum", 0.9999),)
"""Float variants repeat Keras: 1 - cosine was measured below 1e-10, in LiteRT and ONNX Runtime, for seven layers."""

_FLOAT16: Final = (CosineGate("min", "minimum", 0.999),)
"""Weights of 11 significant bits: measured at least 0.99999 for the shipped encoders."""

_INT8: Final = (CosineGate("mean", "mean", 0.98), CosineGate("p01", "1st percentile", 0.95))
"""A coarse check; `drift.MAX_LOSS` bounds what a variant costs. Measured means: 0.9997 and 0.9993 for the shipped
encoders (ONNX 0.9995 and 0.9985), 0.989 for a net of 16 x 16 that was trained for seconds (ONNX)."""

_TOLERANCE_FLOAT32: Final = 1e-4
"""LiteRT, ONNX Runtime and Keras differ by 1e-6 of the largest output (measured)."""

_TOLERANCE_FLOAT16: Final = 5e-3
"""A runtime may compute in 11 bits, as some processors and accelerators do."""

_TOLERANCE_INT8: Final = 0.03
"""The fused and the plain kernels of ONNX Runtime differ by one of the 256 steps of the output's range (measured);
this is two to four of them."""

VARIANTS: Final = {
    kind.name: kind
    for kind in (  # in the order of a bundle of all variants: its first one is the default on the device
        VariantKind("int8", "tflite", "int8", _INT8, _TOLERANCE_INT8, edgetpu="compiled", layer_errors=True),
        VariantKind("float32", "tflite", "float32", _FLOAT32, _TOLERANCE_FLOAT32),
        VariantKind("float16", "tflite", "float16", _FLOAT16, _TOLERANCE_FLOAT16),
        # tflite-runtime 2.14 refuses a dynamic dense layer with a scale a channel
        VariantKind("dynamic", "tflite", "dynamic", _INT8, _TOLERANCE_INT8, shared_dense_scale=True),
        # the Edge TPU compiler maps no dense layer with a scale a channel
        VariantKind("coral", "tflite", "int8", _INT8, _TOLERANCE_INT8, shared_dense_scale=True, edgetpu="mapped"),
        VariantKind("onnx-float32", "onnx", "float32", _FLOAT32, _TOLERANCE_FLOAT32),
        VariantKind("onnx-float16", "onnx", "float16", _FLOAT16, _TOLERANCE_FLOAT16),
        VariantKind("onnx-int8", "onnx", "int8", _INT8, _TOLERANCE_INT8),
        VariantKind("onnx-int7", "onnx", "int8", _INT8, _TOLERANCE_INT8, reduced_range=True),
    )
}

DEFAULT_VARIANTS: Final = ("int8", "float32")
"""Exported unless others are named; the device uses the first."""


def variant_of(format: Format, precision: Precision) -> VariantKind:  # noqa: A002 (the manifest's word)
    """The first variant of this format and precision: what a model file of somebody else's counts as.

    Args:
        format: ``tflite`` or ``onnx``.
        precision: Its precision.

    Returns:
        The row of the variant.
    """
    return next(kind for kind in VARIANTS.values() if (kind.format, kind.precision) == (format, precision))


def require_known(names: tuple[str, ...]) -> None:
    """Refuse a list of variants that is empty, or that names one twice or an unknown one.

    Raises:
        ModelError: Reason ``bad_variant``.
    """
    known = ", ".join(VARIANTS)
    if not names:
        raise ModelError(f"no variant is named; the variants are {known}", reason="bad_variant")
    for position, name in enumerate(names):
        if name not in VARIANTS:
            raise ModelError(f"there is no variant {name!r}; the variants are {known}", reason="bad_variant")
        if name in names[:position]:
            raise ModelError(f"the variant {name} is named twice", reason="bad_variant")
