"""The options of the demo."""

from typing import Annotated

from msgspec import Meta

from edge_oneshot_device.options import Options


class DemoOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot demo`."""

    seed: Annotated[int, Meta(ge=0, description="random seed of everything but the glyphs")] = 0
