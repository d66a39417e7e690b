"""Tiny random encoders as the exporters of other people write them: names, layouts, opsets, free sides, types."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edge_oneshot_export.formats.conversion import converting

SIDE, VALUES = 32, 16


def onnx_net(
    *,
    sides: Sequence[int | str | None] = (1, 3, SIDE, SIDE),
    answer: Sequence[int | str | None] = (1, VALUES),
    opset: int = 17,
    ir: int = 8,
    kind: int = TensorProto.FLOAT,
    listed: bool = False,
    extra: Sequence[str] = (),
    head: str = "vector",
    names: tuple[str, str] = ("input", "output"),
    seed: int = 0,
) -> onnx.ModelProto:
    """A convolution and a dense layer, channels first.

    `listed` puts the weights among the inputs, `extra` are further outputs (``mask``, ``logits``); `head` is
    ``vector``, ``pooled`` (n, c, 1, 1), ``map`` (n, c, h, w) or ``unit`` (of length 1).
    """
    rng = np.random.default_rng(seed)
    channels = sides[1] if isinstance(sides[1], int) and sides[1] > 0 else 3
    weights = {
        "conv.weight": _filters(rng, (24, channels, 5, 5), (1, 2, 3)),
        "fc.weight": rng.normal(size=(24, VALUES)) / 2,
        "classes.weight": rng.normal(size=(VALUES, 10)),
    }
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    image, vector = names
    nodes = [
        helper.make_node("Conv", [image, "conv.weight"], ["maps"], "conv", strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["active"], "relu"),
    ]
    if head == "map":
        nodes[1].output[0] = vector
    elif head == "pooled":
        nodes.append(helper.make_node("GlobalAveragePool", ["active"], [vector], "pool"))
    else:
        flat = vector if head == "vector" else "dense"
        nodes += [
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
            helper.make_node("MatMul", ["flat", "fc.weight"], [flat], "fc"),
        ]
        if head == "unit":
            nodes.append(helper.make_node("LpNormalization", ["dense"], [vector], "norm", axis=1, p=2))
    outputs = [helper.make_tensor_value_info(vector, kind, answer)]
    if "mask" in extra:
        nodes.append(helper.make_node("Sigmoid", ["active"], ["mask"], "mask_head"))
        outputs.insert(0, helper.make_tensor_value_info("mask", kind, [1, 24, 7, 7]))
    if "logits" in extra:
        nodes.append(helper.make_node("MatMul", [vector, "classes.weight"], ["logits"], "classes"))
        outputs.append(helper.make_tensor_value_info("logits", kind, [answer[0], 10]))
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(w.astype(dtype), name) for name, w in weights.items() if name in used]
    inputs = [helper.make_tensor_value_info(image, kind, sides)]
    if listed:
        inputs += [helper.make_tensor_value_info(tensor.name, kind, tensor.dims) for tensor in tensors]
    graph = helper.make_graph(nodes, "main_graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def quantized(folder: Path, model: onnx.ModelProto, way: str) -> onnx.ModelProto:
    """As ONNX Runtime's ``dynamic`` or ``static`` quantization leaves it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

    plain, made = folder / "plain.onnx", folder / "quantized.onnx"
    onnx.save(model, plain)
    if way == "dynamic":
        quantize_dynamic(plain, made, weight_type=QuantType.QUInt8)
        return onnx.load(made)
    rng = np.random.default_rng(0)
    shown = iter([{"input": rng.uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(8)])

    class Reader(CalibrationDataReader):
        def get_next(self):
            return next(shown, None)

    quantize_static(plain, made, Reader())
    return onnx.load(made)


def beside(folder: Path, model: onnx.ModelProto, name: str = "a.onnx", where: str = "a.onnx.data") -> Path:
    """The model with its weights in a file beside it."""
    onnx.save(model, folder / name, save_as_external_data=True, location=where, size_threshold=0)
    return folder / name


def tflite_net(
    *,
    sides: Sequence[int | None] = (1, SIDE, SIDE, 3),
    first: bool = False,
    dtype: str = "float32",
    inside: Callable[[Any], Any] | None = None,
    head: str = "vector",
    outputs: Sequence[str] = ("embedding",),
    quantize: str = "",
    span: tuple[float, float] = (-1.0, 1.0),
    io: str = "float32",
    seed: int = 0,
) -> bytes:
    """A convolution and a dense layer, through TensorFlow's converter.

    `first`: channels first, as litert-torch leaves them; `inside` is done to the input, of `dtype`; `head` as of
    `onnx_net`, or ``spread`` (1, 1, 1, n); `outputs` of ``embedding``, ``mask``, ``logits``; `quantize` is ``dynamic``,
    ``float16``, ``int8`` (calibrated on `span`, with `io` in and out) or ``16x8``.
    """
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    channels = sides[1] if first else sides[3]
    conv = tf.constant(_filters(rng, (5, 5, channels, 24), (0, 1, 2)), tf.float32)
    dense = tf.constant(rng.normal(size=(24, VALUES)) / 2, tf.float32)
    classes = tf.constant(rng.normal(size=(VALUES, 10)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec(sides, getattr(tf, dtype), name="serving_default_input_1")])
    def net(image):
        if inside:
            image = inside(image)
        if first:
            image = tf.transpose(image, (0, 2, 3, 1))
        maps = tf.nn.relu(tf.nn.conv2d(image, conv, 4, "SAME"))
        vector = tf.reduce_mean(maps, (1, 2)) @ dense
        if head == "unit":
            vector = tf.math.l2_normalize(vector, axis=1)
        if head == "spread":
            vector = vector[:, tf.newaxis, tf.newaxis, :]
        made = {"embedding": maps if head == "map" else vector, "mask": tf.sigmoid(maps), "logits": vector @ classes}
        return {name: made[name] for name in outputs}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()], net)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize in ("int8", "16x8"):
        fixed = [side or SIDE for side in sides]
        shown = [[rng.uniform(*span, fixed).astype(np.float32)] for _ in range(8)]
        shown[0][0].flat[:2] = span
        converter.representative_dataset = lambda: iter(shown)
        converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    if quantize == "16x8":
        ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops]
    with converting(quantize or "float32"):
        return converter.convert()


