"""What all converters share: checks of the model, its wrapper with a static input, and suppression of output."""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import scale
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.formats.keras_models import require_model

if TYPE_CHECKING:
    import keras

Pixel = TypeVar("Pixel", np.uint8, np.float32)

INPUT_NAME = "image"
WRAPPER = "encoder"
MAX_SIZE = 4096  # largest embedding that the manifest allows
BATCH = 64


def check_model(model: "keras.Model", section: InputSection) -> int:
    """Check that a model maps one image to one vector.

    Args:
        model: The model.
        section: The input that the model has to have.

    Returns:
        The embedding's size.

    Raises:
        ModelError: It is not a Keras model, has several inputs or outputs, has a rank, size or dtype that cannot be
            exported, or has another input than `section` describes.
    """
    import keras

    require_model(model)
    for tensor in _inputs(model):
        _check_input(tuple(tensor.shape), str(tensor.dtype), section)
    try:
        outputs = keras.tree.flatten(fixed(model, section.shape).outputs)
    except (ValueError, TypeError) as error:
        message = f"the model does not take an image of shape {section.shape}: {_first_line(error)}"
        raise ModelError(message, reason="bad_input") from error
    if len(outputs) != 1:
        raise ModelError(f"the model has {len(outputs)} outputs, expected one: the embedding", reason="bad_output")
    shape, dtype = tuple(outputs[0].shape), str(outputs[0].dtype)
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ModelError(f"the model's output has shape {shape}, expected (1, size): one vector", reason="bad_output")
    if not 2 <= shape[1] <= MAX_SIZE:
        raise ModelError(f"the embedding has {shape[1]} values, expected 2 to {MAX_SIZE}", reason="bad_output")
    if dtype != "float32":
        raise ModelError(f"the model's output is {dtype}, expected float32", reason="bad_output")
    return shape[1]


def fixed(model: "keras.Model", shape: tuple[int, ...]) -> "keras.Model":
    """Wrap a model with an input of static shape, under fixed names, so that the exported files are reproducible.

    Args:
        model: The model.
        shape: Height, width and channels.

    Returns:
        A model that takes (1, h, w, c).
    """
    import keras

    image = keras.Input(batch_shape=(1, *shape), name=INPUT_NAME, dtype="float32")
    return keras.Model(image, model(image), name=WRAPPER)


def reference_embeddings(model: "keras.Model", images: NDArray[np.uint8], section: InputSection) -> NDArray[np.float32]:
    """The embeddings of the Keras model itself, to which every exported variant is compared.

    Args:
        model: A model that `check_model` accepts.
        images: uint8 (n, h, w, c), preprocessed but not yet scaled.
        section: The encoder's input, which says how pixels are scaled.

    Returns:
        float32 (n, size), not normalised.

    Raises:
        ModelError: An embedding is not finite.
    """
    import keras

    batch = 1 if any(tensor.shape[0] == 1 for tensor in _inputs(model)) else BATCH
    rows = []
    for start in range(0, len(images), batch):
        outputs = model(scale(images[start : start + batch], section), training=False)
        rows.append(keras.ops.convert_to_numpy(keras.tree.flatten(outputs)[0]))
    embeddings = np.concatenate(rows).astype(np.float32)
    if not np.isfinite(embeddings).all():
        raise ModelError("the model's embeddings contain NaN or infinity: train it anew", reason="not_finite")
    return embeddings


def spread(images: NDArray[Pixel], most: int) -> NDArray[Pixel]:
    """Choose images evenly.

    Args:
        images: (n, h, w, c).
        most: The largest number of images to take.

    Returns:
        All images, or `most` of them.
    """
    if len(images) <= most:
        return images
    return np.asarray(images[np.linspace(0, len(images) - 1, most).astype(int)])


@contextlib.contextmanager
def quiet(log: int) -> Iterator[None]:
    """Redirect file descriptor 2, to which TensorFlow writes from C++, to `log`, and discard what Python prints."""
    if sys.stderr is None:  # closed
        with contextlib.redirect_stdout(io.StringIO()):
            yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(log, 2)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def converting(variant: str) -> Iterator[None]:
    """Keep a converter's output off the terminal, and turn its failure into an ExportError.

    The converter's output is attached to the error as a note.
    """
    with tempfile.TemporaryFile() as log:
        try:
            with quiet(log.fileno()), warnings.catch_warnings():
                # for every int8 model, even though a representative data set was given
                warnings.filterwarnings("ignore", message="Statistics for quantized inputs", category=UserWarning)
                # by the quantization debugger, which uses it
                warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is", category=UserWarning)
                # likewise, because it keeps every tensor in memory
                warnings.filterwarnings("ignore", message=r"\s*Warning: Enabling `exper", category=UserWarning)
                yield
        except (ExportError, OSError, MemoryError):
            raise
        except Exception as error:  # converters raise errors of any class
            message = f"{variant}: the conversion failed: {_first_line(error)}"
            failure = ExportError(message, reason="conversion_failed")
            log.seek(0)
            failure.add_note(log.read().decode(errors="replace"))
            raise failure from error


def _inputs(model: "keras.Model") -> list[Any]:
    """The model's declared input as a list of one; empty for a subclassed model, which declares none."""
    inputs = list(getattr(model, "inputs", None) or [])
    if len(inputs) > 1:
        raise ModelError(f"the model has {len(inputs)} inputs, expected one image", reason="bad_input")
    return inputs


def _check_input(shape: tuple[int | None, ...], dtype: str, section: InputSection) -> None:
    if len(shape) != 4:
        raise ModelError(f"the model's input has shape {shape}, expected (batch, h, w, c)", reason="bad_input")
    if shape[0] not in (None, 1):
        raise ModelError(f"the model's batch size is {shape[0]}, expected a free one or 1", reason="bad_input")
    if None in shape[1:]:
        message = f"the model's input {shape[1:]} has a free size: give keras.Input the image's height and width"
        raise ModelError(message, reason="bad_input")
    if shape[3] not in (1, 3):
        raise ModelError(f"the model takes {shape[3]} channels, expected 1 (grey) or 3 (rgb)", reason="bad_input")
    if shape[1:] != section.shape:
        message = f"the model takes {shape[1:]}, but the input section says {section.shape} (h, w, c)"
        raise ModelError(message, reason="bad_input")
    if dtype != "float32":
        raise ModelError(f"the model's input is {dtype}, expected float32", reason="bad_input")


def _first_line(error: Exception) -> str:
    text = re.sub(r"<unknown>:0: error: loc\(.*\): ", " ", str(error))  # MLIR names the location at great length
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
