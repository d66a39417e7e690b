"""Attacks on the bytes of the gallery's file: changed bytes, another file in its place, a forged journal."""

import os
import random
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.campaigns.intrusion.acts import Act, Scene

_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_HEADER = 100  # bytes of a database, before its first page's own
_SECTOR = 512


def draw(scene: Scene) -> Act:
    """One change of the file."""
    return scene.numbers.choice(_CHANGES)(scene)


def _bits(scene: Scene) -> Act:
    file = scene.database()
    content = bytearray(file.read_bytes())
    places = [scene.numbers.randrange(len(content)) for _ in range(scene.numbers.randint(1, 8))]
    for place in places:
        content[place] ^= scene.numbers.randint(1, 255)
    return _written(file, bytes(content), f"bytes at {places} changed")


def _header(scene: Scene) -> Act:
    file = scene.database()
    content = bytearray(file.read_bytes())
    place = scene.numbers.randrange(_HEADER)
    value = scene.numbers.choice((0, 1, 2, 4, 255, scene.numbers.randrange(256)))
    content[place] = value
    return _written(file, bytes(content), f"byte {place} of the header is {value}")


def _cut(scene: Scene) -> Act:
    file = scene.database()
    size = scene.numbers.choice((0, 1, 50, 100, 512, 4096, scene.numbers.randrange(file.stat().st_size)))
    return _written(file, file.read_bytes()[:size], f"cut to {size} bytes")


def _longer(scene: Scene) -> Act:
    file = scene.database()
    more = scene.numbers.choice((bytes(4096), os.urandom(4096), bytes(1), bytes(1 << 20)))
    return _written(file, file.read_bytes() + more, f"{len(more)} bytes at the end")


def _pages(scene: Scene) -> Act:
    """Two pages swapped, one zeroed, or one of before put back."""
    file = scene.database()
    content = file.read_bytes()
    size = _page_size(content)
    first, second = (scene.numbers.randrange(len(content) // size) * size for _ in range(2))
    changed = bytearray(content)
    how = scene.numbers.choice(("swapped", "copied", "zeroed", "of before"))
    if how == "zeroed":
        changed[first : first + size] = bytes(size)
    elif how == "of before":
        former = scene.database(scene.loot / "state").read_bytes()[first : first + size]
        changed[first : first + len(former)] = former
    else:
        changed[first : first + size] = content[second : second + size]
        if how == "swapped":
            changed[second : second + size] = content[first : first + size]
    told = f"page {first // size} {how} ({second // size})"
    return _written(file, bytes(changed), told, before=how == "of before")


def _empty(scene: Scene) -> Act:
    return _written(scene.database(), b"", "an empty file in its place")


def _random(scene: Scene) -> Act:
    return _written(scene.database(), scene.blob(20_000), "random bytes in its place")


def _former(scene: Scene) -> Act:
    content = scene.database(scene.loot / "state").read_bytes()
    return _written(scene.database(), content, "an older copy in its place", before=True)


def _other(scene: Scene) -> Act:
    content = scene.database(scene.place / "other").read_bytes()
    return _written(scene.database(), content, "the other state folder's gallery in its place", other=True)


def _version_1(scene: Scene) -> Act:
    """A gallery from before there were keys, with the attacker in it: what opens it might seal them."""
    file, made = scene.database(), scene.loot / "made.db"
    template, fingerprint = (scene.loot / "template").read_bytes(), (scene.loot / "fingerprint").read_text()
    application = struct.unpack_from(">I", file.read_bytes(), 68)[0]

    def perform() -> None:
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.executescript(f"""
                CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, enrolled TEXT NOT NULL,
                  fingerprint TEXT NOT NULL) STRICT;
                CREATE TABLE template (id INTEGER PRIMARY KEY, person INTEGER NOT NULL REFERENCES person (id)
                  ON DELETE CASCADE, embedding BLOB NOT NULL) STRICT;
                CREATE INDEX template_person ON template (person);
                PRAGMA application_id = {application};
                PRAGMA user_version = 1;""")
            row = ("mallory", "2026-01-01T00:00:00Z", fingerprint)
            connection.execute("INSERT INTO person VALUES (1, ?, ?, ?)", row)
            connection.execute("INSERT INTO template VALUES (1, 1, ?)", (template,))
        file.write_bytes(made.read_bytes())

    return Act("a gallery of version 1 with the attacker in it in its place", perform)


def draw_journal(scene: Scene) -> Act:
    """A journal that SQLite takes for what a cut change left, and rolls back."""
    file = scene.database()
    content = file.read_bytes()
    size = _page_size(content)
    page = scene.numbers.randrange(len(content) // size)
    former = scene.database(scene.loot / "state").read_bytes()[page * size : (page + 1) * size]
    old = scene.numbers.choice((former, bytes(size), content[page * size : (page + 1) * size]))
    victim = None
    if scene.chance(0.6):
        names = ("secret.txt", "public.txt", "own.txt", "own/letter.txt", "database.db", "folder/letter.txt")
        victims = [*(scene.place / "canaries" / name for name in names), scene.place / "keys" / "key"]
        victim = scene.numbers.choice(victims)
    journal = journal_of(scene.numbers, old.ljust(size, b"\0"), page + 1, len(content) // size, size, victim)
    path = file.with_name(file.name + "-journal")
    told = f"a hot journal of page {page}" + (f" that names {victim.name} as its super-journal" if victim else "")
    return _written(path, journal, told, before=old == former)


def journal_of(numbers: random.Random, page: bytes, number: int, pages: int, size: int, victim: Path | None) -> bytes:
    """One page as it was, after fileformat2.html and pager.c."""
    nonce = numbers.getrandbits(32)
    header = _JOURNAL + struct.pack(">IIIII", 1, nonce, pages, _SECTOR, size)
    check = (nonce + sum(page[place] for place in range(size - 200, 0, -200))) & 0xFFFFFFFF
    record = struct.pack(">I", number) + page + struct.pack(">I", check)
    content = header.ljust(_SECTOR, b"\0") + record
    if victim is not None:
        name = str(victim).encode()
        lock_page = (1 << 30) // size + 1
        trailer = struct.pack(">I", lock_page) + name + struct.pack(">II", len(name), sum(name)) + _JOURNAL
        content = content.ljust(-(-len(content) // _SECTOR) * _SECTOR, b"\0") + trailer
    return content


def _page_size(content: bytes) -> int:
    found = struct.unpack_from(">H", content, 16)[0]
    return 65536 if found == 1 else int(found)


def _written(file: Path, content: bytes, told: str, *, before: bool = False, other: bool = False) -> Act:
    return Act(told, partial(_write, file, content), before, other)


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


_CHANGES: tuple[Callable[[Scene], Act], ...] = (
    _bits, _bits, _header, _header, _cut, _longer, _pages, _pages, _empty, _random, _former, _other, _version_1,
    draw_journal, draw_journal,
)  # fmt: skip
