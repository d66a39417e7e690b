"""The ground on which each case begins: a door in use, older copies that its attacker has, and files of others.

state/       the door's state folder: two bundles were in use; people enrolled, one expired, one forgotten
other/       another state folder, under the same key
keys/        the key and its neighbours, which the attacker can neither read nor write
elsewhere/   the administrator's bundles, backups and images
loot/        the attacker's: an older copy of the state folder, and a template of their own
canaries/    files of others: nothing of it may change
"""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_oneshot_device import Recognizer
from edge_oneshot_device.gallery import audit_trail
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transfer import back_up
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.state.opening import open_installed
from tests.samples.tiny import bundle_maker, draw_people, tiny_section

REJECTIONS = 12
"""Of 1:N a minute, after which the door makes everybody wait."""
EXPIRED = Access(valid_until="2020-01-01T00:00:00Z")
PEOPLE = ("ada", "alan", "edsger", "grace")
VISITOR = "visitor"
"""Enrolled in the other state folder, from images of the stranger."""
OWN = ("state", "other", "keys", "elsewhere", "loot", "canaries/own", "canaries/own.txt")
"""What belongs to the door's user."""
SECRET = "known to nobody but root"  # noqa: S105


def prepare(root: Path) -> None:
    """Make the ground in a folder."""
    images = draw_people()
    elsewhere, state, other, keys = root / "elsewhere", root / "state", root / "other", root / "keys"
    for folder in (elsewhere, keys, root / "loot", root / "canaries"):
        folder.mkdir(mode=0o755, parents=True)
    keys.chmod(0o700)
    make = bundle_maker(elsewhere, images, tiny_section())
    former, present, _ = [
        make(name=name, variants=("int8",), counts=(1, 3), min_contrast=contrast)
        for name, contrast in (("former", 14), ("present", 15), ("next", 16))
    ]
    for person, own in images.items():
        (elsewhere / f"{person}.png").write_bytes(own[5])
        (elsewhere / f"{person}-enrol.png").write_bytes(own[0])
    key = keys / "key"
    install(former, state, InstallOptions(keep_photos=True, rejections_per_minute=REJECTIONS), key=key)
    with Recognizer.open(state, key=key) as door:
        for person in PEOPLE:
            door.enrol(person, *images[person][: 1 if person == "alan" else 2])
        back_up(door.gallery, elsewhere / "oldest.backup")
        rotate_key(door.gallery)
    install(present, state, InstallOptions(keep_photos=True, rejections_per_minute=REJECTIONS, re_enrol=True), key=key)
    install(present, other, InstallOptions(rejections_per_minute=REJECTIONS), key=key)
    with Recognizer.open(other, key=key) as door:
        door.enrol(VISITOR, images["stranger"][0])
    with Recognizer.open(state, key=key) as door:
        shutil.copytree(state, root / "loot" / "state")
        back_up(door.gallery, elsewhere / "early.backup")
        door.gallery.set_access("edsger", EXPIRED)
        door.forget("grace")
        door.identify(images["ada"][6])
        door.identify(images["stranger"][6])
        for person, failures in (("alan", 2), ("edsger", 5)):
            for _ in range(failures):
                door.verify(person, images["stranger"][6])
        back_up(door.gallery, elsewhere / "now.backup")
        facts = {"head": str(audit_trail.head(door.gallery))}
    with (opened := open_installed(state, key=key)).gallery:
        template = opened.encoder.embed_image(images["stranger"][0]).astype("<f4").tobytes()
    (root / "loot" / "template").write_bytes(template)
    (root / "loot" / "fingerprint").write_text(opened.encoder.fingerprint)
    for folder in (state, state / "bundles"):  # the administrator's own, which is not the program's
        (folder / "notes.txt").write_text("call the locksmith\n")
    _canaries(root / "canaries")
    (root / "facts.json").write_text(json.dumps(facts))


def _canaries(folder: Path) -> None:
    for name in ("folder", "own"):
        (folder / name).mkdir(mode=0o755)
        for file in ("letter.txt", "list.oneshot", "state.json"):
            (folder / name / file).write_text(f"{SECRET}: {file}\n")
    for name, mode in (("secret.txt", 0o600), ("public.txt", 0o644), ("own.txt", 0o640)):
        (folder / name).write_text(f"{SECRET}\n" * 50)
        (folder / name).chmod(mode)
    with closing(sqlite3.connect(folder / "database.db", isolation_level=None)) as connection:
        connection.execute(f"CREATE TABLE wages AS SELECT '{SECRET}' AS who")
    (folder / "database.db").chmod(0o600)


def lay(ground: Path, place: Path, user: int | None) -> None:
    """Put a copy of the ground in a place, as its owners left it."""
    remove(place)
    shutil.copytree(ground, place, symlinks=True)
    if user is not None:
        for name in OWN:
            own = place / name
            for path in (own, *own.rglob("*")):
                os.chown(path, user, user, follow_symlinks=False)


def remove(place: Path) -> None:
    """Remove a place, whatever became of it."""
    for folder, names, _ in os.walk(place):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)


def foreign(place: Path) -> dict[str, Any]:
    """All that is to be said of files that are not the program's: kind, owner, mode, dates, content."""
    notes = [place / "state" / "notes.txt", place / "state" / "bundles" / "notes.txt"]
    return looked_at([*sorted((place / "canaries").rglob("*")), place / "canaries", *notes], place)


def looked_at(paths: list[Path], place: Path) -> dict[str, Any]:
    """By path, what a file is."""
    found = {}
    for path in paths:
        try:
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else None
            if stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            date = None if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            seen = [oct(status.st_mode), status.st_uid, status.st_gid, date, content]
        except OSError as error:
            seen = [error.strerror]
        found[str(path.relative_to(place))] = seen
    return found


def everything(folder: Path, place: Path) -> dict[str, Any]:
    """What lies in a folder."""
    return looked_at([folder, *sorted(folder.rglob("*"))], place)
