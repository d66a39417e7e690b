"""The runtimes that execute model files, one row each."""

from typing import Final

import msgspec

from edge_oneshot_device.bundle.manifest import Format, Runtime


class RuntimeKind(msgspec.Struct, frozen=True):
    """A runtime.

    Attributes:
        name: The name in options and in the manifest.
        format: The format of the model files that it executes.
        distribution: The Python package that holds it.
        module: The module of that package that has to load.
        install: What to run to install it: the requirements of pyproject.toml, since this distribution itself is in no
            registry.
    """

    name: Runtime
    format: Format
    distribution: str
    module: str
    install: str


RUNTIME_KINDS: Final[dict[str, RuntimeKind]] = {
    kind.name: kind
    for kind in (
        RuntimeKind(
            "litert", "tflite", "ai-edge-litert", "ai_edge_litert.interpreter", 'pip install "ai-edge-litert>=2.1,<3"'
        ),
        RuntimeKind(
            "tflite-runtime",
            "tflite",
            "tflite-runtime",
            "tflite_runtime.interpreter",
            'pip install "tflite-runtime>=2.13,<3" "numpy<2"',
        ),
        RuntimeKind("onnxruntime", "onnx", "onnxruntime", "onnxruntime", 'pip install "onnxruntime>=1.22,<2"'),
    )
}


def runtimes_of(format: Format) -> tuple[Runtime, ...]:  # noqa: A002 (the manifest's word)
    """The runtimes that execute files of a format; the first is the default."""
    return tuple(kind.name for kind in RUNTIME_KINDS.values() if kind.format == format)
