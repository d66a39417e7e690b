import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge_oneshot_device import cli
from edge_oneshot_device.errors import InputError, IntegrityError
from edge_oneshot_device.gallery import audit, audit_trail
from edge_oneshot_device.gallery.access import ALWAYS, Access
from edge_oneshot_device.gallery.audit import Head, Row, parse_head
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.transaction import Transaction
from edge_oneshot_device.installation import installer
from tests.raising import raises
from tests.samples.galleries import MINE, SIZE, Machine, names, tampering, vectors

ACTS = ["created", "enrolled", "enrolled", "added", "access", "enrolled", "forgotten", "replaced"]


def fill(gallery: Gallery) -> None:
    """The acts of `ACTS`, after ``created``; ada has 3 templates then, grace 2, alan is forgotten."""
    gallery.enrol("ada", vectors(2))
    gallery.enrol("grace", vectors())
    gallery.enrol("ada", vectors(), add=True)
    gallery.set_access("grace", Access(hours="mon 07:00-19:00"))
    gallery.enrol("alan", vectors())
    gallery.forget("alan")
    gallery.enrol("grace", vectors(2), replace=True)


def assert_altered(path: Path, key: KeySource, said: str = "altered") -> None:
    with Gallery.open(path, MINE, SIZE, key) as again, pytest.raises(IntegrityError, match=said) as refused:
        again.check_audit()
    assert refused.value.reason == "audit_altered"


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    create_key(folder / "key")
    with Gallery.open(folder / "gallery.db", MINE, SIZE, KeySource(folder / "key"), create=True) as opened:
        fill(opened)
    return folder


@pytest.fixture
def written(written_once: Path, tmp_path: Path, key: KeySource) -> Path:
    """A gallery with the acts of `ACTS`, closed; sealed with `key`."""
    assert key.path is not None
    key.path.write_bytes((written_once / "key").read_bytes())
    return Path(shutil.copy(written_once / "gallery.db", tmp_path))


def test_every_act_is_a_row_and_no_row_has_a_name(gallery: Gallery) -> None:
    fill(gallery)
    report = gallery.check_audit()
    assert (report.rows, report.first, report.people) == (8, 1, 2)
    assert report.since == "2026-01-05T12:00:00.000Z"
    rows = list(gallery.rows())
    assert [row.act for row in rows] == ACTS
    assert [row.seq for row in rows] == list(range(1, 9))
    assert report.head == Head(8, rows[-1].mac.hex()) == audit_trail.head(gallery)
    numbers = {row.person for row in rows}
    assert len(numbers) == 4  # None, ada, grace, alan
    for row in rows:
        assert not any(name in row.detail for name in ("ada", "grace", "alan"))


def test_entries_have_the_names_that_are_still_known(gallery: Gallery) -> None:
    fill(gallery)
    entries = list(audit_trail.entries(gallery))
    assert [entry.person for entry in entries] == [None, "ada", "grace", "ada", "grace", None, None, "grace"]
    assert entries[5].number == entries[6].number is not None
    assert entries[4].detail == {"valid_from": None, "valid_until": None, "hours": "mon 07:00-19:00"}
    assert [entry.seq for entry in audit_trail.last(gallery, 3)] == [6, 7, 8]
    assert [entry.seq for entry in audit_trail.last(gallery, 100)] == list(range(1, 9))


ALTERED = {
    "at": "at + 1",
    "act": "act || 's'",
    "person": "CASE WHEN person IS NULL THEN 1 ELSE NULL END",
    "detail": "detail || ' '",
    "mac": "zeroblob(32)",
}


@pytest.mark.parametrize("column", ALTERED)
@pytest.mark.parametrize("row", range(1, 9))
def test_a_changed_column_of_any_row_is_found_and_the_row_named(written, key, column, row):
    with tampering(written) as connection:
        connection.execute(f"UPDATE audit SET {column} = {ALTERED[column]} WHERE seq = ?", (row,))
    assert_altered(written, key, f"row {row} is not as it was written")


