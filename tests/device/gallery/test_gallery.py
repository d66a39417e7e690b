import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import database
from edge_oneshot_device.gallery.encoders import require_encoder, use_encoder
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key, read_key
from edge_oneshot_device.gallery.migrations import MIGRATIONS
from edge_oneshot_device.gallery.owned import require_plain_journal
from edge_oneshot_device.gallery.people import Enrolment, person_name
from edge_oneshot_device.gallery.vault import Vault
from tests import MODELS
from tests.raising import raises
from tests.samples.galleries import MINE, OTHER, SIZE, names, tampering, vectors


def matched(gallery: Gallery) -> list[str]:
    """Names of those who have templates in memory."""
    index = gallery.template_cache("cosine", "best").index
    found = [name for name in names(gallery) if len(index.templates_of(gallery.number_of(name) or 0))]
    assert index.people == len(found)
    return found


def held(gallery: Gallery, name: str) -> np.ndarray:
    """The templates of a person in memory."""
    return gallery.template_cache("cosine", "best").index.templates_of(gallery.number_of(name) or 0)


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    """With the key of the environment."""
    with Gallery.open(path, MINE, SIZE, create=True) as opened:
        yield opened


def execute(gallery: Gallery, statement: str) -> None:
    with gallery.writing() as transaction:
        transaction.execute(statement)


# enrol, people, forget


def test_a_person_enrolled_is_listed_with_the_time_and_the_fingerprint(gallery: Gallery) -> None:
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert gallery.enrol("ada", vectors(2)) == Enrolment("ada", 2, "enrolled", MINE)
    (ada,) = gallery.people()
    assert (ada.person, ada.templates, ada.fingerprint) == ("ada", 2, MINE)
    assert before <= ada.enrolled <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_templates_come_back_bit_for_bit_with_their_owners(gallery: Gallery) -> None:
    gallery.enrol("grace", vectors(1, seed=1))
    gallery.enrol("ada", vectors(3, seed=2))
    gallery.enrol("grace", vectors(1, seed=3), add=True)
    np.testing.assert_array_equal(held(gallery, "grace"), [*vectors(1, seed=1), *vectors(1, seed=3)])
    np.testing.assert_array_equal(held(gallery, "ada"), vectors(3, seed=2))
    assert matched(gallery) == ["ada", "grace"]
    cache = gallery.template_cache("cosine", "best")
    assert (cache.fewest, cache.most, len(cache.index)) == (2, 3, 5)


def test_an_empty_gallery_has_nobody_to_match(gallery: Gallery) -> None:
    cache = gallery.template_cache("cosine", "best")
    assert (cache.index.people, cache.fewest, cache.most) == (0, 1, 1)
    assert cache.index.search(vectors()[0]) == ()


def test_what_was_enrolled_is_there_after_opening_again(path: Path) -> None:
    with Gallery.open(path, MINE, SIZE, create=True) as first:
        first.enrol("ada", vectors())
    with Gallery.open(path, MINE, SIZE) as second:
        np.testing.assert_array_equal(held(second, "ada"), vectors())


def test_enrolling_somebody_twice_is_refused_and_says_how_to_go_on(gallery: Gallery) -> None:
    gallery.enrol("ada", vectors(seed=1))
    with raises(InputError, match=r"--add.*--replace", reason="already_enrolled"):
        gallery.enrol("ada", vectors(seed=2))
    np.testing.assert_array_equal(held(gallery, "ada"), vectors(seed=1))


def test_add_and_replace_change_the_templates(gallery: Gallery) -> None:
    gallery.enrol("ada", vectors(seed=1))
    assert gallery.enrol("ada", vectors(2, seed=2), add=True) == Enrolment("ada", 3, "added", MINE)
    assert gallery.enrol("ada", vectors(2, seed=3), replace=True) == Enrolment("ada", 2, "replaced", MINE)
    np.testing.assert_array_equal(held(gallery, "ada"), vectors(2, seed=3))


@pytest.mark.parametrize("how", ["add", "replace"])
def test_nobody_is_added_to_or_replaced_who_is_not_enrolled(gallery: Gallery, how: str) -> None:
    with raises(InputError, reason="not_enrolled"):
        gallery.enrol("ada", vectors(), **{how: True})
    assert gallery.people() == []


