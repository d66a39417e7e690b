"""The manifest of a bundle, the contract between the workstation and the device; `codec` reads and writes it."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.drift_section import Drift
from edge_oneshot_device.bundle.face_section import FaceSection
from edge_oneshot_device.bundle.fields import (
    Bytes,
    Count,
    Digest,
    Instant,
    Lead,
    Level,
    MemberPath,
    Output,
    Positive,
    Rate,
    Score,
    Section,
    Slug,
    TargetFar,
    Text,
    Word,
)
from edge_oneshot_device.image_files import SourceKind

FORMAT = 1
MANIFEST_NAME = "manifest.json"

Metric = Literal["cosine", "euclidean"]
Rule = Literal["best", "mean"]
Dtype = Literal["int8", "uint8", "float32"]
Format = Literal["tflite", "onnx"]
Runtime = Literal["litert", "tflite-runtime", "onnxruntime"]


class Member(Section, frozen=True):
    """One file of the bundle, other than the manifest and its signature."""

    path: MemberPath
    bytes: Bytes
    sha256: Digest


class InputSection(Section, frozen=True, omit_defaults=True):
    """How an image or a recording becomes the model's input, in enough detail to repeat it bit for bit.

    The image is decoded, turned upright by its EXIF tag, converted to `colour`, framed, stretched to `width` x `height`
    with Pillow's filter `resize`, and scaled: ``(pixel - mean) / scale`` per channel, for pixels in 0..255. A negative
    scale turns dark ink on white into high values.

    Attributes:
        value_range: Smallest and largest value of the scaled input.
        min_contrast: Smallest difference, in 8-bit levels, between the lightest and the darkest pixel after resizing;
            an image with less contrast has no content.
        framing: ``whole``: the whole image. ``ink``: the square around the drawing, see
            `edge_oneshot_device.encoding.framing.frame_ink`. ``whole`` is the default and omitted, so that older
            templates keep their fingerprint.
        face: The model's input is the aligned face of a photo, of this size and colour; then `resize` is used for the
            images of the self-test only, which are aligned already. Absent when the input is the whole image.
        audio: The model's input is the spectrogram of a recording, of this size; then `resize` is used for the images
            of the self-test only, which are spectrograms already. Absent when the input is an image.
    """

    height: Annotated[int, msgspec.Meta(ge=8, le=1024)]
    width: Annotated[int, msgspec.Meta(ge=8, le=1024)]
    colour: Literal["grey", "rgb"]
    resize: Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]
    mean: Annotated[tuple[Level, ...], msgspec.Meta(max_length=3)]
    scale: Annotated[tuple[Level, ...], msgspec.Meta(max_length=3)]
    value_range: tuple[Output, Output]
    min_contrast: Annotated[int, msgspec.Meta(ge=1, le=255)]
    framing: Literal["whole", "ink"] = "whole"
    face: FaceSection | None = None
    audio: AudioSection | None = None

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.colour == "grey" else 3

    @property
    def kind(self) -> SourceKind:
        """What the encoder takes: ``image`` or ``recording``."""
        return "image" if self.audio is None else "recording"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


class EmbeddingSection(Section, frozen=True):
    """The model's output: a vector of `size` values, compared by `metric`.

    Cosine embeddings are L2-normalised on the host after dequantization, never in the graph.
    """

    size: Annotated[int, msgspec.Meta(ge=2, le=4096)]
    metric: Metric


class TensorSpec(Section, frozen=True):
    """Input or output tensor of a model file; scale 0 means that it is not quantized.

    ``real = scale * (integer - zero_point)``
    """

    dtype: Dtype
    shape: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=4)]
    scale: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)] = 0.0
    zero_point: Annotated[int, msgspec.Meta(ge=-128, le=255)] = 0


class Variant(Section, frozen=True):
    """One exported model file of the bundle.

    Attributes:
        drift: None when there was no float file to compare with.
        compiled: Path of the same model compiled for the Edge TPU; None without one.
    """

    name: Slug
    format: Format
    file: MemberPath
    bytes: Bytes
    input: TensorSpec
    output: TensorSpec
    ops: Annotated[tuple[Word, ...], msgspec.Meta(max_length=100_000)]
    runtimes: Annotated[tuple[Runtime, ...], msgspec.Meta(max_length=3)]
    drift: Drift | None
    fingerprint: Digest
    compiled: MemberPath | None = None


class OperatingPoint(Section, frozen=True):
    """A threshold and the error rates measured at it.

    Attributes:
        target_far: The target false accept rate.
        threshold: A score at or above it is accepted.
        far: False accept rate at the threshold on the calibration data.
        far_upper_95: Upper 95 % confidence bound of the false accept rate.
        frr: False reject rate at the threshold, including failures to enrol and to acquire (the
            generalized false reject rate of ISO/IEC 19795-1).
    """

    target_far: TargetFar
    threshold: Score
    far: Rate
    far_upper_95: Rate
    frr: Rate


class Tail(Section, frozen=True):
    """Generalized Pareto tail of the impostor scores, for rates that the data does not support.

    For a score s above `threshold`:
    ``FAR(s) = far * (1 + shape * (s - threshold) / scale) ** (-1 / shape)``,
    and ``far * exp(-(s - threshold) / scale)`` when `shape` is 0 (Pickands 1975).
    """

    threshold: Score
    far: TargetFar
    scale: Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]
    shape: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]


class SimilarityMap(Section, frozen=True):
    """Map from score to degree of similarity, linear between knots, constant outside them.

    The degree is the posterior probability, at equal priors, that both images show the same person.
    """

    scores: Annotated[tuple[Score, ...], msgspec.Meta(max_length=1000)]
    degrees: Annotated[tuple[Rate, ...], msgspec.Meta(max_length=1000)]


class Calibration(Section, frozen=True, omit_defaults=True):
    """Thresholds of one variant for one rule and one count of templates.

    Attributes:
        templates: Templates of each person in the gallery.
        points: Operating points in descending order of the target FAR.
        target_far: The default target: the smallest one that the data supports, or the one that was requested.
        margin: Lead over the runner-up that 1:N requires, in units of the score.
        genuine, impostor: Numbers of comparisons.
        people: Number of identities in them.
        strangers: How many of these have too few images to be enrolled, and are compared with the others only; absent
            when it is 0.
        failures_to_enrol: Identities with too few usable images; not among `people`.
        failures_to_acquire: Unusable images; in no comparison.
        failures_by_reason: Number of unusable images by reason, including those of people who could not be enrolled;
            absent when there is none.
        data: Description of the calibration data.
        provisional: True until the bundle is calibrated with the user's own people.
    """

    variant: Slug
    rule: Rule
    templates: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    points: Annotated[tuple[OperatingPoint, ...], msgspec.Meta(max_length=1000)]
    target_far: TargetFar
    tail: Tail
    margin: Lead
    similarity: SimilarityMap
    genuine: Positive
    impostor: Positive
    people: Annotated[int, msgspec.Meta(ge=2, le=10**12)]
    failures_to_enrol: Count
    failures_to_acquire: Count
    data: Text
    provisional: bool
    failures_by_reason: Annotated[dict[Word, Count], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=dict)
    strangers: Count = 0


class SelfTest(Section, frozen=True):
    """Golden images and the raw model outputs expected for them, checked on opening.

    Attributes:
        images: Paths of members that are image files.
        outputs: Per variant and image, the model's raw output vector.
        tolerance: Per variant, the largest allowed difference: for an integer output in steps, at most 16; for a float
            output in its own unit, at most a twentieth of the largest expected value.
    """

    images: tuple[MemberPath, ...]
    outputs: dict[Slug, tuple[tuple[Output, ...], ...]]
    tolerance: dict[Slug, Annotated[float, msgspec.Meta(ge=0.0, le=1e30)]]


class Licence(Section, frozen=True):
    """Licence of weights or data that the bundle was made from."""

    what: Text
    licence: Text
    source: Text


class Provenance(Section, frozen=True):
    """Origin of the encoder.

    Attributes:
        data: Description of the training data.
        seed: Random seed of the training; None when unknown.
        images_seen: Number of images that training used, repetitions included.
        trained_on: Groups (alphabets), or ``sha256:`` digests of identities, that the encoder was trained on.
        held_out: Likewise, those that were held out for drift and calibration.
        versions: Versions of the packages.
        commit: Commit of the source code; None when unknown.
        licences: Of weights and data.
    """

    data: Text
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
    images_seen: Count
    trained_on: tuple[Text, ...]
    held_out: tuple[Text, ...]
    versions: Annotated[dict[Word, Word], msgspec.Meta(max_length=100)]
    commit: Word | None
    licences: Annotated[tuple[Licence, ...], msgspec.Meta(max_length=1000)]


class Manifest(Section, frozen=True):
    """Everything a device needs to know of a bundle.

    Attributes:
        variants: At least one; the first is used unless another is named.
        rule: How the device joins the scores of a person's templates: the calibrated rule with the lower false reject
            rate.
    """

    format: Annotated[int, msgspec.Meta(ge=1)]
    name: Slug
    created: Instant
    members: Annotated[tuple[Member, ...], msgspec.Meta(max_length=1000)]
    input: InputSection
    embedding: EmbeddingSection
    variants: Annotated[tuple[Variant, ...], msgspec.Meta(max_length=100)]
    rule: Rule
    calibration: Annotated[tuple[Calibration, ...], msgspec.Meta(max_length=1000)]
    self_test: SelfTest
    provenance: Provenance

    @property
    def default_variant(self) -> str:
        """Name of the first variant."""
        return self.variants[0].name


def value_range(mean: Sequence[float], scale: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest value of ``(pixel - mean) / scale`` over all channels, for pixels in 0..255.

    Args:
        mean: One value per channel.
        scale: One value per channel, not 0.
    """
    ends = [(level - m) / s for level in (0.0, 255.0) for m, s in zip(mean, scale, strict=True)]
    return min(ends), max(ends)


def fingerprint(model_sha256: str, input_section: InputSection, embedding: EmbeddingSection) -> str:
    """The fingerprint of a variant: SHA-256 that binds templates to the model file, the preprocessing and the metric.

    Args:
        model_sha256: Digest of the model file, in hex.
        input_section: The manifest's input section.
        embedding: The manifest's embedding section.

    Returns:
        64 lower-case hex digits.
    """
    # Encoded and decoded by type, so that 255 and 255.0 are equal, as they are when read from a bundle.
    parts = {
        "model": model_sha256,
        "input": msgspec.json.decode(msgspec.json.encode(input_section), type=InputSection),
        "embedding": msgspec.json.decode(msgspec.json.encode(embedding), type=EmbeddingSection),
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
