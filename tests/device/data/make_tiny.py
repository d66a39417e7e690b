"""Make the tiny models beside this file: python tests/device/data/make_tiny.py

Needs what the workstation has (TensorFlow, tf2onnx); the device's tests do not. The net is a
fixed random projection of an 8 x 8 grey image to 16 values: different images get clearly
different embeddings, and nothing has to be trained. The files are committed; their bytes may
change with TensorFlow's version, the tests ask only for what they compute.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

HERE = Path(__file__).parent
SHAPE = (8, 8, 1)
SIZE = 16


def main() -> None:
    """Write tiny-int8.tflite, tiny-float32.tflite and tiny.onnx."""
    keras.utils.set_random_seed(20)
    body = keras.Sequential(
        [keras.layers.Conv2D(4, 3, 2, padding="same"), keras.layers.Flatten(), keras.layers.Dense(SIZE)]
    )
    model = keras.Model(pixels := keras.Input(batch_shape=(1, *SHAPE)), body(pixels))
    rng = np.random.default_rng(20)
    # Zero-mean filters: the embedding of a flat image is zero, so images differ in direction.
    for weight in model.trainable_variables:
        values = rng.standard_normal(weight.shape)
        if weight.shape[0] == 3:
            values -= values.mean(axis=(0, 1))
        weight.assign(values if len(weight.shape) > 1 else np.zeros(weight.shape))

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (HERE / "tiny-float32.tflite").write_bytes(converter.convert())

    images = rng.uniform(-1, 1, (200, 1, *SHAPE)).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (HERE / "tiny-int8.tflite").write_bytes(converter.convert())

    signature = [tf.TensorSpec((1, *SHAPE), tf.float32, name="pixels")]
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=signature, opset=17)
    (HERE / "tiny.onnx").write_bytes(proto.SerializeToString())


if __name__ == "__main__":
    main()
