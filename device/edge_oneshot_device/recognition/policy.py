"""What a decision goes by: the bundle's calibration, the encoder in use, and the wanted false accept rate."""

import msgspec

from edge_oneshot_device.bundle.manifest import Calibration, Manifest, Metric, Rule
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.matching.thresholds import calibration_for


class Policy(msgspec.Struct, frozen=True, eq=False):
    """What a decision goes by.

    Attributes:
        manifest: Of the bundle; it has the calibrations.
        encoder: What makes the embeddings.
        target_far: Wanted false accept rate of an attempt; None takes the smallest that the calibration supports.
    """

    manifest: Manifest
    encoder: Encoder
    target_far: float | None

    @property
    def metric(self) -> Metric:
        """How embeddings are compared."""
        return self.encoder.embedding.metric

    @property
    def rule(self) -> Rule:
        """How the scores of a person's templates are joined."""
        return self.manifest.rule

    @property
    def is_calibrated(self) -> bool:
        """Whether the bundle is calibrated for the variant in use."""
        return any(one.variant == self.encoder.variant for one in self.manifest.calibration)

    def calibration(self, most: int, fewest: int | None = None) -> Calibration:
        """The calibration for people who have so many templates; see `calibration_for`.

        Args:
            most: The largest number of templates that anybody has.
            fewest: The smallest; None: the same.
        """
        return calibration_for(self.manifest, self.encoder.variant, most, fewest)

    def target(self, calibration: Calibration) -> float:
        """The wanted false accept rate of an attempt."""
        return calibration.target_far if self.target_far is None else self.target_far
