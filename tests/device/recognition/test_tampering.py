"""What somebody may do who can write the gallery's file, or into its folder, and has no key."""

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import database, transfer
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.migrations import MIGRATIONS
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.recognition import enrolment, recognizer
from tests.raising import raises
from tests.samples.galleries import said, tampering
from tests.samples.tiny import MakeBundle, People

Run = Callable[..., dict[str, Any]]

SWALLOW = "CREATE TRIGGER x BEFORE INSERT ON {} BEGIN SELECT RAISE(IGNORE); END;"
KEEP = """CREATE TABLE kept (number, record, sealed);
          CREATE TRIGGER x BEFORE DELETE ON person BEGIN
            INSERT INTO kept SELECT number, record, sealed FROM person JOIN template ON person = number
              WHERE number = OLD.number; END;"""
PROGRAMS = {
    "decisions leave no row": SWALLOW.format("audit"),
    "nothing counts": SWALLOW.format("attempts") + SWALLOW.format("rejection").replace("x", "y", 1),
    "forget does nothing": "CREATE TRIGGER x BEFORE DELETE ON person BEGIN SELECT RAISE(IGNORE); END;",
    "who is forgotten is kept": KEEP,
    "a view": "CREATE VIEW x AS SELECT * FROM person",
    "another table": "CREATE TABLE x (y)",
    "another index": "CREATE INDEX x ON audit (abs(seq)) WHERE person IS NULL",
    "a table fewer": "DROP TABLE photo",
    "an index fewer": "DROP INDEX template_person",
    "another column": "ALTER TABLE rejection ADD COLUMN x INTEGER GENERATED ALWAYS AS (id + 1) VIRTUAL",
    "statistics": "ANALYZE",
    "a virtual table": "CREATE VIRTUAL TABLE x USING fts5 (y)",
}


@pytest.fixture
def state(make_bundle: MakeBundle, people: People, tmp_path: Path) -> Path:
    """A state folder with ada, alan and grace enrolled, and an image of each beside it."""
    folder = tmp_path / "state"
    install(make_bundle(variants=("int8",), counts=(1, 3)), folder, InstallOptions(target_far=0.05))
    with Recognizer.open(folder) as door:
        for name in ("ada", "alan", "grace"):
            door.enrol(name, people[name][0])
    for name in ("ada", "alan", "grace", "stranger"):
        (tmp_path / f"{name}.png").write_bytes(people[name][1])
    return folder


@pytest.fixture
def door(state: Path) -> Iterator[Recognizer]:
    """The door, running."""
    with Recognizer.open(state) as opened:
        yield opened


