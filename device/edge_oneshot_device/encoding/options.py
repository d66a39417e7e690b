"""Options that say which model runs and how: the same words in every command of both programs."""

from typing import Annotated, Final

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.options import option

MAX_THREADS: Final = 256

VariantName = Annotated[str | None, option("variant of the bundle to use (default: the bundle's first)", metavar="V")]
RuntimeName = Annotated[
    str | None, option("a runtime of the variant, or edgetpu (default: the variant's first)", metavar="R")
]
Threads = Annotated[int, option("threads of one inference", ge=1, le=MAX_THREADS, metavar="T", reason="wrong_threads")]


def choose_variant(manifest: Manifest, variant: str | None = None) -> str:
    """The name of the variant to use.

    Args:
        manifest: The manifest of the bundle.
        variant: The name that was asked for; None takes the bundle's first.

    Returns:
        The name of a variant that the bundle has.

    Raises:
        InputError: Reason ``variant_missing``; the message lists the bundle's variants.
    """
    names = [one.name for one in manifest.variants]
    chosen = manifest.default_variant if variant is None else variant
    if chosen not in names:
        message = f"{manifest.name} has no variant {chosen!r}: choose one with --variant: {', '.join(names)}"
        raise InputError(message, reason="variant_missing")
    return chosen
