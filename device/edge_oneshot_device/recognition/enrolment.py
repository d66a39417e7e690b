"""Whether new templates may join the gallery: one that fits somebody else would let that person in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.matching.decision import Candidate, scores
from edge_oneshot_device.matching.search import Match
from edge_oneshot_device.matching.thresholds import LOOSE_FAR, MAX_TEMPLATES, calibration_for, threshold_for


def check_fit(
    gallery: Gallery,
    manifest: Manifest,
    encoder: Encoder,
    person: str,
    templates: NDArray[np.float32],
    target_far: float | None = None,
    *,
    add: bool = False,
    even_if_alike: bool = False,
    files: Sequence[str | None] = (),
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
        even_if_alike: Take them though one is as good as another person's: of twins, or the like.
        files: Of each template the image's file, for errors, as far as it is one.

    Returns:
        Another person whom one of them would be taken for, the one it fits best, as far as it was not refused.
        None where nobody is, or the bundle is uncalibrated.

    Raises:
        InputError: Reason ``fits_another``: a template is nearer to another person than to the person's own; or
            ``already_known``: one would be taken for another person even at a false accept rate of 1 %, so that the two
            names would most likely lock each other out.
        IntegrityError: The gallery is damaged, or of another encoder.
    """
    enrolled = gallery.mirror(encoder.embedding.metric, manifest.rule)
    index, number = enrolled.index, gallery.number_of(person)
    own = templates[:0] if number is None or not add else index.templates_of(number)
    nearest: Match | None = None
    which = 0
    for position, template in enumerate(templates):
        other = next((match for match in index.search(template) if match.person != number), None)
        if other is None:
            return None
        rest = np.concatenate([own, np.delete(templates, position, axis=0)])
        if len(rest) and other.score > float(scores(template, rest, encoder.embedding.metric).max()):
            name = gallery.name_of(other.person) or "somebody else"
            message = f"{_image(position, person, files)} is nearer to {name} than to {person}'s others: look at it"
            raise InputError(message, reason="fits_another")
        if nearest is None or other.score > nearest.score:
            nearest, which = other, position
    if nearest is None or not any(c.variant == encoder.variant for c in manifest.calibration):
        return None
    calibration = calibration_for(manifest, encoder.variant, enrolled.most, enrolled.fewest)
    wanted = calibration.target_far if target_far is None else target_far
    metric, known = encoder.embedding.metric, gallery.name_of(nearest.person)
    if known is None or nearest.score < threshold_for(calibration, metric, wanted, index.people).value:
        return None
    strict = threshold_for(calibration, metric, min(wanted, LOOSE_FAR), index.people).value
    if nearest.score >= strict and not even_if_alike:
        message = (
            f"{_image(which, person, files)} would be taken for {known}, who is enrolled, and whoever has two names"
        )
        message += (
            f" is locked out under both: add it to {known} (enrol {known} IMAGE --add), or, if they are two people,"
        )
        raise InputError(f"{message} say --even-if-alike", reason="already_known")
    return Candidate(known, nearest.score)


def _image(position: int, person: str, files: Sequence[str | None]) -> str:
    file = files[position] if position < len(files) else None
    return f"image {position + 1} of {person}" if file is None else f"{file}, image {position + 1} of {person},"


def enrol_again(gallery: Gallery, encoder: Encoder, manifest: Manifest) -> dict[int, NDArray[np.float32]]:
    """Templates of another encoder than the one in use, from the photos that were kept.

    Args:
        gallery: Opened for the new encoder.
        encoder: The new one.
        manifest: Its bundle's.

    Returns:
        float32 (k, d) for each person, by number.

    Raises:
        InputError: Reason ``cannot_re_enrol``: of somebody no photo was kept, or the encoder refuses it.
        IntegrityError: The gallery is damaged.
        MachineError: The runtime failed.
    """
    most = most_templates(manifest, encoder.variant)
    found: dict[int, NDArray[np.float32]] = {}
    refused = []
    for number, photos in renewal.photos(gallery).items():
        try:
            if not photos:
                raise InputError("no photo was kept", reason="cannot_re_enrol")
            found[number] = np.stack([encoder.embed_image(photo) for photo in photos[:most]])
        except InputError as error:
            refused.append(f"{gallery.name_of(number)} ({error})")
    if refused:
        message = (
            f"{len(refused)} cannot be enrolled again: {', '.join(refused[:5])}; forget them first, or say --empty"
        )
        raise InputError(message, reason="cannot_re_enrol")
    return found


def most_templates(manifest: Manifest, variant: str) -> int:
    """Templates that a person may have with a variant."""
    counts = [c.templates for c in manifest.calibration if c.variant == variant]
    return min(max(counts, default=MAX_TEMPLATES), MAX_TEMPLATES)
