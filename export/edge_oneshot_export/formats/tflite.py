"""Convert Keras to TFLite: float32, float16, dynamic range, full int8, and int8 for the Edge TPU."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_oneshot_device.encoding.runtimes import Model
from edge_oneshot_export.errors import ExportError
from edge_oneshot_export.formats.conversion import converting, fixed
from edge_oneshot_export.formats.tflite_file import read_tflite
from edge_oneshot_export.variants import Precision, VariantKind

if TYPE_CHECKING:
    import keras

_HEADROOM: Final = 1.25
_RESCALING: Final = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # their output may have any scale
_FLOATS = ("float16", "float32", "float64")


def to_tflite(model: "keras.Model", kind: VariantKind, representative: NDArray[np.float32]) -> bytes:
    """Convert a model to TFLite with static batch 1.

    Args:
        model: Maps an image to a vector, see `edge_oneshot_export.formats.conversion.check_model`.
        kind: The variant; its precision decides how the converter is set.
        representative: float32 (n, h, w, c), scaled; a few hundred images set the int8 ranges.

    Returns:
        The file's content; the same for the same model and images.

    Raises:
        ExportError: The converter failed, or left something in floating point in an int8 file.
    """
    with converting(kind.name):
        content = bytes(converter_of(model, kind, representative).convert())
    if kind.precision == "int8":
        _refuse_floats(kind.name, content)
        content = _with_headroom(content)
    return content


def converter_of(model: "keras.Model", kind: VariantKind, representative: NDArray[np.float32]) -> Any:
    """TensorFlow's converter with the settings of a variant.

    Args:
        model: Maps an image to a vector.
        kind: The variant.
        representative: float32 (n, h, w, c), scaled.

    Returns:
        A `tf.lite.TFLiteConverter`.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(fixed(model, representative.shape[1:]))
    if kind.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind.precision == "int8":
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in representative)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    if kind.shared_dense_scale:
        # the setting has no public name
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return converter


def op_names(content: bytes) -> tuple[str, ...]:
    """The operators of a TFLite file in order: names of BuiltinOperator, or custom codes."""
    return tuple(operator.name for operator in read_tflite(content).operators)


def precision(content: bytes) -> Precision:
    """What a TFLite file computes in: ``int8`` where values between its operators have 8 or 16 bits.

    Otherwise its weights decide: ``dynamic`` where any are int8, ``float16`` where any are, else ``float32``.
    """
    graph = read_tflite(content).subgraphs[0]
    between = {
        tensor.dtype for index, tensor in enumerate(graph.tensors) if not tensor.constant and index not in graph.inputs
    }
    if between & {"int8", "uint8", "int16"}:
        return "int8"
    weights = {tensor.dtype for tensor in graph.tensors if tensor.constant}
    if "int8" in weights:
        return "dynamic"
    return "float16" if "float16" in weights else "float32"


class PlainModel:
    """A TFLite file in LiteRT without XNNPACK, whose kernels give bit for bit the results of tflite-runtime.

    Args:
        content: The file.
        model: The same file as the device opens it.
    """

    runtime = "litert"

    def __init__(self, content: bytes, model: Model) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.input, self.output = model.input, model.output
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
        self._interpreter.allocate_tensors()

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run once, see `edge_oneshot_device.encoding.runtimes.Model`."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], values)
        self._interpreter.invoke()
        result: NDArray[Any] = self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])
        return result


def _with_headroom(content: bytes) -> bytes:
    """Scale the output so that the embeddings of the representative images use four fifths of the 8 bits.

    Embeddings of other images may exceed that range and would be clipped. It also reduces the difference, in steps,
    between runtimes that round differently.
    """
    patched = bytearray(content)
    graph = schema.Model.GetRootAs(patched).Subgraphs(0)
    operators, output = read_tflite(content).subgraphs[0].operators, graph.Outputs(0)
    maker = {tensor: operator for operator in operators for tensor in operator.outputs}
    joined = maker[output].name == "CONCATENATION"  # of several embeddings, with one scale
    parts = maker[output].inputs if joined else (output,)
    if all(part in maker and maker[part].name in _RESCALING for part in parts):
        for tensor in {*parts, output}:
            scale = graph.Tensors(tensor).Quantization().ScaleAsNumpy()  # a view of the file
            scale *= np.float32(_HEADROOM)
    return bytes(patched)


def _refuse_floats(variant: str, content: bytes) -> None:
    """Refuse an int8 file with float ops: the converter leaves them, without an error, where a layer did not fuse."""
    for graph in read_tflite(content).subgraphs:
        left = {index for index, tensor in enumerate(graph.tensors) if tensor.dtype in _FLOATS}
        if not left:
            continue
        touching = dict.fromkeys(op.name for op in graph.operators if left & {*op.inputs, *op.outputs})
        ops = [op for op in touching if op not in ("QUANTIZE", "DEQUANTIZE")] or touching
        message = (
            f"{variant}: {', '.join(ops)} stayed in floating point; leave such layers "
            "(L2 normalisation, say, which the device does) out of the model"
        )
        raise ExportError(message, reason="float_left")
