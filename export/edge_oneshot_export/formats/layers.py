"""Quantization error by layer: the int8 output of each layer compared with its float output."""

import csv
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.drift_section import LayerError
from edge_oneshot_export.formats.conversion import WRAPPER, converting, spread
from edge_oneshot_export.formats.tflite import converter_of
from edge_oneshot_export.variants import VariantKind

if TYPE_CHECKING:
    import keras

_IMAGES: Final = 50
_MOST_DB: Final = 100.0  # where there is no error, as in layers that only move values


def layer_errors(
    model: "keras.Model", kind: VariantKind, representative: NDArray[np.float32]
) -> tuple[LayerError, ...]:
    """The signal to quantization noise ratio of each layer of the int8 file, in the order of computation.

    TensorFlow's quantization debugger runs a float twin beside every int8 op, on the outputs of the int8 ops before it,
    so that each figure is the error of that layer alone. It is the mean in decibels over channels and images, so that a
    channel that is drowned by a larger one shows.

    Args:
        model: As `edge_oneshot_export.formats.tflite.to_tflite` takes it.
        kind: An int8 variant.
        representative: float32 (n, h, w, c), scaled; the ranges come from all images, the errors from some.

    Returns:
        The ratio of each layer, for the manifest.

    Raises:
        ExportError: The converter failed.
    """
    some = spread(representative, _IMAGES)
    dump = io.StringIO()

    def dataset() -> Iterator[list[NDArray[np.float32]]]:
        return ([image[np.newaxis]] for image in some)

    with converting(kind.name):
        import tensorflow as tf

        debug = tf.lite.experimental
        options = debug.QuantizationDebugOptions(layer_direct_compare_metrics={"sqnr_db": _sqnr_db})
        made = debug.QuantizationDebugger(
            converter=converter_of(model, kind, representative), debug_dataset=dataset, debug_options=options
        )
        # opened from a file, the model keeps the memory of every layer instead of reusing it for later ones
        debugger = debug.QuantizationDebugger(
            quant_debug_model_content=made.get_debug_quantized_model(), debug_dataset=dataset, debug_options=options
        )
        debugger.run()
        debugger.layer_statistics_dump(dump)
    dump.seek(0)
    within = _model_names(model) | {WRAPPER}
    return tuple(
        LayerError(op=row["op_name"], name=_short(row["tensor_name"], within), sqnr_db=round(float(row["sqnr_db"]), 2))
        for row in csv.DictReader(dump)
    )


def _sqnr_db(exact: NDArray[np.float32], code: NDArray[Any], scale: float, zero_point: int) -> float:
    error = exact - (code.astype(np.float32) - zero_point) * scale
    places = tuple(range(exact.ndim - 1)) if exact.ndim == 4 else None
    signal, noise = (np.atleast_1d(np.square(part, dtype=np.float64).sum(axis=places)) for part in (exact, error))
    shown = signal > 0.0
    if not shown.any():
        return _MOST_DB
    return float(np.minimum(10.0 * np.log10(signal[shown] / np.maximum(noise[shown], 1e-300)), _MOST_DB).mean())


def _model_names(model: "keras.Model") -> set[str]:
    import keras

    inner = (layer for layer in model.layers if isinstance(layer, keras.Model))
    return {model.name}.union(*map(_model_names, inner))


def _short(name: str, within: set[str]) -> str:
    """The layers of a fused op, by their own names: without the names of the models around them and of their ops."""
    if name.startswith("StatefulPartitionedCall"):
        return "the output"
    paths = (part.split("/") for part in name.split(";"))
    found = [[step for step in path if re.sub(r"_[0-9]+$", "", step) not in within] for path in paths]
    # a layer is named after what is fused into it
    return " + ".join(reversed(dict.fromkeys(layers[0] for layers in found if layers)))