@pytest.mark.parametrize("row", range(1, 8))
def test_a_removed_row_is_found_and_named(written: Path, key: KeySource, row: int) -> None:
    with tampering(written) as connection:
        connection.execute("DELETE FROM audit WHERE seq = ?", (row,))
    assert_altered(written, key, f"row {row} is missing")


@pytest.mark.parametrize(
    "forgery",
    [
        # the gap is closed up
        "DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = seq - 1 WHERE seq > 4",
        "DELETE FROM audit WHERE seq = 1; UPDATE audit SET seq = seq - 1",
        "DELETE FROM audit",
        # two rows change places, whole, or all but their digests
        "UPDATE audit SET seq = -seq WHERE seq IN (6, 7); UPDATE audit SET seq = 13 + seq WHERE seq < 0",
        """CREATE TEMP TABLE copy AS SELECT * FROM audit;
           UPDATE audit SET (at, act, person, detail) =
             (SELECT at, act, person, detail FROM copy WHERE copy.seq = 9 - audit.seq) WHERE seq IN (4, 5)""",
        # a copy of a row goes in between, or at the end
        """UPDATE audit SET seq = -seq - 1 WHERE seq > 4; UPDATE audit SET seq = -seq WHERE seq < 0;
           INSERT INTO audit SELECT 5, at, act, person, detail, mac FROM audit WHERE seq = 4""",
        "INSERT INTO audit SELECT 9, at, act, person, detail, mac FROM audit WHERE seq = 8",
        "INSERT INTO audit SELECT 9, at, 'identify', person, '{}', randomblob(32) FROM audit WHERE seq = 8",
        "INSERT INTO audit SELECT 0, at, act, person, detail, mac FROM audit WHERE seq = 1",
        "INSERT INTO audit SELECT 10, at, act, person, detail, mac FROM audit WHERE seq = 8",
        # a checkpoint that nobody made excuses what is missing
        """INSERT INTO audit SELECT 9, at, 'checkpoint', NULL,
             '{"through":3,"mac":"' || (SELECT lower(hex(mac)) FROM audit WHERE seq = 3) || '"}', randomblob(32)
             FROM audit WHERE seq = 8;
           DELETE FROM audit WHERE seq < 4""",
        """UPDATE audit SET act = 'checkpoint', detail = '{"through":1e999,"mac":[]}' WHERE seq = 8;
           DELETE FROM audit WHERE seq = 1""",
        """UPDATE audit SET act = 'checkpoint', detail = '[' WHERE seq = 8; DELETE FROM audit WHERE seq = 1""",
    ],
)
def test_rows_moved_inserted_and_excused_are_found(written: Path, key: KeySource, forgery: str) -> None:
    with tampering(written) as connection:
        connection.executescript(forgery)
    assert_altered(written, key)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM person WHERE number = (SELECT number FROM person LIMIT 1)",
        "DELETE FROM template WHERE id = 1",
        "INSERT INTO template (person, fingerprint, sealed) SELECT person, fingerprint, sealed FROM template LIMIT 1",
        "UPDATE template SET person = (SELECT person FROM template ORDER BY id DESC LIMIT 1) WHERE id = 1",
        """INSERT INTO person SELECT 7, zeroblob(32), record FROM person LIMIT 1;
           INSERT INTO template (person, fingerprint, sealed) SELECT 7, fingerprint, sealed FROM template LIMIT 1""",
        """INSERT INTO encoder SELECT 9, 'another';
           UPDATE template SET fingerprint = 'another' WHERE id = 1""",
    ],
)
def test_people_who_are_not_those_of_the_record_are_found(written: Path, key: KeySource, change: str) -> None:
    with tampering(written) as connection:
        connection.executescript("PRAGMA foreign_keys = ON;" + change)
    assert_altered(written, key, r"people in .* were altered: number [0-9a-f]{16}")


