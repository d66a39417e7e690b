"""The options of `lookalikes`."""

from typing import Annotated

from edge_oneshot_device.options import Options, option


class LookalikeOptions(Options, frozen=True, kw_only=True):
    """What is shown of the look-alikes."""

    limit: Annotated[int, option("pairs to show; all are counted", ge=1, le=10_000, metavar="N")] = 20
