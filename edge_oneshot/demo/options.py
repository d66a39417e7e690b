"""The options of the demo."""

from typing import Annotated

from edge_oneshot_device.options import Options, option


class DemoOptions(Options, frozen=True, kw_only=True):
    """The options of `edge-oneshot demo`."""

    door: Annotated[
        bool,
        option("instead, show a door at work in the terminal: a composed scene in place of the camera, and no lock"),
    ] = False
    speech: Annotated[
        bool, option("instead, do the same with made-up spoken words, in the folder speech of DIR; needs espeak-ng")
    ] = False
    seed: Annotated[int, option("random seed of everything but the data", ge=0)] = 0
