"""What `inspect` shows: a bundle, or what two differ in."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.summary import Summary, align, describe, describe_all, percent, points, summarise
from edge_oneshot_device.errors import InputError

# An entry of a list is known by these, not by its place, so that one more entry is one difference.
_NAMES: Final = (("variant", "rule", "templates"), ("variant",), ("what",), ("people",))
_REPEATED: Final = ("variants", "fingerprints")
"""What a summary says once more under `files`."""
_CELL: Final = 52
_ABSENT: Final = "-"


class Difference(msgspec.Struct, frozen=True):
    """A field that two summaries do not agree on.

    Attributes:
        field: Where, with dots: ``input.height``, ``files.int8.bytes``, ``calibration.int8.best.3.frr``.
        a, b: What each says; None where it has no such field or entry, or says null.
    """

    field: str
    a: Any
    b: Any


class Comparison(msgspec.Struct, frozen=True):
    """Two bundles beside each other.

    Attributes:
        a, b: Each in brief.
        same: Whether they are one file, byte for byte.
        differences: In the order of the summary.
        templates: Per variant of `a` the variants of `b` of the same fingerprint: a gallery of
            templates made by the one can go on with the other, nobody has to be enrolled again.
    """

    a: Summary
    b: Summary
    same: bool
    differences: list[Difference]
    templates: dict[str, list[str]]


def inspect(
    path: str | os.PathLike[str], other: str | os.PathLike[str] | None = None, *, everything: bool = False
) -> tuple[Summary | Comparison, str]:
    """A bundle in brief, or two beside each other; and the same as text, of a bundle `everything` or one screen.

    Raises:
        InputError, IntegrityError, MachineError: As `Bundle.open` does.
        InputError: Reason ``wrong_use``: everything of two.
    """
    if other is None:
        summary = summarise(Bundle.open(path))
        return summary, describe_all(summary) if everything else describe(summary)
    if everything:
        raise InputError("--all is for one bundle; leave it out to compare two", reason="wrong_use")
    comparison = compare(Bundle.open(path), Bundle.open(other))
    return comparison, describe_comparison(comparison, os.fspath(path), os.fspath(other))


def compare(a: Bundle, b: Bundle) -> Comparison:
    """Compare two bundles, field by field."""
    one, other = summarise(a), summarise(b)
    return Comparison(
        a=one,
        b=other,
        same=one.sha256 == other.sha256,
        differences=list(_differences("", _plain(one), _plain(other))),
        templates={
            variant: [twin for twin, digest in other.fingerprints.items() if digest == fingerprint]
            for variant, fingerprint in one.fingerprints.items()
        },
    )


def describe_comparison(comparison: Comparison, a: str, b: str) -> str:
    """The comparison as plain text: thresholds of the rule that is used, and drift, a line each.

    Args:
        comparison: What `compare` found.
        a: What to call the one.
        b: What to call the other.
    """
    if comparison.same:
        return f"{a} and {b} are the same, byte for byte"
    shown = [
        (one.field, _cell(one.a, one.b), _cell(one.b, one.a))
        for one in comparison.differences
        if not one.field.startswith("calibration.") and ".drift" not in one.field
    ]
    drifts, thresholds = (
        [(what, _cell(of_a.get(what)), _cell(of_b.get(what))) for what in dict.fromkeys([*of_a, *of_b])]
        for of_a, of_b in (
            (_drifts(comparison.a), _drifts(comparison.b)),
            (_thresholds(comparison.a), _thresholds(comparison.b)),
        )
    )
    data = ("calibrated on", _data(comparison.a), _data(comparison.b))
    rows = [row for row in (*shown, *drifts, data, *thresholds) if row[1] != row[2]]
    return f"{align([('', f'A: {a}', f'B: {b}'), *rows])}\n\n{_templates_text(comparison.templates)}"


def _drifts(summary: Summary) -> dict[str, str]:
    return {
        f"drift of {file.variant}": f"cosine {file.drift.cosine_mean:.4f}, EER {points(file.drift.eer)}"
        for file in summary.files
        if file.drift is not None
    }


def _thresholds(summary: Summary) -> dict[str, str]:
    return {
        f"threshold of {one.variant}, {one.rule} of {one.templates}": (
            f"{one.threshold:.4f} for FAR {percent(one.target_far)}, FRR {percent(one.frr)}, {one.people:,} people"
        )
        for one in summary.calibration
        if one.rule == summary.rule
    }


def _data(summary: Summary) -> str:
    return _cell(list(dict.fromkeys(one.data for one in summary.calibration)))


def _templates_text(templates: Mapping[str, list[str]]) -> str:
    kept = [
        variant if variant in twins else f"{variant} (as {', '.join(twins)})"
        for variant, twins in templates.items()
        if twins
    ]
    lost = [variant for variant, twins in templates.items() if not twins]
    lines = []
    if kept:
        lines.append(f"templates carry over from A to B: {', '.join(kept)}")
    if lost:
        lines.append(f"templates do not carry over from A to B, everybody is enrolled again: {', '.join(lost)}")
    return "\n".join(lines)


def _plain(summary: Summary) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(summary))
    return {name: _keyed(value) for name, value in plain.items() if name not in _REPEATED}


def _keyed(value: Any) -> Any:
    """Lists of objects as objects, by the names of their entries."""
    if isinstance(value, dict):
        return {name: _keyed(inner) for name, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        names = next((names for names in _NAMES if value[0].keys() >= set(names)), None)
        if names is not None:
            return {
                ".".join(str(entry[name]) for name in names): _keyed(
                    {name: inner for name, inner in entry.items() if name not in names}
                )
                for entry in value
            }
    return value


def _differences(field: str, a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys([*a, *b]):
            yield from _differences(f"{field}.{name}" if field else name, a.get(name), b.get(name))
    elif a != b:
        yield Difference(field, a, b)


def _cell(value: Any, other: Any = None) -> str:
    """A value for a person; of two lists what the other does not have."""
    if value is None:
        return _ABSENT
    if isinstance(value, dict):
        text = "there"
    elif isinstance(value, list) and isinstance(other, list):
        alone = ", ".join(str(entry) for entry in value if entry not in other)
        text = f"{len(value):,}" + (f", here alone: {alone}" if alone else "")
    elif isinstance(value, list):
        text = ", ".join(map(str, value)) or "none"
    else:
        text = f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 3]}..."
