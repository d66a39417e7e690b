"""What `lookalikes` prints for a person: the pairs, and what to do about them."""

from typing import TYPE_CHECKING

from edge_oneshot_device.formatting import align, count, percent
from edge_oneshot_device.presentation.results import tell_apart

if TYPE_CHECKING:
    from edge_oneshot_device.recognition.lookalikes import LookAlike, LookAlikes


def look_alikes_text(found: "LookAlikes") -> str:
    """The pairs in descending order of likeness, and what to do about them."""
    provisional = " (provisional)" if found.provisional else ""
    where = f"among {count(found.people, 'person')} at the target FAR of {percent(found.target_far)}{provisional}"
    if not found.count:
        return f"no look-alikes {where}"
    lines = [
        f"{count(found.count, 'pair')} of look-alikes {where}, {found.alike} of these people in a pair; "
        f"identify confuses {count(found.identify, 'pair')}"
    ]
    if found.pairs:
        head = ("person", "and", "likeness", "needed", "confused in", "told apart at")
        lines.append(align([head, *map(_row, found.pairs)]))
    if found.count > len(found.pairs):
        lines.append(f"{count(found.count - len(found.pairs), 'further pair')}: see --limit")
    return "\n".join([*lines, *_advice(found)])


def _row(pair: "LookAlike") -> tuple[str, ...]:
    likeness, needed = tell_apart(pair.likeness, pair.likeness_needed, enough=pair.verify)
    confused = ", ".join(name for name in ("verify", "identify") if getattr(pair, name))
    apart = "no calibrated rate" if pair.apart_at is None else percent(pair.apart_at)
    return *pair.people, likeness, needed, confused, apart


def _advice(found: "LookAlikes") -> list[str]:
    """What to do, the simplest first."""
    lines = [
        "what to do:",
        "  one person under two names: forget one of them",
        "  two people: enrol other photos of both (enrol PERSON IMAGE --replace) and look again; sharper ones, taken at"
        " the door, are often further apart",
        "  still alike: ask both for a second factor, such as a card or a PIN, for one may be accepted as the other",
    ]
    if found.identify:
        lines.append(
            "  identify answers ambiguous for many of their attempts, and may name the wrong one: let them use verify"
        )
    rates = [pair.apart_at for pair in found.pairs if pair.apart_at is not None]
    if rates:
        lines.append(
            f"  init with --target-far {min(rates):g} tells {len(rates)} of the pairs shown apart in verify,"
            " and rejects more attempts of everybody"
        )
    return lines
