"""The options of `bench`."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edge_oneshot_device.encoding.options import RuntimeName, Threads, VariantName
from edge_oneshot_device.options import Options


class BenchOptions(Options, frozen=True, kw_only=True):
    """What is measured, and how often."""

    variant: VariantName = None
    runtime: RuntimeName = None
    threads: Threads = 1
    runs: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="timed runs", extra={"metavar": "N", "reason": "wrong_runs"}),
    ] = 200
    image: Annotated[
        Path | None,
        Meta(
            description="image file for the stages (default: a golden image; an encoder of faces needs a photo)",
            extra={"metavar": "FILE"},
        ),
    ] = None
