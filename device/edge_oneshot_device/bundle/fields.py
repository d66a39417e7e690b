"""Types of the manifest's fields: numbers and texts with their bounds, and the strict base of its sections."""

from typing import Annotated

import msgspec

MAX_BUNDLE_BYTES = 256 << 20
MAX_LEVEL = 1e5
MIN_SCALE = 1e-4
"""Limits of the scaling of pixels: the largest magnitude of a mean or a scale, and the smallest of a scale."""

# Ranges wider than any encoder needs, and narrow enough that everything computed from them is finite.
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=MAX_BUNDLE_BYTES)]
Rate = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
TargetFar = Annotated[float, msgspec.Meta(ge=1e-12, lt=1.0)]
Difference = Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]
Cosine = Annotated[float, msgspec.Meta(ge=-1.001, le=1.001)]
"""Rounding can exceed 1, and so can a threshold above the largest score."""

Score = Annotated[float, msgspec.Meta(ge=-1e9, le=1.001)]
"""A cosine or a negative distance; `codec` checks the range of each."""

Lead = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
Level = Annotated[float, msgspec.Meta(ge=-MAX_LEVEL, le=MAX_LEVEL)]
Output = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Decibel = Annotated[float, msgspec.Meta(ge=-4000.0, le=100.0)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
Word = Annotated[str, msgspec.Meta(max_length=300)]

# Python's $ also matches before a last line break, which JSON schema's does not.
_END = r"$(?!\n)"
_NAME = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
Digest = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{64}}{_END}")]
Slug = Annotated[str, msgspec.Meta(pattern=f"^[a-z0-9][a-z0-9_.-]{{0,63}}{_END}")]
MemberPath = Annotated[str, msgspec.Meta(pattern=f"^{_NAME}(/{_NAME}){{0,3}}{_END}")]
Instant = Annotated[str, msgspec.Meta(pattern=f"^[0-9]{{4}}(-[0-9]{{2}}){{2}}T[0-9]{{2}}(:[0-9]{{2}}){{2}}Z{_END}")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the manifest: it is frozen, and a key that it does not know is an error."""
