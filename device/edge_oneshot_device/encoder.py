"""The encoder: from an image or a recording to its embedding, through one variant of a bundle."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import EmbeddingSection, InputSection, Manifest, Variant
from edge_oneshot_device.bundle.runtime_kinds import runtimes_of
from edge_oneshot_device.encoding.lookup import input_flip, input_tables, output_values
from edge_oneshot_device.encoding.preprocessing import load_golden, load_image, require_content, start_decoder
from edge_oneshot_device.encoding.runtimes import EDGE_TPU, Model, TfliteModel, open_model
from edge_oneshot_device.encoding.sources import ImageSource, Picture, take_picture
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError

if TYPE_CHECKING:
    from edge_oneshot_device.faces.finding import FaceFinder

_GOLDEN_PIXELS: Final = 1 << 23


class Encoder:
    """A model with its preprocessing, which embeds images or recordings; for one thread at a time.

    Args:
        model: The model in its runtime.
        input: How an image becomes the model's input.
        embedding: Size and metric of the model's output.
        variant: Name of the variant.
        fingerprint: Fingerprint of the variant; embeddings of different fingerprints cannot be compared.
        faces: Finds the face in a photo, when the input has a face section; without it `embed_image` takes the whole
            image.

    Raises:
        IntegrityError: ``model_mismatch``: the model's tensors differ from those of the sections.
    """

    def __init__(
        self,
        model: Model,
        input: InputSection,  # noqa: A002
        embedding: EmbeddingSection,
        *,
        variant: str,
        fingerprint: str,
        faces: "FaceFinder | None" = None,
    ) -> None:
        _require_equal(variant, "input shape", model.input.shape, (1, *input.shape))
        _require_equal(variant, "output shape", model.output.shape, (1, embedding.size))
        self.variant = variant
        self._model = model
        self.fingerprint = fingerprint
        self.input = input
        self.embedding = embedding
        self.faces = faces
        self._run = model.run
        self._codes = output_values(model.output)
        self._normalised = embedding.metric == "cosine"
        self._shape, self._dtype = input.shape, np.dtype(np.uint8)
        self._values = np.empty((1, *input.shape), dtype=model.input.dtype)
        tables = input_tables(input, model.input)
        self._flip = input_flip(tables)
        step = input.channels // len(tables)
        channels = [slice(start, start + step) for start in range(0, input.channels, step)]
        self._lookups = [
            (table.tobytes() if table.itemsize == 1 else table, part, self._values[0, :, :, part])
            for table, part in zip(tables, channels, strict=True)
        ]

    @property
    def runtime(self) -> str:
        """Name of the runtime that ran the last inference."""
        return self._model.runtime

    @property
    def delegated(self) -> bool | None:
        """Whether XNNPACK computes; None when the runtime has no XNNPACK."""
        return self._model.delegated if isinstance(self._model, TfliteModel) else None

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        variant: str | None = None,
        *,
        runtime: str | None = None,
        threads: int = 1,
        allow_cpu: bool = False,
    ) -> "Encoder":
        """Load a variant, compare its tensors with the manifest, and check its golden outputs.

        Args:
            bundle: The bundle.
            variant: Name of one of its variants; None takes the first.
            runtime: Name of the runtime, such as ``edgetpu``; None takes the default of the variant's format.
            threads: Threads of one inference on the processor.
            allow_cpu: Run the variant's plain file when the Edge TPU fails; this is logged, and `runtime` tells it.

        Raises:
            InputError: ``variant_missing``, ``wrong_runtime``, ``not_compiled`` or ``wrong_threads``.
            IntegrityError: ``model_refused``, ``model_mismatch`` or ``self_test_failed``.
            MachineError: ``runtime_missing``, ``runtime_failed`` or ``out_of_memory``; of the Edge TPU also
                ``edgetpu_unavailable``, ``edgetpu_crashed`` or ``edgetpu_hung``.
        """
        start_decoder()  # before the model is loaded, because the forked process shares this memory
        name = bundle.manifest.default_variant if variant is None else variant
        encoder = load_encoder(bundle, name, runtime=runtime, threads=threads, allow_cpu=allow_cpu)
        self_test(encoder, bundle)
        return encoder

    def raw(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """The model's output, neither dequantized nor normalised.

        Args:
            pixels: uint8 (height, width, channels).

        Returns:
            Array (size,) of the model's output dtype.

        Raises:
            InputError: ``wrong_shape``: `pixels` has another shape or dtype.
            MachineError: ``runtime_failed``.
        """
        if pixels.shape != self._shape or pixels.dtype != self._dtype:
            raise InputError(
                f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 {self._shape}; use load_image",
                reason="wrong_shape",
            )
        if self._flip is not None:
            np.bitwise_xor(pixels, self._flip, out=self._values.view(np.uint8)[0])
        else:
            self._look_up(pixels)
        output: NDArray[Any] = self._run(self._values)[0]
        return output

    def _look_up(self, pixels: NDArray[np.uint8]) -> None:
        for table, part, values in self._lookups:
            channels = pixels[:, :, part]
            if isinstance(table, bytes):  # numpy would convert the indices to 64 bits first
                codes = np.frombuffer(channels.tobytes().translate(table), values.dtype)
                values[:] = codes.reshape(values.shape)
            else:
                # An 8-bit index is always in range; "clip" saves numpy a buffer.
                table.take(channels, out=values, mode="clip")

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding of an image.

        Args:
            pixels: uint8 (height, width, channels).

        Returns:
            float32 (size,): for cosine normalised to length 1 (all zero when the model's output is), for euclidean
            as the model computes it.

        Raises:
            InputError: ``wrong_shape``.
            MachineError: ``runtime_failed``.
        """
        output = self.raw(pixels)
        vector: NDArray[np.float32] = output if self._codes is None else self._codes.take(output.view(np.uint8))
        length = math.sqrt(vector.dot(vector))
        if not math.isfinite(length):
            raise MachineError(
                f"{self.runtime} returned an embedding with NaN or infinity; use another runtime or variant",
                reason="runtime_failed",
            )
        if self._normalised and length > 0.0:
            vector /= length
        return vector

    def embed_many(
        self, images: NDArray[np.uint8], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """The embeddings of many images, see `embed`.

        Args:
            images: uint8 (n, height, width, channels).
            progress: Is called after each image with the number of images embedded so far.

        Returns:
            float32 (n, size).

        Raises:
            InputError: ``wrong_shape``.
            MachineError: ``runtime_failed``.
        """
        embeddings = np.empty((len(images), self.embedding.size), dtype=np.float32)
        for index, pixels in enumerate(images):
            embeddings[index] = self.embed(pixels)
            if progress is not None:
                progress(index + 1)
        return embeddings

    def embed_image(self, source: ImageSource | Picture) -> NDArray[np.float32]:
        """The embedding of an image, or of a recording where the bundle takes recordings (`input.audio`).

        Args:
            source: An image file or a recording (WAV or FLAC) by its path, its content or an open file, a Pillow image,
                or uint8 pixels (height, width, 3) in RGB or (height, width) grey; see
                `edge_oneshot_device.encoding.sources`.

        Returns:
            float32 (size,), see `embed`.

        Raises:
            InputError: It cannot be read (see `load_image`), has ``no_content``, or shows no face that can be embedded
                (see `edge_oneshot_device.faces.finding.FaceFinder.chip`).
            MachineError: The file cannot be read, or the runtime failed.
        """
        picture = take_picture(source)
        pixels = load_image(picture, self.input) if self.faces is None else self.faces.load(picture)
        require_content(pixels, self.input, picture.name)
        return self.embed(pixels)


def load_encoder(
    bundle: Bundle, name: str, *, runtime: str | None = None, threads: int = 1, allow_cpu: bool = False
) -> Encoder:
    """`Encoder.open` without the self-test, to time the first inference.

    Args:
        bundle: The bundle.
        name: Name of one of its variants.
        runtime: As of `Encoder.open`.
        threads: As of `Encoder.open`.
        allow_cpu: As of `Encoder.open`.

    Raises:
        InputError: As `Encoder.open`.
        IntegrityError: As `Encoder.open`, but for ``self_test_failed``.
        MachineError: As `Encoder.open`.
    """
    manifest = bundle.manifest
    variant = _find(manifest, name)
    if runtime == EDGE_TPU:
        model, runtime = _open_edgetpu(bundle, variant, threads, allow_cpu)
    else:
        model = open_model(variant.format, bundle.read(variant.file), runtime=runtime, threads=threads)
    _require_equal(name, "input", model.input, variant.input)
    _require_equal(name, "output", model.output, variant.output)
    return Encoder(
        model,
        manifest.input,
        manifest.embedding,
        variant=name,
        fingerprint=variant.fingerprint,
        faces=open_faces(bundle, runtime=None if variant.format == "onnx" else runtime, threads=threads),
    )


def _open_edgetpu(bundle: Bundle, variant: Variant, threads: int, allow_cpu: bool) -> tuple[Model, str]:
    """The compiled model, and the runtime for the files that are not compiled."""
    from edge_oneshot_device.encoding.edgetpu import EdgeTpuModel, host_runtime

    if variant.compiled is None:
        names = ", ".join(one.name for one in bundle.manifest.variants if one.compiled) or "none has"
        message = f"variant {variant.name} has no file compiled for the Edge TPU; choose one that has: {names}"
        raise InputError(message, reason="not_compiled")
    host = host_runtime()

    def plain() -> Model:
        return open_model(variant.format, bundle.read(variant.file), runtime=host, threads=threads)

    return EdgeTpuModel(bundle.read(variant.compiled), plain if allow_cpu else None), host


def open_faces(bundle: Bundle, *, runtime: str | None = None, threads: int = 1) -> "FaceFinder | None":
    """The face finder for a bundle's encoder; None when the encoder takes the whole image.

    Args:
        bundle: The bundle.
        runtime: ``litert`` or ``tflite-runtime``; None takes ``litert``.
        threads: Threads of one inference.

    Raises:
        IntegrityError: ``model_refused`` or ``model_mismatch``.
        MachineError: ``runtime_missing`` or ``out_of_memory``.
    """
    section = bundle.manifest.input
    if section.face is None:
        return None
    from edge_oneshot_device.faces.finding import FaceFinder

    return FaceFinder(
        bundle.members, section, section.face, runtime=runtime or runtimes_of("tflite")[0], threads=threads
    )


def self_test(encoder: Encoder, bundle: Bundle) -> None:
    """Run the bundle's golden images through decoding, preprocessing and model; golden faces are aligned already.

    Args:
        encoder: An encoder of the bundle.
        bundle: Has the images and the expected outputs.

    Raises:
        IntegrityError: ``self_test_failed``: an output differs from the expected one by more than the tolerance, or an
            image cannot be used.
    """
    test = bundle.manifest.self_test
    tolerance = test.tolerance[encoder.variant]
    for path, expected in zip(test.images, test.outputs[encoder.variant], strict=True):
        try:
            output = encoder.raw(load_golden(bundle.read(path), encoder.input, _GOLDEN_PIXELS))
        except InputError as error:
            raise IntegrityError(
                f"the self-test image {path} cannot be used: {error}", reason="self_test_failed"
            ) from error
        difference = float(np.max(np.abs(output.astype(np.float64) - np.array(expected))))
        unit = "" if output.dtype == np.float32 else " LSB"
        if not difference <= tolerance:  # so that NaN fails
            raise IntegrityError(
                f"the self-test of variant {encoder.variant} on {encoder.runtime} fails: its output for {path} is"
                f" {difference:g}{unit} off, the tolerance is {tolerance:g}{unit}; use another runtime or variant, or"
                " export the bundle again",
                reason="self_test_failed",
            )


def _find(manifest: Manifest, name: str) -> Variant:
    for variant in manifest.variants:
        if variant.name == name:
            return variant
    names = ", ".join(variant.name for variant in manifest.variants)
    raise InputError(f"the bundle has no variant {name!r}; it has {names}", reason="variant_missing")


def _require_equal(variant: str, what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise IntegrityError(
            f"variant {variant}: the model's {what} is {actual}, expected {expected}; export the bundle again",
            reason="model_mismatch",
        )
