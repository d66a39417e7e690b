"""The options of the demo."""

from typing import Annotated

from edge_oneshot_device.options import Options, option


class DemoOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot demo`."""

    seed: Annotated[int, option("random seed of everything but the glyphs", ge=0)] = 0