def test_somebody_forgotten_who_is_put_back_is_found(written: Path, key: KeySource) -> None:
    with Gallery.open(written, MINE, SIZE, key) as opened:
        with tampering(written) as connection:
            people = connection.execute("SELECT * FROM person").fetchall()
            templates = connection.execute("SELECT person, fingerprint, sealed FROM template").fetchall()
        opened.forget("grace")
    with tampering(written) as connection:
        connection.executemany("INSERT OR IGNORE INTO person VALUES (?, ?, ?)", people)
        connection.executemany("INSERT INTO template (person, fingerprint, sealed) VALUES (?, ?, ?)", templates[-2:])
    with Gallery.open(written, MINE, SIZE, key) as again:
        assert names(again) == ["ada", "grace"]
        with pytest.raises(IntegrityError, match="was enrolled without a row of the audit trail"):
            again.check_audit()


def test_the_record_of_another_gallery_with_the_same_key_is_refused(written, tmp_path, key):
    with Gallery.open(tmp_path / "other.db", MINE, SIZE, key, create=True) as other:
        fill(other)
    with tampering(written) as connection:
        connection.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        connection.execute("DELETE FROM audit WHERE seq > 5")
        connection.execute("INSERT INTO audit SELECT * FROM other.audit WHERE seq > 5")
    assert_altered(written, key, "row 6 is not as it was written")


# the end, against a head that was kept elsewhere


def test_a_cut_end_shows_against_a_head_that_was_kept(written: Path, key: KeySource) -> None:
    with Gallery.open(written, MINE, SIZE, key) as opened:
        opened.set_access("ada", ALWAYS)
        head = audit_trail.head(opened)
        assert opened.check_audit(head).head == head
    with tampering(written) as connection:
        connection.execute("DELETE FROM audit WHERE seq = 9")
    with Gallery.open(written, MINE, SIZE, key) as again:
        assert again.check_audit().rows == 8  # the chain alone cannot tell
        with raises(IntegrityError, match="its end was cut off, or the file is an older copy", reason="audit_cut"):
            again.check_audit(head)
        # and neither can whoever cut it fill it up again
        again.set_access("ada", Access(hours="sun 00:00-24:00"))
        with raises(IntegrityError, reason="audit_cut"):
            again.check_audit(head)


def test_an_older_copy_of_the_whole_file_shows_against_a_newer_head_and_not_against_an_older(written, key):
    former = written.read_bytes()
    with Gallery.open(written, MINE, SIZE, key) as opened:
        older = audit_trail.head(opened)
        opened.forget("ada")
        newer = audit_trail.head(opened)
        assert opened.check_audit(older).head == newer
    written.write_bytes(former)
    with Gallery.open(written, MINE, SIZE, key) as again:
        assert again.check_audit(older).people == 2
        with pytest.raises(IntegrityError) as refused:
            again.check_audit(newer)
    assert refused.value.reason == "audit_cut"


def test_a_head_is_printed_and_read_again() -> None:
    head = Head(17, "ab" * 32)
    assert str(head) == "17:" + "ab" * 32
    assert parse_head(f" {head}\n") == head
    assert parse_head("17:" + "AB" * 32) == head


