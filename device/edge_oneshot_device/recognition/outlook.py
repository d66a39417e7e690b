"""What a door does with the people that are enrolled: how many strangers get in, and how many of them do not."""

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoding.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.matching.thresholds import Outlook, calibration_for, outlook


def outlook_of(gallery: Gallery, manifest: Manifest, encoder: Encoder, target_far: float | None) -> Outlook | None:
    """The outlook with everybody enrolled; None where the bundle is uncalibrated for them.

    Args:
        gallery: Who is enrolled.
        manifest: Its calibration decides.
        encoder: Of the bundle.
        target_far: Wanted false accept rate of an attempt; None takes the calibration's.

    Raises:
        IntegrityError: The gallery is damaged, or of another encoder.
        MachineError: The disk failed.
    """
    enrolled = gallery.mirror(encoder.embedding.metric, manifest.rule)
    try:
        calibration = calibration_for(manifest, encoder.variant, enrolled.most, enrolled.fewest)
    except InputError:
        return None
    wanted = calibration.target_far if target_far is None else target_far
    return outlook(calibration, encoder.embedding.metric, wanted, enrolled.index.people)
