"""Whether new templates may join the gallery: one that fits somebody else would let that person in."""

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.manifest import Manifest, Metric
from edge_oneshot_device.matching import Candidate, calibration_for, join, scores, threshold_for


def check_fit(
    gallery: Gallery,
    manifest: Manifest,
    encoder: Encoder,
    person: str,
    templates: NDArray[np.float32],
    target_far: float | None = None,
    *,
    add: bool = False,
) -> Candidate | None:
    """Compare new templates with those that the person has, with each other, and with everybody else's.

    Args:
        gallery: Who is enrolled.
        manifest: Its calibration says who would be taken for whom.
        encoder: What made the templates.
        person: The name, as it is kept.
        templates: float32 (k, d), the new ones.
        target_far: Wanted false accept rate of an attempt; None takes the calibration's.
        add: They join those that the person has.

    Returns:
        Another person whom one of them would be taken for, the one it fits best: the same under another
        name, or a twin. None where nobody is, or the bundle is uncalibrated.

    Raises:
        InputError: Reason ``fits_another``: a template is nearer to another person than to the person's own.
        IntegrityError: The gallery is damaged, or of another encoder.
    """
    enrolled = gallery.templates()
    number = gallery.number_of(person)
    own_index = -1 if number is None else enrolled.index.get(number, -1)
    mine = enrolled.owners == own_index
    others, owners = enrolled.matrix[~mine], enrolled.owners[~mine]
    if not len(others):
        return None
    metric = encoder.embedding.metric
    own = enrolled.matrix[mine] if add else enrolled.matrix[:0]
    nearest: tuple[float, int] | None = None
    for position, template in enumerate(templates):
        joined = join(scores(template, others, metric), owners, len(enrolled.numbers))
        index = int(joined.argmax())
        score = float(joined[index])
        rest = np.concatenate([own, np.delete(templates, position, axis=0)])
        if len(rest) and score > _best(template, rest, metric):
            other = gallery.name_of(enrolled.numbers[index]) or "somebody else"
            message = (
                f"image {position + 1} of {person} is nearer to {other} than to the others of {person}: look at it"
            )
            raise InputError(message, reason="fits_another")
        if nearest is None or score > nearest[0]:
            nearest = score, index
    assert nearest is not None
    if not any(c.variant == encoder.variant for c in manifest.calibration):
        return None
    most = int(enrolled.counts.max())
    calibration = calibration_for(manifest, encoder.variant, most, int(enrolled.counts.min()))
    wanted = calibration.target_far if target_far is None else target_far
    if nearest[0] < threshold_for(calibration, wanted, len(enrolled.numbers)).value:
        return None
    name = gallery.name_of(enrolled.numbers[nearest[1]])
    return None if name is None else Candidate(name, nearest[0])


def _best(template: NDArray[np.float32], others: NDArray[np.float32], metric: Metric) -> float:
    return float(scores(template, others, metric).max())
