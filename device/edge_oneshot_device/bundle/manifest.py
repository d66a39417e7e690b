"""The manifest of a bundle: the contract between the workstation and the device; `codec` reads and writes it."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from edge_oneshot_device.bundle.face_section import FaceSection
from edge_oneshot_device.bundle.fields import (
    Bytes,
    Cosine,
    Count,
    Decibel,
    Difference,
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

FORMAT = 1
MANIFEST_NAME = "manifest.json"

Metric = Literal["cosine", "euclidean"]
Rule = Literal["best", "mean"]
Dtype = Literal["int8", "uint8", "float32"]
Format = Literal["tflite", "onnx"]
Runtime = Literal["litert", "tflite-runtime", "onnxruntime"]


class Member(Section, frozen=True):
    """One file of the bundle other than the manifest itself."""

    path: MemberPath
    bytes: Bytes
    sha256: Digest


class InputSection(Section, frozen=True, omit_defaults=True):
    """How an image becomes the model's input, enough to repeat it bit for bit.

    The image is decoded, turned upright by its EXIF tag, converted to `colour`, framed,
    stretched to `width` x `height` with Pillow's `resize` filter, and scaled: ``(pixel - mean) / scale``
    per channel, pixels in 0..255. A negative scale turns dark ink on white into high values.

    Attributes:
        value_range: Smallest and largest value that the scaled input can take.
        min_contrast: Smallest difference (in 8-bit levels) between the lightest and darkest
            pixel after resizing; an image below it has no content.
        framing: ``whole``: the image as it is. ``ink``: the square about what is drawn on it, see
            `edge_oneshot_device.encoding.preprocessing.frame_ink`. ``whole`` is left unsaid, so that templates
            made before there was a choice keep their fingerprint.
        face: The model is given the aligned face of a photo, of this size and colour; `resize` then serves
            the images of the self-test alone, which are cut already. Unsaid where it is given the whole image.
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

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.colour == "grey" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


class EmbeddingSection(Section, frozen=True):
    """What the model answers: a vector of `size`, compared by `metric`.

    Cosine embeddings are L2-normalised on the host after dequantization, never in the graph.
    """

    size: Annotated[int, msgspec.Meta(ge=2, le=4096)]
    metric: Metric


class TensorSpec(Section, frozen=True):
    """Input or output of a model file. Scale 0 means the tensor is not quantized.

    real = scale * (integer - zero_point)
    """

    dtype: Dtype
    shape: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=4)]
    scale: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)] = 0.0
    zero_point: Annotated[int, msgspec.Meta(ge=-128, le=255)] = 0


class Change(Section, frozen=True):
    """A rate of the float model and of a variant, on the same images.

    Attributes:
        difference: `variant` minus `reference`.
        interval: 95 % interval of the difference, over other people.
    """

    reference: Rate
    variant: Rate
    difference: Difference
    interval: tuple[Difference, Difference]


class LayerError(Section, frozen=True):
    """What quantization does to the output of one layer, fed with what the layers before it answer.

    Attributes:
        op: As BuiltinOperator names it.
        name: Of the output, as the model names it.
        sqnr_db: Power of the float output over that of the error, in decibels.
    """

    op: Word
    name: Text
    sqnr_db: Decibel


class Drift(Section, frozen=True):
    """How far a variant's embeddings lie from the float model's, on held-out images.

    Attributes:
        images, people: How many.
        cosine_mean, cosine_p01, cosine_min: Cosine between both embeddings of an image:
            mean, 1st percentile, minimum.
        neighbour_changed: Share of images whose nearest other image is another one.
        eer: Equal error rate over all pairs of images.
        tpr_at_fpr: Share of genuine pairs accepted at a false accept rate of at most the key, each at its
            own threshold; without the rates that so few people do not support.
        one_shot: Accuracy on N-way one-shot tasks over all identities.
        ways: N.
        layers: Of an int8 file, in the order of computation.
    """

    images: Positive
    people: Positive
    cosine_mean: Cosine
    cosine_p01: Cosine
    cosine_min: Cosine
    neighbour_changed: Rate
    eer: Change
    tpr_at_fpr: Annotated[dict[Word, Change], msgspec.Meta(max_length=100)]
    one_shot: Change
    ways: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)]
    layers: Annotated[tuple[LayerError, ...], msgspec.Meta(max_length=10_000)] = ()