@pytest.fixture
def run(state: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns its exit code, what it printed, and its error's reason."""

    def call(*argv: object) -> dict[str, Any]:
        capfd.readouterr()
        code = cli.main([*map(str, argv), "--state", str(state), "--json"])
        out, err = capfd.readouterr()
        return {"code": code, "out": out, "reason": json.loads(err)["reason"] if err else None, "err": err}

    return call


def tamper(state: Path, script: str) -> None:
    with tampering(state / "gallery.db") as connection:
        run_script(connection, script)


def run_script(connection: sqlite3.Connection, script: str) -> None:
    # TensorFlow brings a SQLite of its own, which takes this one's place where it was loaded before
    if "fts5" in script and ("fts5",) not in connection.execute("PRAGMA module_list").fetchall():
        pytest.skip("the SQLite of this process has no fts5")
    connection.executescript(script)


# programs in the file


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_gallery_with_somebody_elses_program_in_it_is_refused_by_every_command(state, run, tmp_path, what):
    tamper(state, PROGRAMS[what])
    before = (state / "gallery.db").read_bytes()
    for command in (
        ["identify", tmp_path / "ada.png"],
        ["verify", "ada", tmp_path / "ada.png"],
        ["forget", "ada"],
        ["people"],
        ["audit", "--check"],
        ["backup", tmp_path / "copy"],
        ["rotate-key"],
        ["init", tmp_path / "tiny.oneshot"],
    ):
        done = run(*command)
        assert (done["code"], done["reason"], done["out"]) == (3, "gallery_altered", ""), command
    examined = run("doctor")
    assert examined["code"] == 3
    assert "gallery_altered" in examined["out"]
    assert (state / "gallery.db").read_bytes() == before
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_program_that_is_put_there_while_the_door_runs_lets_nobody_in(state, door, people, what):
    assert door.identify(people["ada"][1]).accepted
    tamper(state, PROGRAMS[what])
    for attempt in (
        lambda: door.identify(people["ada"][1]),
        lambda: door.verify("ada", people["ada"][1]),
        lambda: door.forget("ada"),
        lambda: door.enrol("mallory", people["stranger"][0]),
        lambda: door.gallery.check_audit(),
    ):
        with raises(IntegrityError, reason="gallery_altered"):
            attempt()


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_program_in_a_backup_is_not_restored(state: Path, run: Run, tmp_path: Path, what: str) -> None:
    assert run("backup", tmp_path / "copy")["code"] == 0
    with tampering(tmp_path / "copy") as connection:
        run_script(connection, PROGRAMS[what])
    done = run("restore", tmp_path / "copy")
    assert (done["code"], done["reason"]) == (3, "gallery_altered")
    assert str(tmp_path / "copy") in done["err"]
    assert run("identify", tmp_path / "ada.png")["code"] == 0
    assert run("audit", "--check")["code"] == 0
    assert {path.name for path in state.iterdir()} == {"gallery.db", "reserve", "bundles"}


def test_a_schema_edited_without_its_version_is_refused_on_opening_and_unheard_of_in_a_running_door(
    state, door, run, people, tmp_path
):
    assert door.identify(people["ada"][1]).accepted
    text = "CREATE TRIGGER x BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END"
    with tampering(state / "gallery.db") as connection:
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES ('trigger', 'x', 'audit', 0, ?)", (text,))
        connection.execute(f"PRAGMA schema_version = {version}")
    rows = len(list(door.gallery.rows()))
    assert door.identify(people["ada"][1]).accepted
    assert len(list(door.gallery.rows())) == rows + 1
    assert run("identify", tmp_path / "ada.png")["reason"] == "gallery_altered"


@pytest.mark.parametrize(
    ("table", "how"),
    [
        ("audit", "INSERT"), ("attempts", "INSERT"), ("attempts", "UPDATE"), ("rejection", "INSERT"),
        ("person", "DELETE"), ("person", "INSERT"), ("template", "INSERT"), ("wipe", "INSERT"),
    ],
)  # fmt: skip
def test_a_write_that_does_not_land_undoes_the_whole_transaction(state, door, people, monkeypatch, table, how):
    if how == "UPDATE":
        door.verify("ada", people["grace"][1])
    # as if the comparison of the schema had not seen it, nor SQLite been told to run no trigger, as from Python 3.12 on
    if sys.version_info >= (3, 12):
        door.gallery._connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, True)
    monkeypatch.setattr(
        database, "_check_schema", lambda connection: connection.execute("PRAGMA user_version").fetchone()
    )
    tamper(state, SWALLOW.format(table).replace("INSERT", how))
    before = (state / "gallery.db").read_bytes()
    for attempt, concerned in (
        (lambda: door.identify(people["ada"][1]), {"audit"}),
        (lambda: door.identify(people["stranger"][0]), {"audit", "rejection"}),
        (lambda: door.verify("ada", people["grace"][1]), {"audit", "attempts"}),
        (lambda: door.forget("ada"), {"audit", "person DELETE", "wipe"}),
        (lambda: door.enrol("mallory", people["stranger"][0]), {"audit", "person INSERT", "template"}),
    ):
        if concerned & {table, f"{table} {how}"}:
            with raises(IntegrityError, match="changed 0 rows, not 1", reason="gallery_altered"):
                attempt()
            assert (state / "gallery.db").read_bytes() == before


# another file in the gallery's place


