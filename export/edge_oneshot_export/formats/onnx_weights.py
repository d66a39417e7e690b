"""Read the weights of an ONNX model from files beside it into the model, since a bundle contains all of an encoder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from edge_oneshot_export.errors import ModelError

if TYPE_CHECKING:
    import onnx

_MAX_DIGITS: Final = 18


def read_weights(model: "onnx.ModelProto", folder: Path, limit: int) -> None:
    """Read a model's external weights into it.

    Every component of a path is opened below `folder` without following a link, so that no other file gets into a
    bundle. `onnx.load` also reads external weights, but its protection depends on its version and it has no size limit.

    Args:
        model: The model, whose initializers and attribute tensors are filled in.
        folder: The folder of the model's file.
        limit: Largest number of bytes to read in all.

    Raises:
        ModelError: ``bad_weights``: a file is outside `folder`, is not a regular file, is too short, or is too large.
    """
    from onnx import TensorProto

    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        name = said.get("location", "")
        with os.fdopen(_open(folder, name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset = _count(said.get("offset", "0"), name)
            length = _count(said.get("length", str(max(size - offset, 0))), name)
            if offset + length > size:
                message = f"the tensor {tensor.name!r} ends behind the end of {name}: it is cut short; copy it again"
                raise _bad(message)
            limit -= length
            if limit < 0:
                raise _bad(f"the weights in {name} and those before are too large for a bundle; give a smaller encoder")
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _open(folder: Path, name: str) -> int:
    """Open a regular file below a folder by its relative path; returns the descriptor."""
    steps = PurePosixPath(name).parts
    if not steps or name.startswith("/") or ".." in steps or "\0" in name:
        raise _bad(f"its weights are said to be in {name!r}, which is not below its own folder; put them beside it")
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for step in steps[:-1]:
            inner = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        # opening a pipe without a writer would block
        file = os.open(steps[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    except OSError as error:
        message = f"its weights in {name!r} cannot be read ({error.strerror}); put that file beside it, and no link"
        raise _bad(message) from error
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _bad(f"its weights are said to be in {name!r}, which is no regular file; put them beside it")
    return file


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise _bad(f"its weights in {name} begin or end at {text[:_MAX_DIGITS]!r}, which is no count; export it again")
    return int(text)


def _bad(message: str) -> ModelError:
    return ModelError(message, reason="bad_weights")