def with_metadata(content: bytes, mean: Sequence[float], scale: Sequence[float]) -> bytes:
    """With ``TFLITE_METADATA`` that names the normalisation of the input, as MediaPipe Model Maker writes it."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(_metadata(mean, scale), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return packed(model)


def with_signature(content: bytes, names: Sequence[str]) -> bytes:
    """With a signature that calls its outputs so, as a SavedModel's file has one."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = model.subgraphs[0], schema.SignatureDefT()

    def entry(name: str, tensor: int) -> Any:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), tensor
        return made

    signature.signatureKey = b"serving_default"
    signature.inputs = [entry("image", graph.inputs[0])]
    signature.outputs = [entry(name, tensor) for name, tensor in zip(names, graph.outputs, strict=True)]
    model.signatureDefs = [signature]
    return packed(model)


def packed(model: Any) -> bytes:
    """The file of a ModelT."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def custom(content: bytes, name: bytes) -> bytes:
    """Its first operator is a custom one of this name."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = name
    model.subgraphs[0].operators[0].builtinOptionsType = 0
    model.subgraphs[0].operators[0].builtinOptions = None
    return packed(model)


def _filters(rng: np.random.Generator, shape: Sequence[int], inner: tuple[int, ...]) -> np.ndarray:
    """Filters that see no brightness, so that images are as different to them at any scaling."""
    drawn = rng.normal(size=shape) / 5
    return drawn - drawn.mean(axis=inner, keepdims=True)


def _metadata(mean: Sequence[float], scale: Sequence[float]) -> bytes:
    """ModelMetadata of metadata_schema.fbs with nothing but one NormalizationOptions."""
    build = flatbuffers.Builder(256)

    def floats(values: Sequence[float]) -> int:
        build.StartVector(4, len(values), 4)
        for value in reversed(values):
            build.PrependFloat32(value)
        return build.EndVector()

    def listed(table: int) -> int:
        build.StartVector(4, 1, 4)
        build.PrependUOffsetTRelative(table)
        return build.EndVector()

    def table(fields: int, **slots: int) -> int:
        build.StartObject(fields)
        for slot, offset in slots.items():
            build.PrependUOffsetTRelativeSlot(int(slot[1:]), offset, 0)
        return build.EndObject()

    options = table(2, _0=floats(mean), _1=floats(scale))
    build.StartObject(2)
    build.PrependUint8Slot(0, 1, 0)
    build.PrependUOffsetTRelativeSlot(1, options, 0)
    unit = build.EndObject()
    tensor = table(7, _4=listed(unit))
    graph = table(6, _2=listed(tensor))
    build.Finish(table(8, _3=listed(graph)), b"M001")
    return bytes(build.Output())
