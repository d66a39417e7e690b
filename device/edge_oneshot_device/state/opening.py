"""Open what is in use: the gallery with its settings, the bundle, and its encoder."""

import os

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import start_decoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import find_key
from edge_oneshot_device.state.bundle_files import open_bundle
from edge_oneshot_device.state.device_settings import DeviceSettings, require_settings
from edge_oneshot_device.state.folder import require_gallery, state_dir


class Installed(msgspec.Struct, frozen=True):
    """What is in use, opened. The caller closes the gallery."""

    settings: DeviceSettings
    bundle: Bundle
    encoder: Encoder
    gallery: Gallery


def open_installed(
    state: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None
) -> Installed:
    """Open the gallery, its settings, the bundle that they name, and its encoder.

    Args:
        state: The state folder, see `state_dir`.
        key: The file of the gallery's key, see `find_key`.

    Returns:
        All of them.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: The bundle, the settings, the key or the gallery was altered, or the state folder belongs to
            another user.
        MachineError: The disk or the runtime failed.
    """
    # before all else: the process that decodes pictures must hold neither bundle nor key
    start_decoder()
    folder, source = state_dir(state), find_key(key)
    gallery = Gallery.open(require_gallery(folder), key=source)
    try:
        settings = require_settings(gallery)
        bundle = open_bundle(folder, settings.bundle, settings.sha256, settings.trust)
        encoder = Encoder.open(
            bundle,
            settings.variant,
            runtime=settings.runtime,
            threads=settings.threads,
            allow_cpu=settings.allow_cpu,
        )
        gallery.use_with(encoder.fingerprint, encoder.embedding.size)
    except BaseException:
        gallery.close()
        raise
    return Installed(settings, bundle, encoder, gallery)
