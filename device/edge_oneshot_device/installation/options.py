"""The options of `init`, and those of them that `edge-oneshot deploy` takes for the device."""

from pathlib import Path
from typing import Annotated

from edge_oneshot_device.encoding.options import RuntimeName, Threads
from edge_oneshot_device.options import Options, option


class DoorOptions(Options, frozen=True, kw_only=True):
    """How a device is to use a bundle: what `init` and `edge-oneshot deploy` have in common."""

    variant: Annotated[
        str | None,
        option(
            "variant of the bundle to use (default: the one that people are enrolled with, else the bundle's first)",
            metavar="V",
        ),
    ] = None
    runtime: RuntimeName = None
    allow_cpu: Annotated[
        bool, option("with --runtime edgetpu: run on the CPU where the Edge TPU fails, now or later")
    ] = False
    target_far: (
        Annotated[
            float,
            option(
                "target false accept rate of an attempt, such as 0.001 (default: the smallest that the"
                " calibration supports)",
                gt=0,
                lt=1,
                metavar="F",
                reason="bad_target_far",
            ),
        ]
        | None
    ) = None
    trust: Annotated[
        Path | None,
        option(
            "from now on accept only bundles that this public key signed (default: the key that is trusted"
            " already, if any)",
            metavar="KEY.pub",
        ),
    ] = None
    re_enrol: Annotated[
        bool,
        option(
            "where another encoder was in use: enrol everybody again from the photos that were kept", exclusive="people"
        ),
    ] = False
    empty: Annotated[
        bool,
        option(
            "where another encoder was in use, or the gallery is gone: start with nobody enrolled (rollback"
            " brings the people of the former encoder back)",
            exclusive="people",
        ),
    ] = False


class InstallOptions(DoorOptions, frozen=True, kw_only=True):
    """The options of `init`."""

    take_over: Annotated[
        bool,
        option(
            "seal the people of a gallery of version 1; check first that they are yours, because anybody who"
            " could write the file chose them",
            exclusive="people",
        ),
    ] = False
    threads: Threads = 1
    keep_photos: Annotated[bool, option("keep the images or recordings that people are enrolled from, sealed")] = False
    rejections_per_minute: Annotated[
        int,
        option(
            "rejected attempts of identify in a minute after which everybody has to wait",
            ge=1,
            le=1000,
            metavar="N",
            reason="bad_limit",
        ),
    ] = 10
