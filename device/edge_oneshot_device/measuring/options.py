"""The options of `bench`."""

from pathlib import Path
from typing import Annotated

from edge_oneshot_device.encoding.options import RuntimeName, Threads, VariantName
from edge_oneshot_device.options import Options, option


class BenchOptions(Options, frozen=True, kw_only=True):
    """What is measured, and how often."""

    variant: VariantName = None
    runtime: RuntimeName = None
    threads: Threads = 1
    runs: Annotated[int, option("timed runs", ge=1, le=1_000_000, metavar="N", reason="wrong_runs")] = 200
    image: Annotated[
        Path | None,
        option(
            "file for the stages (default: a golden image; faces need a photo, speech a recording)",
            metavar="FILE",
        ),
    ] = None
