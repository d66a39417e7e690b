"""The options of the demo."""

from typing import Annotated

from edge_oneshot_device.options import Options, option


class DemoOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot demo`."""

    door: Annotated[
        bool,
        option("instead, show a door at work in the terminal: a composed scene in place of the camera, and no lock"),
    ] = False
    seed: Annotated[int, option("random seed of everything but the glyphs", ge=0)] = 0