def test_a_person_has_five_templates_at_most(gallery: Gallery) -> None:
    gallery.enrol("ada", vectors(4))
    with raises(InputError, match="would have 6 templates: at most 5", reason="too_many_templates"):
        gallery.enrol("ada", vectors(2), add=True)
    assert gallery.people()[0].templates == 4
    assert gallery.enrol("ada", vectors(1), add=True).templates == 5


def test_somebody_forgotten_is_gone_from_the_gallery_and_from_the_file(gallery: Gallery, path: Path) -> None:
    vault = Vault(read_key(find_key()))
    gallery.enrol("Ada Lovelace", vectors(2, seed=1), photos=[b"a photo"])
    gallery.enrol("grace", vectors(1, seed=2))
    with tampering(path) as connection:
        traces = [vault.tag("Ada Lovelace")]
        for table in ("template", "photo"):
            traces += [row[0] for row in connection.execute(f"SELECT sealed FROM {table}")]
        traces += [row[0] for row in connection.execute("SELECT record FROM person")]
    content = path.read_bytes()
    there = [trace for trace in traces if trace in content]
    assert there == traces
    assert gallery.forget("Ada Lovelace") == Enrolment("Ada Lovelace", 0, "forgotten", MINE)
    assert names(gallery) == matched(gallery) == ["grace"]
    content = path.read_bytes()
    # what is left is that of grace: one template, one record
    assert len([trace for trace in traces if trace in content]) == 2
    assert traces[0] not in content


def test_neither_name_nor_template_is_in_the_file_in_the_clear(gallery: Gallery, path: Path) -> None:
    gallery.enrol("Ada Lovelace", vectors(2, seed=1), photos=[b"a photo of her"])
    content = path.read_bytes()
    for secret in (b"Lovelace", b"a photo", *(row.tobytes()[:8] for row in vectors(2, seed=1))):
        assert secret not in content


def test_nobody_is_forgotten_who_is_not_enrolled(gallery: Gallery) -> None:
    with raises(InputError, reason="not_enrolled"):
        gallery.forget("ada")


def test_people_are_listed_by_name(gallery: Gallery) -> None:
    for name in ("grace", "ada", "edsger"):
        gallery.enrol(name, vectors())
    assert names(gallery) == ["ada", "edsger", "grace"]


@pytest.mark.parametrize("name", ["ada", "Ада", "愛", "O'Brien; DROP TABLE person", "a" * 128, "ada lovelace"])
def test_names_of_any_script_are_kept(gallery: Gallery, name: str) -> None:
    gallery.enrol(name, vectors())
    assert names(gallery) == [name]


@pytest.mark.parametrize(
    "name", ["", " ", "\t", "ada\n", "a\x00b", "a\x1b[31m", "a" * 129, "\ud800", "a\u202eb", "\u200b"]
)
def test_names_that_cannot_be_shown_are_refused(gallery: Gallery, name: str) -> None:
    for refused_call in (lambda: gallery.enrol(name, vectors()), lambda: gallery.forget(name)):
        with raises(InputError, reason="bad_name") as refused:
            refused_call()
        assert str(refused.value).isprintable()


def test_one_name_in_two_encodings_is_one_person(gallery: Gallery) -> None:
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    assert person_name(f" {decomposed} ") == composed
    gallery.enrol(decomposed, vectors())
    assert names(gallery) == [composed]
    assert gallery.forget(composed).person == composed


def test_a_template_that_is_no_number_is_never_kept(gallery: Gallery) -> None:
    for value in (np.nan, np.inf, 1e300, -1e300, 1e38, 2e18):
        broken = vectors(2).astype(np.float64)
        broken[1, 2] = value
        with raises(MachineError, reason="not_finite"):
            gallery.enrol("ada", broken)
        assert gallery.people() == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ada", "alan", "grace"]),
            st.sampled_from(["enrol", "add", "replace", "forget"]),
            hnp.arrays(
                np.float32,
                st.tuples(st.integers(1, 3), st.just(SIZE)),
                elements=st.floats(-(2.0**57), 2.0**57, width=32),
            ),
        ),
        max_size=12,
    )
)
@settings(max_examples=40)
def test_the_gallery_behaves_like_a_dictionary(steps: list[tuple[str, str, np.ndarray]]) -> None:
    model: dict[str, list[bytes]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Gallery.open(Path(folder) / "g.db", MINE, SIZE, create=True) as gallery,
    ):
        for name, action, templates in steps:
            new = [row.tobytes() for row in templates]
            wanted = [*model.get(name, []), *new] if action == "add" else new
            if (name in model) == (action != "enrol") and (action == "forget" or len(wanted) <= 5):
                _apply(gallery, name, action, templates)
                model[name] = wanted
                if action == "forget":
                    del model[name]
            else:
                with pytest.raises(InputError):
                    _apply(gallery, name, action, templates)
        assert {person.person: person.templates for person in gallery.people()} == {k: len(v) for k, v in model.items()}
        assert _as_dictionary(gallery) == model


