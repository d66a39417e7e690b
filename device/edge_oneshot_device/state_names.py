"""The names of files in a state folder, and the mark of a gallery: how other modules recognise both."""

from typing import Final

GALLERY: Final = "gallery.db"
RESERVE: Final = "reserve"
BUNDLES: Final = "bundles"
BUNDLE_NAME: Final = r"^[a-z0-9][a-z0-9_.-]{0,63}-[0-9a-f]{12}\.oneshot$"

FORMER_SETTINGS: Final = "settings.json"
"""The file of the settings in former versions: it is not read, and the next `install` removes it."""

APPLICATION_ID: Final = 0x454F5347
"""Of SQLite's header of a gallery: "EOSG"."""
