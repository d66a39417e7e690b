"""Opening what is in use: the settings, the bundle, its encoder and the gallery."""

import os

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoding.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import start_decoder
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.gallery.encoders import encoders
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import find_key
from edge_oneshot_device.recognition.state import GALLERY, Settings, in_force, load, open_bundle, state_dir


class Installed(msgspec.Struct, frozen=True):
    """What is in use, opened; the gallery is to be closed."""

    settings: Settings
    bundle: Bundle
    encoder: Encoder
    gallery: Gallery


def open_installed(
    state: str | os.PathLike[str] | None = None, *, key: str | os.PathLike[str] | None = None
) -> Installed:
    """What is in use, opened: the settings, the bundle, its encoder and the gallery.

    A power cut in the midst of `install` may have left the new settings with the gallery of before: then
    what was in use before still is.

    Raises:
        InputError: Reason ``not_initialised``.
        IntegrityError: The bundle, the settings, the key or the gallery is not as it was left.
        MachineError: The disk or the runtime failed.
    """
    # first of all: the process that decodes pictures shall hold neither bundle nor key
    start_decoder()
    folder, source = state_dir(state), find_key(key)
    settings, bundle = load(folder)
    if not (folder / GALLERY).exists():
        message = f"the gallery {folder / GALLERY} is gone: run init again, then restore a backup, or enrol everybody"
        raise IntegrityError(message, reason="gallery_missing")
    while True:
        encoder = Encoder.open(
            bundle,
            settings.variant,
            runtime=settings.runtime,
            threads=settings.threads,
            allow_cpu=settings.allow_cpu,
        )
        gallery = Gallery.open(folder / GALLERY, encoder.fingerprint, encoder.embedding.size, source)
        try:
            now = in_force(settings, gallery.read(encoders))
        except BaseException:
            gallery.close()
            raise
        if now is settings:
            return Installed(settings, bundle, encoder, gallery)
        gallery.close()
        settings, bundle = now, open_bundle(folder, now.bundle, now.sha256, now.trust)