def _apply(gallery: Gallery, name: str, action: str, templates: np.ndarray) -> None:
    if action == "forget":
        gallery.forget(name)
    else:
        gallery.enrol(name, templates, add=action == "add", replace=action == "replace")


def _as_dictionary(gallery: Gallery) -> dict[str, list[bytes]]:
    return {name: [row.tobytes() for row in held(gallery, name)] for name in matched(gallery)}


# several connections


def test_the_matrix_is_read_once_and_follows_other_connections(gallery: Gallery, path: Path) -> None:
    gallery.enrol("ada", vectors(seed=1))
    assert matched(gallery) == ["ada"]
    first = gallery.template_cache("cosine", "best").index
    with Gallery.open(path, MINE, SIZE) as other:
        other.enrol("grace", vectors(seed=2))
        assert matched(gallery) == ["ada", "grace"]
        other.forget("ada")
        assert matched(gallery) == ["grace"]
        np.testing.assert_array_equal(held(gallery, "grace"), vectors(seed=2))
    assert gallery.template_cache("cosine", "best").index is first


def test_threads_that_enrol_at_once_lose_nobody(path: Path) -> None:
    Gallery.open(path, MINE, SIZE, create=True).close()

    def enrol(group: int) -> None:
        with Gallery.open(path, MINE, SIZE) as own:
            for index in range(15):
                own.enrol(f"{group}-{index}", vectors(seed=index))

    threads = [threading.Thread(target=enrol, args=(group,)) for group in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Gallery.open(path, MINE, SIZE) as gallery:
        assert sorted(names(gallery)) == sorted(f"{g}-{i}" for g in range(3) for i in range(15))


def test_a_gallery_in_use_for_too_long_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with Gallery.open(path, MINE, SIZE, create=True) as other, tampering(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with raises(MachineError, match="in use by another process", reason="gallery_busy"):
            other.enrol("ada", vectors())


# fingerprints


def require(gallery: Gallery) -> None:
    with gallery.reading() as transaction:
        require_encoder(transaction)


def test_templates_of_another_encoder_are_never_matched(path: Path) -> None:
    with Gallery.open(path, OTHER, SIZE, create=True) as former:
        former.enrol("ada", vectors())
    with Gallery.open(path, MINE, SIZE) as gallery:
        for refused_call in (
            lambda: gallery.template_cache("cosine", "best"),
            lambda: require(gallery),
            lambda: gallery.enrol("grace", vectors()),
            lambda: gallery.enrol("ada", vectors(), add=True),
        ):
            with raises(
                IntegrityError, match=r"1 person is enrolled .* another encoder", reason="gallery_of_other_fingerprint"
            ):
                refused_call()
        assert gallery.people() == []
    with Gallery.open(path, OTHER, SIZE) as former:
        assert matched(former) == ["ada"]


def test_another_encoder_begins_with_nobody_and_two_are_kept(path: Path) -> None:
    third = "c" * 64
    for fingerprint, name in ((OTHER, "ada"), (MINE, "ada"), (third, "grace")):
        with Gallery.open(path, fingerprint, SIZE, create=True) as gallery:
            with gallery.writing() as transaction:
                use_encoder(transaction)
            assert matched(gallery) == []
            assert gallery.enrol(name, vectors(2)).reason == "enrolled"
            assert (matched(gallery), gallery.people()[0].fingerprint) == ([name], fingerprint)
            assert gallery.check_audit().people == 1
    with tampering(path) as connection:
        kept = connection.execute("SELECT DISTINCT fingerprint FROM template ORDER BY 1").fetchall()
    assert kept == [(MINE,), (third,)]


# the file


def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        with Gallery.open(tmp_path / "g.db", MINE, SIZE, create=True):
            assert stat.S_IMODE((tmp_path / "g.db").stat().st_mode) == 0o600
    finally:
        os.umask(former)


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    Gallery.open(path, MINE, SIZE, create=True).close()
    path.chmod(0o644)
    Gallery.open(path, MINE, SIZE).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_changes_are_synced_journalled_and_wiped(gallery: Gallery, path: Path) -> None:
    journal = path.with_name(path.name + "-journal")
    names = ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "user_version")
    with gallery.writing() as transaction:
        transaction.execute("DELETE FROM photo")
        transaction.execute("UPDATE audit SET act = 'x'")
        assert stat.S_IMODE(journal.stat().st_mode) == 0o600
        found = {name: transaction.value(f"PRAGMA {name}") for name in names}
    assert found == {
        "journal_mode": "delete",
        "synchronous": 3,
        "secure_delete": 1,
        "foreign_keys": 1,
        "user_version": len(MIGRATIONS),
    }
    assert not journal.exists()


def test_a_gallery_that_somebody_turned_to_wal_is_turned_back(gallery: Gallery, path: Path) -> None:
    gallery.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal"
    connection.close()
    Gallery.open(path, MINE, SIZE).close()
    with tampering(path) as inside:
        assert inside.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


def test_a_gallery_of_the_first_version_is_opened_and_sealed(path: Path) -> None:
    path.write_bytes((MODELS / "gallery-v1.db").read_bytes())
    assert b"ada" in path.read_bytes()
    with Gallery.open(path, MINE, SIZE, create=True) as gallery:
        assert [(person.person, person.templates) for person in gallery.people()] == [("Zo\u00eb", 2), ("ada", 1)]
        found = {name: [np.frombuffer(row, np.float32).tolist() for row in rows] for name, rows in
                 _as_dictionary(gallery).items()}  # fmt: skip
        assert found == {"ada": [[0.5, -0.5, 0.5, -0.5]], "Zo\u00eb": [[1, 0, 0, 0], [0, 0, 0, -1]]}
        gallery.enrol("grace", vectors())
        assert gallery.check_audit().rows == 4
    content = path.read_bytes()
    assert b"ada" not in content
    assert np.array([0.5, -0.5, 0.5, -0.5], "<f4").tobytes() not in content
    with tampering(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)


def test_an_interrupted_creation_is_completed(path: Path) -> None:
    path.touch()
    with Gallery.open(path, MINE, SIZE, create=True) as gallery:
        gallery.enrol("ada", vectors())


def test_a_change_that_fails_midway_is_undone(gallery: Gallery) -> None:
    gallery.enrol("ada", vectors())

    def interrupted() -> None:
        with gallery.writing() as transaction:
            transaction.execute("DELETE FROM person")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(gallery) == ["ada"]
    assert matched(gallery) == ["ada"]


def test_a_full_disk_is_a_clear_error_and_changes_nothing(gallery: Gallery, path: Path) -> None:
    gallery.enrol("ada", vectors())
    with tampering(path) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    with gallery.reading() as transaction:
        transaction.execute(f"PRAGMA max_page_count = {pages}")
    contents = [path.read_bytes()]

    def fill() -> None:
        for index in itertools.count():
            gallery.enrol(f"person {index} {'x' * 100}", vectors(5))
            contents.append(path.read_bytes())

    with raises(MachineError, match="disk is full", reason="disk_full"):
        fill()
    assert path.read_bytes() == contents[-1]
    assert _integrity(path) == "ok"
    assert len(matched(gallery)) == len(names(gallery)) == len(contents)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder in which this process, if it is root, acts as nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            inner = folder / "state"
            inner.mkdir(mode=0o700)
            yield inner
            inner.chmod(0o700)
        finally:
            if root:
                os.seteuid(0)


def test_a_read_only_folder_is_a_clear_error_and_nothing_is_created(unprivileged: Path) -> None:
    unprivileged.chmod(0o500)
    with raises(MachineError, match="Permission denied", reason="cannot_write"):
        Gallery.open(unprivileged / "g.db", MINE, SIZE, create=True)
    assert list(unprivileged.iterdir()) == []


def test_a_read_only_gallery_is_still_matched_but_not_changed(unprivileged: Path) -> None:
    path, key = unprivileged / "g.db", KeySource(unprivileged / "key")
    create_key(unprivileged / "key")
    with Gallery.open(path, MINE, SIZE, key, create=True) as gallery:
        gallery.enrol("ada", vectors())
    before = path.read_bytes()
    path.chmod(0o400)
    unprivileged.chmod(0o500)
    with Gallery.open(path, MINE, SIZE, key) as gallery:
        assert matched(gallery) == ["ada"]
        for refused_call in (lambda: gallery.enrol("grace", vectors()), lambda: gallery.forget("ada")):
            with raises(MachineError, match="nothing was changed", reason="cannot_write"):
                refused_call()
    assert path.read_bytes() == before


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with raises(MachineError, match="No such file or directory", reason="cannot_write"):
        Gallery.open(tmp_path / "absent" / "g.db", MINE, SIZE, create=True)


# damage


def test_a_file_that_is_no_database_is_refused_and_stays_as_it_is(path: Path) -> None:
    content = b"these are my notes\n" * 400
    path.write_bytes(content)
    with raises(IntegrityError, match="not a database", reason="gallery_corrupt"):
        Gallery.open(path, MINE, SIZE, create=True)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused_and_stays_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE person (id)")
    connection.close()
    path.chmod(0o644)
    before = path.read_bytes()
    with raises(IntegrityError, match="of another program", reason="gallery_corrupt"):
        Gallery.open(path, MINE, SIZE, create=True)
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_gallery_of_a_newer_version_is_refused_and_stays_as_it_is(gallery: Gallery, path: Path) -> None:
    execute(gallery, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    gallery.close()
    before = path.read_bytes()
    with raises(IntegrityError, match=r"has version 4.*update", reason="gallery_newer"):
        Gallery.open(path, MINE, SIZE)
    assert path.read_bytes() == before


def test_a_gallery_with_any_page_overwritten_is_refused(path: Path) -> None:
    with Gallery.open(path, MINE, SIZE, create=True) as gallery:
        for index in range(120):
            gallery.enrol(f"person {index}", vectors(seed=index))
        expected = _as_dictionary(gallery)
    content = path.read_bytes()
    faults = []
    for start in range(0, len(content), 4096):
        path.write_bytes(content[:start] + b"\xa5" * 4096 + content[start + 4096 :])
        try:
            with Gallery.open(path, MINE, SIZE) as damaged:
                assert _as_dictionary(damaged) == expected
        except IntegrityError as error:
            faults.append(error)
    assert len(faults) == len(content) // 4096
    assert {fault.reason for fault in faults} == {"gallery_corrupt"}
    assert not any("\n" in str(fault) for fault in faults)


def test_a_gallery_cut_short_is_refused(path: Path) -> None:
    with Gallery.open(path, MINE, SIZE, create=True) as gallery:
        for index in range(100):
            gallery.enrol(f"person {index}", vectors())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with raises(IntegrityError, reason="gallery_corrupt"):
        Gallery.open(path, MINE, SIZE)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        bytes(4 * SIZE - 1),
        bytes(4 * SIZE + 4),
        np.array([0, np.nan, 0, 0], "<f4").tobytes(),
        np.array([0, 0, 0, -np.inf], "<f4").tobytes(),
    ],
    ids=["empty", "short", "long", "nan", "infinite"],
)
def test_a_template_that_cannot_be_one_is_refused_with_the_persons_name(gallery: Gallery, blob: bytes) -> None:
    gallery.enrol("ada", vectors())
    gallery.enrol("grace", vectors())
    number = gallery.number_of("grace")
    assert number is not None
    sealed = Vault(read_key(find_key())).seal(blob, "template", number, MINE)
    change = "UPDATE template SET sealed = ? WHERE person = ?"
    with gallery.writing() as transaction:
        transaction.execute(change, (sealed, number))
    with Gallery.open(gallery.path, MINE, SIZE) as again, pytest.raises(IntegrityError, match="grace has a") as refused:
        again.template_cache("cosine", "best")
    assert refused.value.reason == "gallery_corrupt"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE template SET sealed = zeroblob(40)",
        "UPDATE person SET record = zeroblob(60)",
        "UPDATE template SET person = (SELECT number FROM person WHERE number != template.person)",
        "UPDATE person SET number = number + 1; UPDATE template SET person = person + 1",
    ],
)
def test_rows_that_were_changed_or_moved_are_refused(gallery: Gallery, path: Path, change: str) -> None:
    gallery.enrol("ada", vectors())
    gallery.enrol("grace", vectors())
    with tampering(path) as connection:
        connection.executescript(change)
    with Gallery.open(path, MINE, SIZE) as again, pytest.raises(IntegrityError) as refused:
        again.template_cache("cosine", "best")
    assert refused.value.reason == "gallery_corrupt"