@pytest.mark.parametrize(
    "text",
    ["", "17", "17:", *(f"17:{digest}" for digest in ("ab" * 31, "ab" * 33, "zz" * 32))]
    + [f"{number}:{'ab' * 32}" for number in ("", "0", "-1", "x", "1e3")],
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with raises(InputError, match="give what audit --head printed", reason="bad_head"):
        parse_head(text)


# retention


def test_old_rows_are_let_go_of_twice_and_what_is_left_holds(gallery: Gallery, machine: Machine) -> None:
    fill(gallery)
    machine.now += timedelta(days=10)
    gallery.set_access("ada", ALWAYS)
    old = audit_trail.head(gallery)
    machine.now += timedelta(days=10)
    pruned = audit_trail.prune(gallery, days=15)
    assert (pruned.rows, pruned.head) == (8, str(audit_trail.head(gallery)))
    assert [row.act for row in gallery.rows()] == ["access", "checkpoint"]
    report = gallery.check_audit(old)
    assert (report.rows, report.first, report.people, report.since) == (2, 9, 2, "2026-01-15T12:00:00.000Z")
    assert audit_trail.prune(gallery, days=15).rows == 0
    assert gallery.check_audit().rows == 2  # nothing was old, so there is no further checkpoint
    machine.now += timedelta(days=1)
    gallery.forget("ada")
    assert audit_trail.prune(gallery, days=5).rows == 1
    assert [row.act for row in gallery.rows()] == ["checkpoint", "forgotten", "checkpoint"]
    report = gallery.check_audit()
    assert (report.first, report.people) == (10, 1)
    with raises(InputError, match="the head 9 is older than the first row that is kept, 10", reason="head_too_old"):
        gallery.check_audit(old)


def test_a_record_that_is_old_as_a_whole_is_let_go_of_as_a_whole(gallery: Gallery, machine: Machine) -> None:
    fill(gallery)
    machine.now += timedelta(days=40)
    assert audit_trail.prune(gallery, days=30).rows == 8
    assert [row.act for row in gallery.rows()] == ["checkpoint"]
    assert gallery.check_audit().people == 2


@pytest.mark.parametrize(
    "forgery",
    [
        "DELETE FROM audit WHERE seq = 9",
        "UPDATE audit SET at = at + 1 WHERE seq = 9",
        "DELETE FROM audit WHERE seq = 10",
        """UPDATE audit SET detail = replace(detail, '"through":8', '"through":9') WHERE seq = 10;
           DELETE FROM audit WHERE seq = 9""",
        'UPDATE audit SET detail = replace(detail, \'"mac":"\', \'"mac":"00\') WHERE seq = 10',
        "INSERT INTO audit SELECT 8, at, act, person, detail, mac FROM audit WHERE seq = 9",
        "DELETE FROM audit WHERE seq < 10",
    ],
)
def test_what_is_altered_after_older_rows_were_let_go_of_is_found(gallery, machine, key, forgery):
    fill(gallery)
    machine.now += timedelta(days=10)
    gallery.set_access("ada", ALWAYS)
    assert audit_trail.prune(gallery, days=5).rows == 8
    gallery.set_access("grace", ALWAYS)
    with tampering(gallery.path) as connection:
        connection.executescript(forgery)
    assert_altered(gallery.path, key)


def test_rows_let_go_of_before_and_after_a_new_key_leave_a_record_that_holds(gallery, machine, key):
    fill(gallery)
    for _ in range(2):
        machine.now += timedelta(days=10)
        rotate_key(gallery)
        gallery.set_access("ada", ALWAYS)
    assert [row.act for row in gallery.rows()][8:] == ["key_rotated", "access"] * 2
    assert gallery.check_audit().rows == 12
    for days, first in ((15, 9), (5, 11)):
        audit_trail.prune(gallery, days=days)
        assert gallery.check_audit().first == first
        with Gallery.open(gallery.path, MINE, SIZE, key, machine.clock()) as again:
            assert again.check_audit().first == first
    with tampering(gallery.path) as connection:
        connection.execute("UPDATE audit SET at = at + 1 WHERE seq = 11")
    with pytest.raises(IntegrityError, match="row 11 is not as it was written"):
        gallery.check_audit()


@pytest.mark.parametrize("days", [0, -1, 999_999_999])
def test_an_age_that_is_none_is_refused(gallery: Gallery, days: int) -> None:
    with raises(InputError, reason="bad_age"):
        audit_trail.prune(gallery, days)


def test_dates_of_the_record_never_run_backwards(gallery: Gallery, machine: Machine) -> None:
    gallery.enrol("ada", vectors())
    machine.now -= timedelta(days=3)
    gallery.set_access("ada", ALWAYS)
    gallery.set_access("ada", ALWAYS)
    assert {row.at for row in gallery.rows()} == {int(datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp() * 1e6)}
    assert gallery.check_audit().rows == 4


# many rows, and others at work


def test_a_record_of_several_chunks_is_walked_whole(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHUNK", 3)
    fill(gallery)
    assert gallery.check_audit().rows == 8
    assert [row.seq for row in gallery.rows(after=2)] == [3, 4, 5, 6, 7, 8]
    gallery.set_access("ada", ALWAYS)  # a multiple of the chunk
    assert gallery.check_audit().rows == 9
    assert [row.seq for row in gallery.rows()] == list(range(1, 10))


@pytest.mark.parametrize("act", ["prune", "rotate", "enrol"])
def test_what_another_process_does_meanwhile_is_no_alteration(gallery, machine, key, monkeypatch, act):
    fill(gallery)
    machine.now += timedelta(days=10)
    gallery.set_access("ada", ALWAYS)
    walked = audit.chunk_after
    done = []

    with Gallery.open(gallery.path, MINE, SIZE, key, machine.clock()) as other:

        def meanwhile(transaction: Transaction, after: int) -> list[Row]:
            found = walked(transaction, after)
            transaction.execute("ROLLBACK")  # as between two chunks
            if not done:
                done.append(act)
                {
                    "prune": lambda: audit_trail.prune(other, days=5),
                    "rotate": lambda: rotate_key(other),
                    "enrol": lambda: other.enrol("edsger", vectors()),
                }[act]()
            transaction.execute("BEGIN")
            return found

        monkeypatch.setattr(audit, "CHUNK", 2)
        monkeypatch.setattr(audit, "chunk_after", meanwhile)
        assert gallery.check_audit().people == (3 if act == "enrol" else 2)
        assert done == [act]


def test_a_row_that_nobody_can_read_is_an_altered_record_and_no_bug(written: Path, key: KeySource) -> None:
    for change in ("detail = '{'", "detail = '[]'", "at = 9223372036854775807"):
        content = written.read_bytes()
        with tampering(written) as connection:
            connection.execute(f"UPDATE audit SET {change} WHERE seq = 3")
        with Gallery.open(written, MINE, SIZE, key) as again, pytest.raises(IntegrityError) as refused:
            list(audit_trail.entries(again))
        assert refused.value.reason == "audit_altered"
        written.write_bytes(content)


def test_rows_come_as_json_that_gives_the_digests_again(gallery: Gallery) -> None:
    fill(gallery)
    lines = [msgspec.json.encode(entry) for entry in audit_trail.entries(gallery)]
    read = [msgspec.json.decode(line) for line in lines]
    assert [line["act"] for line in read] == ACTS
    assert read[-1]["mac"] == audit_trail.head(gallery).mac
    assert list(read[0]) == ["seq", "at", "act", "person", "number", "detail", "mac"]


def test_commands_show_check_and_prune_the_record(make_bundle, tmp_path, capfd):
    state = tmp_path / "state"
    installer.install(make_bundle(), state)

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        capfd.readouterr()
        assert cli.main(["audit", *arguments, "--state", str(state)]) == code
        return capfd.readouterr()

    rows = run()[0].splitlines()
    assert [row.split()[0] for row in rows] == ["seq", "1", "2"]
    assert [row.split()[2] for row in rows] == ["act", "created", "installed"]
    assert len(run("--last", "1")[0].splitlines()) == 2
    head = run("--head")[0].strip()
    assert head.startswith("2:")
    assert run("--check")[0].endswith(f", 0 enrolled\n{head}\n")
    assert run("--check", "--against", head)[0].startswith("the audit trail is intact: 2 rows since ")
    lines = [json.loads(line) for line in run("--export")[0].splitlines()]
    assert [line["act"] for line in lines] == ["created", "installed"]
    assert f"{lines[-1]['seq']}:{lines[-1]['mac']}" == head
    assert run("--keep-days", "1")[0] == f"deleted 0 rows; head {head}\n"
    assert run("--against", head, code=2)[1].startswith("--against needs --check")
    for wrong in (["--check", "--against", "2"], ["--keep-days", "0"], ["--check", "--head"], ["--last", "few"]):
        run(*wrong, code=2)
    assert run("--check", "--against", "3:" + "00" * 32, "--json", code=3)[1].endswith('"reason":"audit_cut"}\n')
    with tampering(state / "gallery.db") as connection:
        connection.execute("UPDATE audit SET detail = '{' WHERE seq = 1")
    for command in (["--check"], [], ["--export"]):
        printed = run(*command, "--json", code=3)
        assert json.loads(printed[1])["reason"] == "audit_altered"