def test_a_gallery_that_was_never_sealed_lets_nobody_in_until_init_takes_it_over(state, run, tmp_path):
    with Recognizer.open(state) as door:
        own = np.ones(door.gallery.size, np.float32)
        fingerprint = door.gallery.fingerprint
    path = state / "gallery.db"
    path.unlink()
    with tampering(path) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO person VALUES (1, 'mallory', '2026-01-01T00:00:00Z', ?)", (fingerprint,))
        connection.execute("INSERT INTO template (person, embedding) VALUES (1, ?)", (own.tobytes(),))
        connection.execute("PRAGMA user_version = 1")
    before = path.read_bytes()
    for command in (["people"], ["identify", tmp_path / "ada.png"], ["audit"], ["backup", tmp_path / "copy"]):
        done = run(*command)
        assert (done["code"], done["reason"]) == (3, "gallery_unsealed")
    assert "gallery_unsealed" in run("doctor")["out"]
    assert path.read_bytes() == before
    done = run("init", tmp_path / "tiny.oneshot")
    assert (done["code"], done["reason"]) == (3, "gallery_unsealed")
    assert path.read_bytes() == before
    done = run("init", tmp_path / "tiny.oneshot", "--take-over")
    assert (done["code"], json.loads(done["out"])["taken_over"]) == (0, 1)
    assert b"mallory" not in path.read_bytes()
    assert [person["person"] for person in json.loads(run("people")["out"])] == ["mallory"]
    assert json.loads(run("init", tmp_path / "tiny.oneshot")["out"])["taken_over"] == 0


@pytest.mark.parametrize("how", ["removed", "emptied", "no tables"])
def test_a_gallery_that_is_gone_is_no_new_one_until_init_is_told_so(state, run, tmp_path, how):
    path = state / "gallery.db"
    path.unlink()
    if how == "emptied":
        path.touch()
    if how == "no tables":
        with tampering(path) as connection:
            connection.executescript("CREATE TABLE x (y); DROP TABLE x;")
    for command in (["people"], ["identify", tmp_path / "ada.png"], ["audit"], ["audit", "--check"], ["rollback"]):
        done = run(*command)
        if command != ["rollback"]:
            assert (done["code"], done["reason"]) == (3, "gallery_missing")
            assert "run init" in done["err"]
    assert "gallery_missing" in run("doctor")["out"]
    assert path.exists() == (how != "removed")
    done = run("init", tmp_path / "tiny.oneshot")  # an upgrade, by somebody who does not know
    assert (done["code"], done["reason"]) == (3, "gallery_missing")
    assert run("init", tmp_path / "tiny.oneshot", "--empty")["code"] == 0
    assert json.loads(run("people")["out"]) == []


def test_a_running_door_whose_gallery_is_emptied_lets_nobody_in(state: Path, door: Recognizer, people: People) -> None:
    assert door.identify(people["ada"][1]).accepted
    with tampering(state / "gallery.db") as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DROP TABLE {name}")
        connection.executescript("PRAGMA user_version = 0; PRAGMA application_id = 0")
    with raises(IntegrityError, reason="gallery_missing"):
        door.identify(people["ada"][1])


def test_a_running_door_whose_gallery_was_moved_away_lets_nobody_in(state, door, people):
    assert door.identify(people["ada"][1]).accepted
    (state / "gallery.db").rename(state / "elsewhere.db")
    assert said(door.identify(people["ada"][1])) == (None, False, "audit_unavailable")


# links


@pytest.mark.parametrize("name", ["gallery.db", "reserve"])
@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_a_link_in_the_place_of_a_file_is_refused_and_what_it_leads_to_stays(state, run, tmp_path, name, kind):
    place, target = state / name, tmp_path / "precious"
    place.unlink()
    if kind == "link":
        target.write_bytes(b"")
        target.chmod(0o644)
    if kind in ("link", "dangling"):
        place.symlink_to(target)
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    for command in (["init", tmp_path / "tiny.oneshot"], ["people"], ["identify", tmp_path / "ada.png"]):
        done = run(*command)
        assert (done["code"], done["reason"]) == (3, "foreign_file"), command
    assert run("doctor")["code"] == 3
    if kind == "link":
        assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"", 0o644)
    else:
        assert not target.exists()