@pytest.mark.parametrize("change", ["DELETE FROM template", "UPDATE person SET number = number + 1"])
def test_people_who_vanished_are_not_matched_and_the_record_misses_them(gallery, path, change):
    gallery.enrol("ada", vectors())
    with tampering(path) as connection:
        connection.execute(change)
    with Gallery.open(path, MINE, SIZE) as again:
        assert matched(again) == []
        with raises(IntegrityError, reason="audit_altered"):
            again.check_audit()


# power

_ENROLLING = """
import sys, numpy as np
from edge_oneshot_device.gallery.gallery import Gallery
with Gallery.open(sys.argv[1], "a" * 64, 4, create=True) as gallery:
    for index in range(100_000):
        gallery.enrol(f"{sys.argv[2]}-{index}", np.full((2, 4), index, np.float32))
        print(f"{sys.argv[2]}-{index}", flush=True)
"""


def test_whoever_was_acknowledged_survives_kill_9(path: Path) -> None:
    rng = random.Random(3)
    acknowledged: list[str] = []
    for attempt in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _ENROLLING, str(path), str(attempt)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            acknowledged.append(process.stdout.readline().strip())
            time.sleep(rng.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split()
        assert process.returncode == -signal.SIGKILL
        with Gallery.open(path, MINE, SIZE) as gallery:
            found = matched(gallery)
            assert set(acknowledged) <= set(found)
            # at most the one that was being enrolled when each kill came
            assert len(found) <= len(acknowledged) + attempt + 1
            assert gallery.check_audit().people == len(found)
            assert {person.templates for person in gallery.people()} == {2}
        assert _integrity(path) == "ok"
    assert len(acknowledged) > 5


_COUNTING = """
import json, sys, numpy as np
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.gallery.gallery import Gallery
told = {}
with Gallery.open(sys.argv[1], "a" * 64, 4) as gallery:
    for name in ("ada", "alan", "grace"):
        try:
            told[name] = gallery.enrol(name, np.ones((1, 4), np.float32)).reason
        except MachineError as error:
            told[name] = error.reason
    there = [person.person for person in gallery.people()]
print(json.dumps([told, there]))
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which makes a system call fail, is not installed")
def test_a_disk_that_fails_to_sync_is_told_and_changes_nothing(path: Path, tmp_path: Path) -> None:
    Gallery.open(path, MINE, SIZE, create=True).close()
    created, log = path.read_bytes(), tmp_path / "log"
    seen = set()
    for call in range(1, 6):
        path.write_bytes(created)
        inject = f"inject=fdatasync:error=EIO:when={call}"
        done = subprocess.run(
            ["strace", "-f", "-o", log, "-e", "trace=fdatasync", "-e", inject, sys.executable, "-c", _COUNTING, path],
            capture_output=True,
            text=True,
            check=False,
        )
        if "ptrace" in done.stderr and "not permitted" in done.stderr:
            pytest.skip("strace may not trace here")
        assert "INJECTED" in log.read_text()
        told, there = json.loads(done.stdout)
        seen |= set(told.values())
        for name, reason in told.items():
            # not_confirmed: the very last step, after which there is no way back
            assert (name in there) == (reason in ("enrolled", "not_confirmed"))
        assert _integrity(path) == "ok"
    assert seen == {"enrolled", "gallery_failed", "not_confirmed"}


def _integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


# used as it cannot be


def test_use_after_closing_or_in_another_thread_is_told(gallery: Gallery) -> None:
    told: list[InputError] = []

    def elsewhere() -> None:
        for use in (gallery.people, lambda: gallery.forget("ada"), lambda: list(gallery.rows()), gallery.close):
            try:
                use()
            except InputError as error:
                told.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert [error.reason for error in told] == ["wrong_thread"] * 4
    assert "open one in each thread that needs it" in str(told[0])
    assert gallery.people() == []
    gallery.close()
    gallery.close()
    for use in (gallery.people, lambda: gallery.forget("ada"), gallery.check_audit):
        with raises(InputError, match="was closed: open it again", reason="gallery_closed"):
            use()


def test_a_journal_that_another_process_has_just_begun_is_no_foreign_one(path: Path) -> None:
    journal = path.with_name(path.name + "-journal")
    begun = bytes.fromhex("d9d505f920a163d7")  # a journal begins with what one that names a file ends with
    for content in (b"", begun):
        journal.write_bytes(content)
        require_plain_journal(path)
    journal.write_bytes(bytes(100) + begun)
    with pytest.raises(IntegrityError, match="was not written by this program"):
        require_plain_journal(path)
