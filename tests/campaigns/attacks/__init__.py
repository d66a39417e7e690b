"""Attacks on a bundle: each makes a hostile file of a good one, the same for the same random numbers.

`ATTACKS` has them by name. One of `REWRITES` may make a bundle that is whole in itself, as
whoever rewrites all digests can: only a trusted key tells it from the original. One of `RARE` is
slow, or has few forms.
"""

from tests.campaigns.attacks import container, content, forgery, models
from tests.campaigns.attacks.subject import Attack, Subject, public, subject_of

__all__ = ["ATTACKS", "RARE", "REWRITES", "Subject", "public", "subject_of"]

ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        container.flipped_bit,
        container.flipped_bytes,
        container.truncated,
        container.inserted,
        container.deleted,
        container.moved,
        container.surrounded,
        container.other_file,
        container.header_field,
        container.claimed_size,
        container.compressed,
        container.bomb,
        container.overlapping,
        container.zip64,
        container.extra_field,
        container.renamed,
        container.two_names,
        container.stray,
        container.duplicated,
        container.exchanged,
        container.reordered,
        container.missing,
        container.replaced,
        content.wrong_size,
        content.format_number,
        content.number,
        content.repeated_key,
        content.nested,
        content.encoded,
        content.mutated,
        content.huge_manifest,
        content.reworded,
        content.lowered_threshold,
        content.altered_model,
        content.altered_section,
        content.senseless,
        models.outside,
        models.looping,
        forgery.resigned,
        forgery.transplanted,
        forgery.key_swapped,
        forgery.forged,
        forgery.misspelt,
        forgery.misplaced,
    )
}

REWRITES = frozenset(
    attack.__name__
    for attack in (
        container.renamed,
        content.number,
        content.encoded,
        content.mutated,
        content.huge_manifest,
        content.reworded,
        content.lowered_threshold,
        content.altered_model,
        content.altered_section,
        forgery.resigned,
        forgery.forged,
    )
)

RARE = frozenset(
    attack.__name__
    for attack in (
        container.bomb,
        container.overlapping,
        container.exchanged,
        container.missing,
        container.two_names,
        content.format_number,
        content.nested,
        content.huge_manifest,
        content.reworded,
        content.lowered_threshold,
        forgery.resigned,
        forgery.forged,
        forgery.misspelt,
        forgery.misplaced,
    )
)