def test_a_link_that_appears_while_the_gallery_is_opened_is_refused(state, tmp_path, monkeypatch):
    path, target = state / "gallery.db", tmp_path / "elsewhere.db"
    target.write_bytes(path.read_bytes())
    connect = sqlite3.connect

    def swapped(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
        with suppress(FileExistsError):
            path.rename(state / "aside")
            path.symlink_to(target)
        return connect(*arguments, **keywords)

    monkeypatch.setattr(sqlite3, "connect", swapped)
    with raises(IntegrityError, reason="foreign_file"):
        database.open_file(path)


def test_a_link_in_the_place_of_the_journal_is_not_followed(state, door, people, tmp_path):
    (state / "gallery.db-journal").symlink_to(tmp_path / "created")
    with raises(IntegrityError, reason="foreign_file"):
        door.identify(people["ada"][1])
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("name", ["gallery.db-wal", "gallery.db-journal"])
def test_a_second_name_of_a_file_elsewhere_is_no_journal_and_no_log(state, door, run, people, tmp_path, name):
    own = tmp_path / "own.txt"
    own.write_text("of the same user, and no part of a gallery")
    os.link(own, state / name)
    with raises(IntegrityError, reason="foreign_file"):
        door.identify(people["ada"][1])
    for command in (["people"], ["identify", tmp_path / "ada.png"], ["init", tmp_path / "tiny.oneshot"]):
        assert (run(*command)["code"], run(*command)["reason"]) == (3, "foreign_file"), command
    assert (own.read_text(), own.stat().st_nlink) == ("of the same user, and no part of a gallery", 2)


def test_a_link_to_itself_in_the_place_of_the_gallery_is_refused_in_one_line(state, door, run, people, tmp_path):
    (state / "gallery.db").unlink()
    (state / "gallery.db").symlink_to(state / "gallery.db")
    assert not door.identify(people["ada"][1]).accepted
    for command in (["people"], ["identify", tmp_path / "ada.png"], ["doctor"], ["init", tmp_path / "tiny.oneshot"]):
        assert run(*command)["code"] == 3, command


_CUT_OFF = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for _ in range(20):
    connection.execute("INSERT INTO rejection (boot, at) VALUES (hex(randomblob(3000)), 1)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_journal_that_names_a_file_to_delete_is_refused_and_a_power_cuts_own_is_rolled_back(state, run, tmp_path):
    journal = state / "gallery.db-journal"
    subprocess.run([sys.executable, "-c", _CUT_OFF, state / "gallery.db"], check=False)
    (tmp_path / "precious").write_bytes(b"somebody else's\0")
    name = os.fsencode(tmp_path / "precious")
    end = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name))
    own = journal.read_bytes()
    journal.write_bytes(own + end + bytes.fromhex("d9d505f920a163d7"))
    done = run("people")
    assert (done["code"], done["reason"]) == (3, "foreign_file")
    assert (tmp_path / "precious").exists()
    journal.write_bytes(own)
    assert run("people")["code"] == 0
    assert not journal.exists()
    assert run("audit", "--check")["code"] == 0
    with tampering(state / "gallery.db") as connection:
        assert connection.execute("SELECT count(*) FROM rejection").fetchone() == (0,)
    journal.symlink_to(tmp_path / "precious")
    assert run("people")["reason"] == "foreign_file"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_other_users_are_refused(state: Path, run: Run) -> None:
    for name in ("gallery.db", "reserve"):
        os.chown(state / name, 12345, 12345)
        assert run("people")["reason"] == "foreign_file"
        os.chown(state / name, 0, 0)
    assert run("people")["code"] == 0
    # nor is root at work in the folder of another user, who decides what its names lead to
    os.chown(state, 12345, 12345)
    assert run("people")["reason"] == "not_owner"


