"""The drift section of a variant: how far quantization and conversion move its embeddings."""

from typing import Annotated

import msgspec

from edge_oneshot_device.bundle.fields import Cosine, Decibel, Difference, Positive, Rate, Section, Text, Word


class Change(Section, frozen=True):
    """A rate of the float model and of a variant, on the same images.

    Attributes:
        reference: Rate of the float model.
        variant: Rate of the variant.
        difference: `variant` minus `reference`.
        interval: 95 % confidence interval of the difference over people.
    """

    reference: Rate
    variant: Rate
    difference: Difference
    interval: tuple[Difference, Difference]


class LayerError(Section, frozen=True):
    """The quantization error of one layer's output, accumulated over the layers before it.

    Attributes:
        op: Name of the operator in TFLite's BuiltinOperator.
        name: Name of the output tensor in the model.
        sqnr_db: Signal-to-quantization-noise ratio in decibels.
    """

    op: Word
    name: Text
    sqnr_db: Decibel


class Drift(Section, frozen=True):
    """The difference between a variant's embeddings and the float model's, on held-out images.

    Attributes:
        images, people: Their numbers.
        cosine_mean, cosine_p01, cosine_min: Cosine between both embeddings of an image:
            mean, 1st percentile, minimum.
        neighbour_changed: Share of images whose nearest other image differs from the float model's.
        eer: Equal error rate over all pairs of images.
        tpr_at_fpr: Share of genuine pairs accepted at a false accept rate of at most the key, each model at its
            own threshold; rates that so few people do not support are left out.
        one_shot: Accuracy on N-way one-shot tasks over all identities.
        ways: N.
        layers: Quantization errors of an int8 file, in the order of computation.
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
