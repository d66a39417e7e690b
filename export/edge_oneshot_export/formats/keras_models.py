"""Keras settings that the exporter needs, and models that compute in 16 bits."""

import os
from typing import TYPE_CHECKING, Any, Final

from edge_oneshot_export.errors import ModelError

if TYPE_CHECKING:
    import keras

_HALVES: Final = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


def pin_settings() -> None:
    """Ignore the user's Keras settings for other programs; call it before Keras is imported.

    Without a home folder Keras reads no keras.json (backend, image format, type of floats) and writes none.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.devnull
    os.environ.pop("TF_USE_LEGACY_KERAS", None)


def require_settings() -> None:
    """Refuse Keras settings that the exporter cannot work with, in a process that did not call `pin_settings`.

    Raises:
        ModelError: Reason ``keras_settings``: Keras runs on another backend, or has another image format or float type.
    """
    import keras

    if keras.config.backend() != "tensorflow":
        message = f"Keras runs on {keras.config.backend()} here; set KERAS_BACKEND=tensorflow before it is imported"
        raise ModelError(message, reason="keras_settings")
    wanted = {"image_data_format": "channels_last", "floatx": "float32"}
    for name, value in wanted.items():
        found = getattr(keras.config, name)()
        if found != value:
            message = f"Keras has {name} {found} here; say keras.config.set_{name}('{value}') first"
            raise ModelError(message, reason="keras_settings")


def require_model(model: object) -> None:
    """Refuse anything but a Keras 3 model on TensorFlow, and say what it is.

    Raises:
        ModelError: Reason ``not_a_model`` or ``keras_settings``.
    """
    import keras

    if any(kind.__module__.split(".")[0] == "tf_keras" for kind in type(model).__mro__):
        message = (
            "this is a model of tf_keras, which is Keras 2; save it as .h5 and load that with keras.models.load_model, "
            "or convert it to TFLite and run: edge-oneshot export --model FILE.tflite"
        )
        raise ModelError(message, reason="not_a_model")
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a keras.Model, got {type(model).__name__}", reason="not_a_model")
    if keras.config.backend() != "tensorflow":
        require_settings()


def in_float32(model: "keras.Model") -> "keras.Model":
    """The model itself, or a copy with the same weights that computes in float32 if the model computes in 16 bits.

    Converters fail on 16-bit layers, and the weights of a mixed-precision model are already float32.

    Raises:
        ModelError: Reason ``bad_precision``: the model cannot be rebuilt, or Keras has quantized it.
    """
    import keras

    policies = _policies(model)
    quantized = sorted(policy for policy in policies if "_from_" in policy)
    if quantized:
        message = f"Keras has quantized the model ({quantized[0]}): export it as it was before, the exporter quantizes"
        raise ModelError(message, reason="bad_precision")
    halves = sorted(policies & {*_HALVES})
    if not halves:
        return model
    try:
        plain = _with_float32(keras.saving.serialize_keras_object(model))
        rebuilt = keras.saving.deserialize_keras_object(plain, custom_objects=_classes(model), safe_mode=False)
        rebuilt.set_weights([keras.ops.convert_to_numpy(weight).astype("float32") for weight in model.weights])
        if _policies(rebuilt) & {*_HALVES}:
            raise ValueError("a layer insists on it")
    except Exception as error:  # a user's own layer may raise any error
        message = (
            f"the model computes in {halves[0]} and cannot be rebuilt in float32 ({type(error).__name__}): build it "
            "after keras.config.set_dtype_policy('float32'), and load its weights"
        )
        raise ModelError(message, reason="bad_precision") from error
    return rebuilt


def _policies(model: "keras.Model") -> set[str]:
    return {layer.dtype_policy.name for layer in _layers(model)}


def _classes(model: "keras.Model") -> dict[str, type]:
    return {type(layer).__name__: type(layer) for layer in _layers(model)}


def _layers(model: "keras.Model") -> list["keras.layers.Layer"]:
    import keras

    found = [model]
    for layer in model.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _with_float32(config: Any) -> Any:
    """The configuration with float32 in place of every 16-bit type or policy."""
    if isinstance(config, dict):
        return {key: _with_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32(value) for value in config)
    return "float32" if isinstance(config, str) and config in _HALVES else config