def test_a_folder_whose_name_is_no_utf_8_holds_a_gallery(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff?#%20"))
    folder.mkdir()
    with Gallery.open(folder / "gallery.db", "a" * 64, 4, create=True) as gallery:
        gallery.enrol("ada", np.ones((1, 4), np.float32))
    with Gallery.open(folder / "gallery.db", "a" * 64, 4) as gallery:
        assert [person.person for person in gallery.people()] == ["ada"]


# what is in memory never outlives what is in the file


@pytest.mark.parametrize("table", ["person", "template"])
def test_whoever_is_deleted_behind_the_doors_back_is_no_longer_let_in(state, door, run, people, table):
    assert door.identify(people["ada"][1]).person == "ada"
    number = door.gallery.number_of("ada")
    column = "number" if table == "person" else "person"
    tamper(state, f"PRAGMA foreign_keys = ON; DELETE FROM {table} WHERE {column} = {number}")
    assert said(door.identify(people["ada"][1])) == (None, False, "below_threshold")
    with pytest.raises(Exception, match="not enrolled"):
        door.verify("ada", people["ada"][1])
    assert door.identify(people["grace"][1]).person == "grace"
    assert run("audit", "--check")["reason"] == "audit_altered"


def test_a_template_put_there_without_a_row_of_the_record_lets_nobody_in_who_is_not_in_the_file(state, door, people):
    assert door.identify(people["ada"][1]).person == "ada"
    number, other = door.gallery.number_of("ada"), door.gallery.number_of("grace")
    tamper(state, f"UPDATE template SET person = {number} WHERE person = {other}")
    with raises(IntegrityError, reason="gallery_corrupt"):
        door.identify(people["ada"][1])
    with pytest.raises(Exception, match="not enrolled"):
        door.verify("grace", people["grace"][1])


def test_templates_that_come_back_without_a_row_of_the_record_are_no_endless_loop(state, door, people):
    number = door.gallery.number_of("ada")
    with tampering(state / "gallery.db") as connection:
        kept = connection.execute("SELECT * FROM template WHERE person = ?", (number,)).fetchall()
        connection.execute("DELETE FROM template WHERE person = ?", (number,))
        assert said(door.identify(people["ada"][1])) == (None, False, "below_threshold")
        connection.executemany("INSERT INTO template VALUES (?, ?, ?, ?)", kept)
    assert door.verify("ada", people["ada"][1]).accepted
    assert door.verify("ada", people["grace"][1]).reason == "below_threshold"


@pytest.mark.parametrize("command", [["identify"], ["verify", "ada"]])
def test_a_gallery_that_changes_again_and_again_is_a_rejection_on_the_record(run, tmp_path, monkeypatch, command):
    monkeypatch.setattr(TemplateCache, "is_current", lambda *_: False)
    done = run(*command, tmp_path / "ada.png")
    assert (done["code"], done["reason"]) == (4, "gallery_changing")
    decision = json.loads(done["out"])
    assert (decision["accepted"], decision["person"], decision["reason"]) == (False, None, "gallery_changing")
    (row,) = json.loads(run("audit", "--last", "1")["out"])
    assert (row["act"], row["detail"]["accepted"], row["detail"]["reason"]) == (command[0], False, "gallery_changing")


def test_reading_everything_anew_and_checking_the_record_end_where_rows_go_as_fast_as_they_are_read(door, monkeypatch):
    cache = door.gallery.template_cache("cosine", "best")
    monkeypatch.setattr("edge_oneshot_device.gallery.audit.changed_since", lambda *_: None)
    cache.clear()
    with raises(MachineError, reason="gallery_changing"):
        door.gallery.template_cache("cosine", "best")
    beginnings = iter(range(100))
    monkeypatch.setattr("edge_oneshot_device.gallery.audit.beginning", lambda _: (next(beginnings), 1))
    with tampering(door.gallery.path) as connection:
        connection.execute("DELETE FROM audit WHERE seq = 2")
    with raises(MachineError, reason="gallery_changing"):
        door.gallery.check_audit()


# a last row that nobody made

# a running door has made sure of the last row already; whoever opens the gallery looks at the two last ones
NOT_SEEN_AT_ONCE = "DELETE FROM audit WHERE seq = (SELECT max(seq) - 1 FROM audit)"


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE audit SET at = 1 << 62 WHERE seq = (SELECT max(seq) FROM audit)",
        "UPDATE audit SET at = -(1 << 62) WHERE seq = (SELECT max(seq) FROM audit)",
        "UPDATE audit SET detail = '[' WHERE seq = (SELECT max(seq) FROM audit)",
        "INSERT INTO audit VALUES (9223372036854775807, 0, 'identify', NULL, '{}', zeroblob(32))",
        "INSERT INTO audit SELECT seq + 1, at, 'enrolled', NULL, '{}', mac FROM audit ORDER BY seq DESC LIMIT 1",
        'INSERT INTO audit SELECT seq + 1, at, \'checkpoint\', NULL, \'{"through": 1e400, "mac": ""}\', mac '
        "FROM audit ORDER BY seq DESC LIMIT 1",
        "DELETE FROM audit",
        NOT_SEEN_AT_ONCE,
    ],
)
def test_nobody_is_let_in_and_nothing_done_after_a_last_row_that_nobody_made(state, run, people, tmp_path, forgery):
    with Recognizer.open(state) as door:
        assert door.identify(people["ada"][1]).accepted
        tamper(state, forgery)
        if forgery != NOT_SEEN_AT_ONCE:
            with raises(IntegrityError, reason="audit_altered"):
                door.identify(people["ada"][1])
    for command in (
        ["identify", tmp_path / "ada.png"],
        ["verify", "ada", tmp_path / "ada.png"],
        ["enrol", "mallory", tmp_path / "stranger.png"],
        ["forget", "ada"],
        ["audit", "--check"],
        ["audit", "--head"],
        ["audit", "--last", "5"],
        ["audit", "--keep-days", "1"],
        ["backup", tmp_path / "copy"],
    ):
        done = run(*command)
        assert (done["code"], done["reason"]) == (3, "audit_altered"), (command, done)
    assert run("doctor")["code"] == 3


