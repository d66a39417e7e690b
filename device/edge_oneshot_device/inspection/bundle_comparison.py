"""Compare two bundles, field by field."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.inspection.bundle_summary import Summary, summarise

# Entries of a list are matched by these fields, not by position, so that one more entry is one difference.
_NAMES: Final = (("variant", "rule", "templates"), ("variant",), ("what",), ("people",))
_REPEATED: Final = ("variants", "fingerprints")
"""Fields that `files` repeats."""


class Difference(msgspec.Struct, frozen=True):
    """A field in which two summaries differ.

    Attributes:
        field: The path of the field: ``input.height``, ``files.int8.bytes``, ``calibration.int8.best.3.frr``.
        a, b: The value in each bundle; None where the field is missing or null.
    """

    field: str
    a: Any
    b: Any


class BundleComparison(msgspec.Struct, frozen=True):
    """Two bundles compared.

    Attributes:
        a, b: A summary of each bundle.
        same: Whether the two files are identical.
        differences: The fields that differ, in the order of the summary.
        templates: For each variant of `a` the variants of `b` with the same fingerprint: they can use its templates,
            so that nobody has to enrol again.
    """

    a: Summary
    b: Summary
    same: bool
    differences: list[Difference]
    templates: dict[str, list[str]]


def compare(a: Bundle, b: Bundle) -> BundleComparison:
    """Compare two bundles, field by field.

    Args:
        a: The first bundle.
        b: The second bundle.

    Returns:
        What differs, and which templates can be used with both.
    """
    one, other = summarise(a), summarise(b)
    return BundleComparison(
        a=one,
        b=other,
        same=one.sha256 == other.sha256,
        differences=list(_differences("", _plain(one), _plain(other))),
        templates={
            variant: [twin for twin, digest in other.fingerprints.items() if digest == fingerprint]
            for variant, fingerprint in one.fingerprints.items()
        },
    )


def _plain(summary: Summary) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(summary))
    return {name: _keyed(value) for name, value in plain.items() if name not in _REPEATED}


def _keyed(value: Any) -> Any:
    """Lists of objects as objects whose keys name the entries."""
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
