"""The options of the commands that write a bundle; the command line is made from these fields."""

from pathlib import Path
from typing import Annotated, Final, Literal

from edge_oneshot_device.options import Options, option
from edge_oneshot_export.variants import DEFAULT_VARIANTS, VARIANTS

_TARGET_FAR: Final = "target false accept rate of a comparison, such as 0.001 (default: "
TargetFar = Annotated[float, option(f"{_TARGET_FAR}the smallest that the images support)", gt=0, lt=1, metavar="F")]
LeastTargetFar = Annotated[
    float,
    option(f"{_TARGET_FAR}the bundle's, or the smallest that the images support if smaller)", gt=0, lt=1, metavar="F"),
]
SignWith = Annotated[Path, option("sign the bundle with this private key, see keygen", metavar="KEY")]

ALL: Final = "all"


def _names(text: str) -> tuple[str, ...] | str:
    return ALL if text == ALL else tuple(text.split(","))


class ExportOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot export`; what it needs besides for model files is in `EncoderFileOptions`."""

    variants: Annotated[
        tuple[str, ...] | Literal["all"] | None,
        option(
            f"{', '.join(VARIANTS)}, or all (default: {','.join(DEFAULT_VARIANTS)}); the device uses the "
            "first unless told otherwise; a variant that is named here and fails is an error, any other is left out",
            metavar="V,...",
            type=_names,
            choices=None,
        ),
    ] = None
    target_far: TargetFar | None = None
    sign: SignWith | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names of the variants to export."""
        if self.variants is None:
            return DEFAULT_VARIANTS
        return tuple(VARIANTS) if self.variants == ALL else tuple(self.variants)

    @property
    def required(self) -> bool:
        """Whether a variant that fails is an error."""
        return self.variants not in (None, ALL)


class CalibrateOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot calibrate`."""

    target_far: LeastTargetFar | None = None
    sign: SignWith | None = None