# numbers of users


@pytest.mark.parametrize("number", ["0", "-1", "1000001", "9" * 20, "-" + "9" * 20])
def test_so_many_rows_are_not_shown(run: Run, number: str) -> None:
    done = run("audit", f"--last={number}")
    assert (done["code"], done["reason"]) == (2, "bad_count")


@pytest.mark.parametrize("number", ["0", "-1", "1001", str(2**63), "9" * 30])
def test_so_many_rejections_a_minute_are_no_limit(run: Run, tmp_path: Path, number: str) -> None:
    done = run("init", tmp_path / "tiny.oneshot", f"--rejections-per-minute={number}")
    assert (done["code"], done["reason"]) == (2, "bad_limit")


# what a killed command leaves


_KILLED = """
import os, signal, sys
from pathlib import Path
from edge_oneshot_device import Recognizer
from edge_oneshot_device.gallery import transfer
from edge_oneshot_device.gallery.gallery import Gallery
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
setattr(Gallery, sys.argv[2], die)
with Recognizer.open(sys.argv[1]) as door:
    getattr(transfer, sys.argv[3])(door.gallery, Path(sys.argv[4]))
"""


@pytest.mark.parametrize("command", ["restore", "back_up"])
def test_a_copy_that_a_killed_command_left_goes_with_the_next_one_and_one_in_use_stays(state, run, tmp_path, command):
    file = tmp_path / "backups" / "copy"
    file.parent.mkdir()
    assert run("backup", file)["code"] == 0
    folder = state if command == "restore" else file.parent
    dies_at = "copy_from" if command == "restore" else "copy_to"
    done = subprocess.run([sys.executable, "-c", _KILLED, state, dies_at, command, file], check=False)
    assert done.returncode == -signal.SIGKILL

    def left() -> list[str]:
        return [path.name for path in folder.iterdir() if path.name.startswith(".edge-oneshot")]

    assert left()
    with transfer.aside(folder) as used:
        assert left()
        assert run("people")["code"] == 0
        assert used.exists()
    assert run("backup", file)["code"] == 0
    assert left() == []


# enrolled twice at once


def test_whoever_is_enrolled_twice_at_once_is_noticed(state, door, people, monkeypatch):
    check_fit = enrolment.check_fit

    def meanwhile(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(recognizer, "check_fit", check_fit)
        found = check_fit(*arguments, **keywords)
        with Recognizer.open(state) as desk:
            assert desk.enrol("mallory", people["stranger"][0]).resembles is None
        return found

    monkeypatch.setattr(recognizer, "check_fit", meanwhile)
    with raises(InputError, match="would be taken for mallory", reason="already_known"):
        door.enrol("eve", people["stranger"][0])
    resembles = door.enrol("eve", people["stranger"][0], even_if_alike=True).resembles
    assert resembles is not None
    assert resembles.person == "mallory"


def test_an_enrolment_that_is_overtaken_again_and_again_ends(door, people, monkeypatch):
    monkeypatch.setattr(TemplateCache, "is_current", lambda *_: False)
    with raises(MachineError, reason="gallery_changing"):
        door.enrol("eve", people["stranger"][0])
