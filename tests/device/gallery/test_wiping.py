import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_oneshot_device.gallery import audit, wiping
from edge_oneshot_device.gallery.encoders import use_encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.people import PersonDetails
from edge_oneshot_device.gallery.roster import new_number
from edge_oneshot_device.gallery.sealed import write_person, write_template
from tests.samples.galleries import MINE, OTHER, SIZE, vectors


def is_due(gallery: Gallery) -> bool:
    with gallery.reading() as transaction:
        return wiping.is_due(transaction)


def sealed_in(gallery: Gallery) -> set[bytes]:
    """All that is sealed of people, and their tags."""
    queries = ("SELECT tag FROM person", "SELECT record FROM person", "SELECT sealed FROM template")
    with closing(sqlite3.connect(gallery.path)) as connection:
        return {row[0] for query in queries for row in connection.execute(query)}


def left_over(gallery: Gallery, gone: set[bytes]) -> int:
    """How many pieces of 16 bytes of these are in the file still."""
    content = gallery.path.read_bytes()
    return sum(value[at : at + 16] in content for value in gone for at in range(0, len(value) - 15, 16))


def come_and_go(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Enrol many, and forget some as if killed before the wipe; returns what was sealed of who is gone."""
    names = [f"Person Number {place}" for place in range(60)]
    with gallery.writing() as transaction:
        use_encoder(transaction)
        for name in names:
            number = new_number()
            write_person(transaction, number, PersonDetails(name, "2026-01-01T00:00:00Z"))
            write_template(transaction, number, vectors()[0].tobytes())
            audit.append(transaction, "enrolled", number, {"templates": 1, "fingerprint": MINE})
    before = sealed_in(gallery)
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "wipe", lambda _: None)
        gallery.forget(names[7])
    gone = before - sealed_in(gallery)
    plant(gallery.path, b"".join(gone))
    assert left_over(gallery, gone) > 5
    return gone


def plant(path: Path, traces: bytes) -> None:
    """Leave traces in the unused part of every page that has room, as SQLite does where it moves rows of people."""
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    pages = [roots["person"], roots["sqlite_autoindex_person_1"], roots["template"]]
    pages += range(max(roots.values()) + 1, len(content) // 4096 + 1)  # those that rows were moved to
    for start in [4096 * (page - 1) for page in pages]:
        first, end = wiping._unused(content[start : start + 4096], 0)
        content[start + first : start + end] = traces[: end - first].ljust(end - first, b"\0")
    path.write_bytes(content)


def test_the_next_opening_finishes_what_a_kill_left(gallery, key, monkeypatch):
    gone = come_and_go(gallery, monkeypatch)
    assert is_due(gallery)
    with Gallery.open(gallery.path, MINE, SIZE, key) as opened:
        assert left_over(opened, gone) == 0
        assert not is_due(opened)
        with opened.reading() as transaction:
            assert transaction.value("PRAGMA integrity_check") == "ok"
        assert opened.check_audit().people == len(opened.people()) > 20


def test_what_others_had_read_before_is_not_written_back(gallery, key, monkeypatch):
    gone = come_and_go(gallery, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "wipe", lambda _: None)
        other = Gallery.open(gallery.path, MINE, SIZE, key)
    with other:
        other.people()  # these pages are kept in memory
        gallery.wipe()
        for number in range(30):
            other.enrol(f"Somebody New {number}", vectors())
    assert left_over(gallery, gone) == 0


def test_a_photo_of_another_encoder_s_time_is_wiped_too(gallery, key, monkeypatch):
    gallery.enrol("ada", vectors(), photos=[b"a photo" * 1000])
    monkeypatch.setattr(Gallery, "wipe", lambda _: None)
    with Gallery.open(gallery.path, OTHER, SIZE, key) as opened:
        with opened.writing() as transaction:
            use_encoder(transaction)
            transaction.execute("DELETE FROM wipe")
        opened.enrol("ada", vectors(), photos=[b"another"])
        assert is_due(opened)
    monkeypatch.undo()
    Gallery.open(gallery.path, OTHER, SIZE, key).close()
    assert not is_due(gallery)


def test_who_comes_first_has_nothing_to_wipe(gallery: Gallery) -> None:
    gallery.enrol("ada", vectors())
    gallery.enrol("ada", vectors(), add=True)
    assert not is_due(gallery)


def test_others_may_write_while_a_wipe_goes_on(gallery, key, monkeypatch):
    gone = come_and_go(gallery, monkeypatch)
    names: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "wipe", lambda _: None)
        other = Gallery.open(gallery.path, MINE, SIZE, key)

    def somebody_writes(_: float) -> None:
        names.append(f"Somebody New {len(names)}")
        other.enrol(names[-1], vectors())

    with other, monkeypatch.context() as patch:
        patch.setattr(wiping, "_WRITTEN", 1)
        patch.setattr(wiping, "time", SimpleNamespace(sleep=somebody_writes))
        gallery.wipe()
    assert len(names) > 5
    assert {person.person for person in gallery.people()} >= set(names)
    assert left_over(gallery, gone) == 0


def test_who_is_forgotten_during_a_wipe_of_others_is_not_taken_for_wiped(gallery, key, monkeypatch):
    come_and_go(gallery, monkeypatch)
    gallery.enrol("ada", vectors())
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "wipe", lambda _: None)
        other = Gallery.open(gallery.path, MINE, SIZE, key)

    def ada_goes(_: float) -> None:
        if other.number_of("ada") is not None:
            with monkeypatch.context() as patch:
                patch.setattr(Gallery, "wipe", lambda _: None)
                other.forget("ada")

    with other, monkeypatch.context() as patch:
        patch.setattr(wiping, "_WRITTEN", 1)
        patch.setattr(wiping, "time", SimpleNamespace(sleep=ada_goes))
        gallery.wipe()
    assert is_due(gallery)
    gallery.wipe()
    assert not is_due(gallery)


@pytest.mark.parametrize("kind", [0, 1, 7, 255])
def test_a_page_without_rows_is_left_alone(kind: int) -> None:
    assert wiping._unused(bytes([kind]) + bytes(range(255)) * 16, 0) == (0, 0)


@pytest.mark.parametrize(("kind", "header"), [(2, 12), (5, 12), (10, 8), (13, 8)])
def test_the_unused_part_lies_between_the_pointers_and_the_first_row(kind: int, header: int) -> None:
    page = bytes([kind, 0, 0, 0, 3, 0x0F, 0]) + bytes(4089)
    assert wiping._unused(page, 0) == (header + 6, 0x0F00)
    assert wiping._unused(bytes(100) + page, 100) == (100 + header + 6, 0x0F00)
    # what makes no sense is not touched
    assert wiping._unused(bytes([kind, 0, 0, 0xFF, 0xFF, 0x0F, 0]) + bytes(4089), 0) == (0, 0)


def test_photos_of_many_pages_are_as_they_were_after_a_wipe(gallery: Gallery) -> None:
    photos = [np.random.default_rng(size).bytes(size) for size in (3000, 50_000, 200_000)]
    gallery.enrol("ada", vectors(), photos=photos)
    gallery.enrol("grace", vectors(), photos=photos)
    gallery.forget("grace")
    with closing(sqlite3.connect(gallery.path)) as connection:
        rows = connection.execute("SELECT person, sealed FROM photo ORDER BY id").fetchall()
    assert [gallery.keyring.vault.open(sealed, "photo", number) for number, sealed in rows] == photos


def test_closing_a_gallery_that_was_wiped_drops_no_lock_of_another_use_in_this_process(gallery, key):
    # POSIX: a process that closes a file loses all of its locks on it
    begin = f"import sqlite3; sqlite3.connect({str(gallery.path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    gallery.enrol("ada", vectors())
    other = Gallery.open(gallery.path, MINE, SIZE, key)
    other.forget("ada")

    with gallery.writing():
        other.close()
        done = subprocess.run([sys.executable, "-c", begin], capture_output=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, b"sqlite3.OperationalError: database is locked")
    gallery.close()
    gallery.close()
    assert gallery.path.resolve() not in wiping._files