class Variant(Section, frozen=True):
    """One exported model file of the bundle.

    Attributes:
        drift: None where the encoder came without a float file to compare with.
        compiled: The same model compiled for the Edge TPU, if there is one.
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
    """A threshold and what was measured there.

    Attributes:
        target_far: The false accept rate that was asked for.
        threshold: Accept when the score is at or above it.
        far: False accept rate at the threshold on the calibration data.
        far_upper_95: Upper 95 % bound of the false accept rate.
        frr: False reject rate at the threshold, failures to enrol and to acquire counted in (the
            generalized false reject rate of ISO/IEC 19795-1).
    """

    target_far: TargetFar
    threshold: Score
    far: Rate
    far_upper_95: Rate
    frr: Rate


class Tail(Section, frozen=True):
    """Generalized Pareto tail of the impostor scores, for rates the data cannot support.

    For a score s above `threshold`:
    ``FAR(s) = far * (1 + shape * (s - threshold) / scale) ** (-1 / shape)``,
    and ``far * exp(-(s - threshold) / scale)`` when `shape` is 0 (Pickands 1975).
    """

    threshold: Score
    far: TargetFar
    scale: Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]
    shape: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]


class SimilarityMap(Section, frozen=True):
    """Score to degree of similarity, linear between knots, constant outside them.

    The degree is the posterior, at equal priors, that both images show the same.
    """

    scores: Annotated[tuple[Score, ...], msgspec.Meta(max_length=1000)]
    degrees: Annotated[tuple[Rate, ...], msgspec.Meta(max_length=1000)]


class Calibration(Section, frozen=True, omit_defaults=True):
    """Thresholds of one variant for one template rule and count.

    Attributes:
        templates: Templates a person has in the gallery.
        points: Operating points, by falling target FAR.
        target_far: The default: the smallest target that the data supports, or the one asked for.
        margin: Lead over the runner-up that 1:N asks for, in units of the score.
        genuine, impostor: Counts of comparisons.
        people: Count of identities behind them.
        failures_to_enrol: Identities with too few images that show anything; not among `people`.
        failures_to_acquire: Images that show nothing; in no comparison.
        failures_by_reason: How many images of anybody show nothing for which reason, those of people who could not
            be enrolled among them; unsaid where it is none.
        data: What the figures come from, in words.
        provisional: True while the user's own people were not seen.
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


class SelfTest(Section, frozen=True):
    """Golden images and the raw model outputs expected for them, checked on opening.

    Attributes:
        images: Members that hold encoded images.
        outputs: Per variant, per image, the model's raw output vector.
        tolerance: Per variant, the largest difference: of an integer output in steps, 16 at most, of a float one as it
            is, a twentieth of the largest value expected at most.
    """

    images: tuple[MemberPath, ...]
    outputs: dict[Slug, tuple[tuple[Output, ...], ...]]
    tolerance: dict[Slug, Annotated[float, msgspec.Meta(ge=0.0, le=1e30)]]


class Licence(Section, frozen=True):
    """Licence of the weights or data that the bundle was made from."""

    what: Text
    licence: Text
    source: Text


class Provenance(Section, frozen=True):
    """Where the encoder comes from.

    Attributes:
        trained_on: Groups (alphabets), or ``sha256:`` digests of identities, fitted on.
        held_out: Likewise, those kept apart for drift and calibration.
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
        rule: How the device joins the scores of a person's templates: of the calibrated rules
            the one with the lower false reject rate.
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


def value_range(mean: Sequence[float], scale: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest value of ``(pixel - mean) / scale`` per channel, for pixels in 0..255."""
    ends = [(level - m) / s for level in (0.0, 255.0) for m, s in zip(mean, scale, strict=True)]
    return min(ends), max(ends)


def fingerprint(model_sha256: str, input_section: InputSection, embedding: EmbeddingSection) -> str:
    """SHA-256 that binds templates to the model file, the preprocessing and the metric."""
    # Through the types, so that 255 and 255.0 are one number, as they are once read from a bundle.
    parts = {
        "model": model_sha256,
        "input": msgspec.json.decode(msgspec.json.encode(input_section), type=InputSection),
        "embedding": msgspec.json.decode(msgspec.json.encode(embedding), type=EmbeddingSection),
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
