"""Keras to TFLite: float32 and full int8."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.runtimes import Model
from edge_oneshot_export.conversion import converting, fixed
from edge_oneshot_export.errors import ExportError

if TYPE_CHECKING:
    import keras


def to_tflite(model: "keras.Model", variant: str, representative: NDArray[np.float32]) -> bytes:
    """Convert a model to TFLite with static batch 1.

    Args:
        model: Maps an image to a vector, see `edge_oneshot_export.conversion.check_model`.
        variant: ``float32`` or ``int8`` (int8 in, out and inside).
        representative: float32 (n, h, w, c), scaled; a few hundred images set the int8 ranges.

    Returns:
        The file's content; the same for the same model and images.

    Raises:
        ExportError: The converter failed, or left something in floating point in an int8 file.
    """
    with converting(variant):
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_keras_model(fixed(model, representative.shape[1:]))
        if variant == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[np.newaxis]] for image in representative)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        content = bytes(converter.convert())
    if variant == "int8":
        _refuse_floats(content)
    return content


def op_names(content: bytes) -> tuple[str, ...]:
    """Operators of a TFLite file in order, as BuiltinOperator names them, or the custom code."""
    model = _parse(content)
    return tuple(_op_name(model, operator) for graph in _graphs(model) for operator in _operators(graph))


class PlainModel:
    """A TFLite file in LiteRT without XNNPACK: kernels that answer bit for bit as tflite-runtime's do.

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
        """Run once, see `edge_oneshot_device.runtimes.Model`."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], values)
        self._interpreter.invoke()
        result: NDArray[Any] = self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])
        return result


def _refuse_floats(content: bytes) -> None:
    """A normalisation layer that did not fuse leaves float ops in an int8 file without any error."""
    from ai_edge_litert import schema_py_generated as schema

    floats = {schema.TensorType.FLOAT16, schema.TensorType.FLOAT32, schema.TensorType.FLOAT64}
    model = _parse(content)
    for graph in _graphs(model):
        left = {index for index in range(graph.TensorsLength()) if graph.Tensors(index).Type() in floats}
        if not left:
            continue
        touching = dict.fromkeys(
            _op_name(model, op)
            for op in _operators(graph)
            if left & {*_numbers(op.InputsAsNumpy()), *_numbers(op.OutputsAsNumpy())}
        )
        ops = [op for op in touching if op not in ("QUANTIZE", "DEQUANTIZE")] or touching
        message = (
            f"int8: {', '.join(ops)} stayed in floating point; leave such layers "
            "(L2 normalisation, say, which the device does) out of the model"
        )
        raise ExportError(message, reason="float_left")


def _parse(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(content)


def _graphs(model: Any) -> list[Any]:
    return [model.Subgraphs(index) for index in range(model.SubgraphsLength())]


def _operators(graph: Any) -> list[Any]:
    return [graph.Operators(index) for index in range(graph.OperatorsLength())]


def _op_name(model: Any, operator: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    code = model.OperatorCodes(operator.OpcodeIndex())
    # codes below 127 stand in the deprecated field as well, and in files of old in that alone
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return str(code.CustomCode().decode())
    names: dict[int, str] = {n: name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int)}
    return names[number]


def _numbers(tensors: Any) -> list[int]:
    # flatbuffers answers a plain 0 for an absent vector
    return [int(index) for index in tensors] if isinstance(tensors, np.ndarray) else []
