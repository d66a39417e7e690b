"""Whether new templates may be enrolled: one that fits somebody else better would let that person in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import renewal
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.people import Resemblance
from edge_oneshot_device.gallery.roster import NewTemplates
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.matching.decision import scores
from edge_oneshot_device.matching.lookalikes import compare
from edge_oneshot_device.matching.search import Match
from edge_oneshot_device.matching.thresholds import LOOSE_FAR, MAX_TEMPLATES, threshold_for
from edge_oneshot_device.recognition.lookalikes import door_of
from edge_oneshot_device.recognition.policy import Policy


def check_fit(
    gallery: Gallery,
    policy: Policy,
    new: NewTemplates,
    *,
    even_if_alike: bool = False,
    files: Sequence[str | None] = (),
) -> Resemblance | None:
    """Compare new templates with those that the person has, with each other, and with everybody else's.

    Args:
        gallery: Who is enrolled.
        policy: Says who would be taken for whom.
        new: The templates, and the person's name as it is kept.
        even_if_alike: Accept a template that would be taken for another person, such as a twin.
        files: The image file of each template, for errors; None for an image that is no file.

    Returns:
        The person whom one of the templates is nearest to, where the two are look-alikes: one would be accepted as the
        other. None where they are not, or the bundle is not calibrated.

    Raises:
        InputError: Reason ``fits_another``: a template is nearer to another person than to the person's own ones; or
            ``already_known``: one would be taken for another person even at a false accept rate of 1 %, so that both
            names would most likely be rejected as ambiguous.
        IntegrityError: The gallery is damaged, or of another encoder.
    """
    cache = gallery.template_cache(policy.metric, policy.rule)
    number = gallery.number_of(new.person)
    nearest: Match | None = None
    which = 0
    for position in range(len(new.templates)):
        other, own_score = _compare(cache, policy, new, position, number)
        if other is None:
            return None
        if own_score is not None and other.score > own_score:
            name = gallery.name_of(other.person) or "somebody else"
            image, kind = _image(position, policy, new.person, files), policy.encoder.input.kind
            message = f"{image} is nearer to {name} than to {new.person}'s other {kind}s: check it"
            raise InputError(message, reason="fits_another")
        if nearest is None or other.score > nearest.score:
            nearest, which = other, position
    known = None if nearest is None else gallery.name_of(nearest.person)
    if nearest is None or known is None or not policy.is_calibrated:
        return None
    calibration = policy.calibration(cache.most, cache.fewest)
    target, people = policy.target(calibration), cache.index.people
    strict = threshold_for(calibration, policy.metric, min(target, LOOSE_FAR), people).value
    if nearest.score >= strict and not even_if_alike:
        raise _already_known(_image(which, policy, new.person, files), known)
    return _resemblance(cache, policy, new, number, nearest.person, known)


def _compare(
    cache: TemplateCache, policy: Policy, new: NewTemplates, position: int, number: int | None
) -> tuple[Match | None, float | None]:
    """The other person that a template fits best, and its best score with the person's own templates, if any."""
    template = new.templates[position]
    other = next((match for match in cache.index.search(template) if match.person != number), None)
    if other is None:
        return None, None
    own = np.concatenate([_kept(cache, new, number), np.delete(new.templates, position, axis=0)])
    return other, float(scores(template, own, policy.metric).max()) if len(own) else None


def _kept(cache: TemplateCache, new: NewTemplates, number: int | None) -> NDArray[np.float32]:
    """The templates, float32 (k, d), that a person keeps beside the new ones."""
    return new.templates[:0] if new.act != "added" or number is None else cache.index.templates_of(number)


def _resemblance(
    cache: TemplateCache, policy: Policy, new: NewTemplates, number: int | None, other: int, name: str
) -> Resemblance | None:
    """How the person, once enrolled, resembles somebody else; None where the two are no look-alikes."""
    own = np.concatenate([_kept(cache, new, number), new.templates])
    most, fewest = max(cache.most, len(own)), min(cache.fewest, len(own))
    try:
        door = door_of(policy, most, fewest, cache.index.people + (number is None))
    except InputError:  # not calibrated for so few templates or so many: nobody is accepted
        return None
    pair = compare(own, cache.index.templates_of(other), door)
    return None if pair is None else Resemblance(name, pair.score, pair.verify, pair.identify)


def _image(position: int, policy: Policy, person: str, files: Sequence[str | None]) -> str:
    file = files[position] if position < len(files) else None
    which = f"{policy.encoder.input.kind} {position + 1} of {person}"
    return which if file is None else f"{file}, {which},"


def _already_known(image: str, known: str) -> InputError:
    message = f"{image} would be taken for {known}, who is enrolled, and one person under two names is rejected under"
    message += f" both: add it to {known} (enrol {known} FILE --add), or, if they are two people, say --even-if-alike"
    return InputError(message, reason="already_known")


def enrol_again(gallery: Gallery, encoder: Encoder, manifest: Manifest) -> dict[int, NDArray[np.float32]]:
    """Templates of another encoder than the one in use, from the photos that were kept.

    Args:
        gallery: Opened for the new encoder.
        encoder: The new one.
        manifest: Its bundle's.

    Returns:
        float32 (k, d) for each person, by number.

    Raises:
        InputError: Reason ``cannot_re_enrol``: no photo of somebody was kept, or the encoder refuses it.
        IntegrityError: The gallery is damaged.
        MachineError: The runtime failed.
    """
    most = most_templates(manifest, encoder.variant)
    found: dict[int, NDArray[np.float32]] = {}
    refused = []
    with gallery.reading() as transaction:
        kept = renewal.photos(transaction)
    for number, photos in kept.items():
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
    """How many templates a person may have with a variant: as many as the bundle is calibrated for.

    Args:
        manifest: Of the bundle.
        variant: Name of the variant.
    """
    counts = [c.templates for c in manifest.calibration if c.variant == variant]
    return min(max(counts, default=MAX_TEMPLATES), MAX_TEMPLATES)
