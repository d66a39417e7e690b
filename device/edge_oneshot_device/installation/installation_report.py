"""What `init` and `rollback` report: what is in use now, and what the door does with it."""

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.inspection.bundle_summary import Operation, summarise
from edge_oneshot_device.matching.thresholds import Outlook
from edge_oneshot_device.recognition.outlook import forecast, outlook_of, resolve_target
from edge_oneshot_device.recognition.policy import Policy
from edge_oneshot_device.state.device_settings import DeviceSettings


class Installation(msgspec.Struct, frozen=True):
    """What is in use after `install` or `rollback`.

    Attributes:
        name, format, variants, fingerprints, calibration, signed_by, bytes: See `Summary`.
        variant, runtime, threads: The model that runs.
        target_far: Target false accept rate; None when the variant is uncalibrated.
        default_far: Whether that is the default of the bundle, because none was asked for.
        provisional: Whether `target_far` is smaller than the calibration supports, or the calibration is provisional.
        outlook: What the door does with the people who are enrolled; None when the variant is uncalibrated.
        forecast: The same, if anybody is enrolled, and for more people than are enrolled.
        trusted: Whether only bundles signed by `signed_by` are accepted from now on.
        people: Number of people enrolled.
        replaced: Whether something else was in use before, which `rollback` brings back.
        state: The state folder.
        key: Where the key of the gallery is.
        taken_over: Number of people taken over from a gallery that was not sealed.
        defaults_again: Options that were set before and have their defaults again.
    """

    name: str
    format: int
    variants: list[str]
    fingerprints: dict[str, str]
    calibration: list[Operation]
    signed_by: str | None
    bytes: int
    variant: str
    runtime: str
    threads: int
    target_far: float | None
    default_far: bool
    provisional: bool
    outlook: Outlook | None
    forecast: list[Outlook]
    trusted: bool
    people: int
    replaced: bool
    state: str
    key: str
    taken_over: int = 0
    defaults_again: list[str] = []


def report_on(
    gallery: Gallery,
    bundle: Bundle,
    encoder: Encoder,
    settings: DeviceSettings,
    *,
    replaced: bool,
    defaults_again: list[str],
) -> Installation:
    """The report on what is in use now.

    Args:
        gallery: The gallery, open.
        bundle: The bundle in use.
        encoder: The encoder in use.
        settings: The settings in use.
        replaced: Whether something else was in use before.
        defaults_again: Options that were set before and have their defaults again.

    Returns:
        The report.
    """
    summary = summarise(bundle)
    policy = Policy(bundle.manifest, encoder, settings.target_far)
    target_far, provisional = resolve_target(bundle.manifest, encoder.variant, settings.target_far)
    return Installation(
        name=summary.name,
        format=summary.format,
        variants=summary.variants,
        fingerprints=summary.fingerprints,
        calibration=summary.calibration,
        signed_by=summary.signed_by,
        bytes=summary.bytes,
        variant=encoder.variant,
        runtime=encoder.runtime,
        threads=settings.threads,
        target_far=target_far,
        default_far=target_far is not None and settings.target_far is None,
        provisional=provisional,
        outlook=outlook_of(gallery, policy),
        forecast=forecast(gallery, policy),
        trusted=settings.trust is not None,
        people=len(gallery.people()),
        replaced=replaced,
        state=str(gallery.path.parent),
        key=str(gallery.source),
        taken_over=gallery.taken_over,
        defaults_again=defaults_again,
    )
