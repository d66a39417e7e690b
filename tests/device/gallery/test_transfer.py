import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import audit_trail, transfer
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, read_key
from edge_oneshot_device.gallery.rotation import rotate_key
from edge_oneshot_device.gallery.sealed import write_template
from edge_oneshot_device.gallery.transfer import back_up, export_people, import_people, restore
from edge_oneshot_device.installation import installer
from tests.raising import raises
from tests.samples.galleries import MINE, OTHER, SIZE, names, vectors

UNTIL = Access(valid_until="2030-01-01T00:00:00Z", hours="mon 07:00-19:00")

Opener = Callable[..., Gallery]


def matched(gallery: Gallery, name: str) -> np.ndarray:
    number = gallery.number_of(name)
    assert number is not None
    return gallery.template_cache("cosine", "best").index.templates_of(number)


def acts(gallery: Gallery) -> list[str]:
    return [row.act for row in gallery.rows()]


@pytest.fixture
def key(key_file: Path) -> Path:
    return key_file


@pytest.fixture
def opener(tmp_path: Path, key: Path) -> Opener:
    """Opens a gallery in a folder of its own."""

    def open_it(name: str = "mine", fingerprint: str = MINE, file: Path = key) -> Gallery:
        (tmp_path / name).mkdir(exist_ok=True)
        return Gallery.open(tmp_path / name / "gallery.db", fingerprint, SIZE, KeySource(file), create=True)

    return open_it


@pytest.fixture
def gallery(opener: Opener) -> Iterator[Gallery]:
    with opener() as opened:
        opened.enrol("ada", vectors(2, seed=1), access=UNTIL, photos=[b"a photo"])
        opened.enrol("grace", vectors(1, seed=2))
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy"


# backup


def test_a_backup_is_a_whole_gallery_that_its_key_opens(gallery: Gallery, file: Path, key: Path) -> None:
    made = back_up(gallery, file)
    assert (made.file, made.people, made.bytes) == (str(file), 2, file.stat().st_size)
    assert made.head == str(audit_trail.head(gallery))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert acts(gallery)[-1] == "backup_begun"
    with Gallery.open(file, MINE, SIZE, KeySource(key)) as copy:
        assert names(copy) == ["ada", "grace"]
        assert str(copy.check_audit().head) == made.head
    assert sorted(path.name for path in file.parent.iterdir()) == ["copy", "key", "mine", "reserve"]


def test_what_a_killed_backup_or_restore_left_is_removed_by_the_next_one(gallery: Gallery, file: Path) -> None:
    back_up(gallery, file)
    for folder, go_on in ((file.parent, back_up), (gallery.path.parent, restore)):
        names_and_ages = {".edge-oneshot-a.tmp": 3700, ".edge-oneshot-b.tmp-journal": 3700, ".edge-oneshot-c.tmp": 3500}
        names_and_ages |= {".edge-oneshot": 3700, "edge-oneshot-d.tmp": 3700, ".other.tmp": 3700}
        for name, age in names_and_ages.items():
            (folder / name).touch()
            os.utime(folder / name, (0, time.time() - age))
        go_on(gallery, file)
        left = [name for name in names_and_ages if (folder / name).exists()]
        assert left == [".edge-oneshot-c.tmp", ".edge-oneshot", "edge-oneshot-d.tmp", ".other.tmp"]


def test_a_backup_takes_the_place_of_the_one_before_or_of_nothing(gallery, file, monkeypatch):
    back_up(gallery, file)
    former = file.read_bytes()
    gallery.enrol("alan", vectors())
    monkeypatch.setattr(transfer, "_write", lambda _: (_ for _ in ()).throw(OSError(5, os.strerror(5))))
    with pytest.raises(MachineError, match="Input/output error"):
        back_up(gallery, file)
    assert file.read_bytes() == former
    monkeypatch.undo()
    assert back_up(gallery, file).people == 3
    for wrong, reason in ((file.parent / "absent" / "copy", "no_folder"), (file.parent / "mine", "bad_output")):
        with raises(InputError, reason=reason):
            back_up(gallery, wrong)
    assert [path for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_gallery_is_not_its_own_backup(gallery: Gallery, opener: Opener) -> None:
    link = gallery.path.with_name("link")
    link.symlink_to(gallery.path)
    with opener() as door:
        for file in (gallery.path, gallery.path.parent / ".." / "mine" / "gallery.db", link):
            for refused_call, reason in ((back_up, "bad_output"), (restore, "wrong_use")):
                with raises(InputError, reason=reason):
                    refused_call(gallery, file)
        gallery.enrol("alan", vectors())
        assert names(door) == ["ada", "alan", "grace"]


def test_a_backup_taken_while_another_connection_writes_is_of_one_moment(gallery, opener, file, key, monkeypatch):
    monkeypatch.setattr(transfer, "_PAGES", 1)
    stop, faults = threading.Event(), []

    def write() -> None:
        with opener() as door:
            for step in range(1000):
                if stop.is_set():
                    return
                try:
                    door.enrol(f"person {step}", vectors(2))
                    stop.wait(0.02)
                    if step % 2:
                        door.forget(f"person {step}")
                except Exception as error:
                    faults.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            made = back_up(gallery, file)
            with Gallery.open(file, MINE, SIZE, KeySource(key)) as copy:
                assert len(copy.people()) == made.people
                assert str(copy.check_audit().head) == made.head
                copy.template_cache("cosine", "best")
    finally:
        stop.set()
        writer.join()
    assert faults == []
    gallery.check_audit()


# restore


def test_what_was_backed_up_comes_back_and_the_record_says_so(gallery: Gallery, file: Path) -> None:
    back_up(gallery, file)
    gallery.forget("ada")
    gallery.enrol("mallory", vectors(1, seed=9))
    head = str(audit_trail.head(gallery))
    restored = restore(gallery, file)
    assert (restored.file, restored.people) == (str(file), 2)
    assert names(gallery) == ["ada", "grace"]
    np.testing.assert_array_equal(matched(gallery, "ada"), vectors(2, seed=1))
    assert gallery.people()[0].hours == UNTIL.hours
    assert acts(gallery) == ["created", "enrolled", "enrolled", "backup_begun", "restored"]
    (last,) = audit_trail.last(gallery, 1)
    assert last.detail == {"instead_of": head}
    assert restored.head == str(gallery.check_audit().head)
    with raises(IntegrityError, reason="audit_cut"):
        audit_trail.check(gallery, head)
    assert sorted(path.name for path in gallery.path.parent.iterdir()) == ["gallery.db", "reserve"]
    gallery.enrol("alan", vectors())
    assert gallery.check_audit().people == 3


def test_other_processes_that_have_the_gallery_open_see_what_was_restored(gallery, opener, file):
    back_up(gallery, file)
    with opener() as door:
        door.enrol("ada", vectors(1, seed=5), replace=True)
        door.forget("grace")
        assert door.template_cache("cosine", "best").index.people == 1
        restore(gallery, file)
        assert names(door) == ["ada", "grace"]
        np.testing.assert_array_equal(matched(door, "ada"), vectors(2, seed=1))
        assert door.template_cache("cosine", "best").index.people == 2
        door.enrol("alan", vectors())
        assert door.check_audit().people == gallery.check_audit().people == 3


def test_a_backup_of_another_gallery_with_the_same_key_goes_on_with_its_own_record(gallery, opener, file):
    # a device whose card died: the key was kept, the gallery is a new one, and its door is running
    back_up(gallery, file)
    with opener("new") as new, opener("new") as door:
        assert door.template_cache("cosine", "best").index.people == 0
        restore(new, file)
        assert names(door) == ["ada", "grace"]
        door.enrol("alan", vectors())
        assert door.check_audit().people == 3
        new.forget("alan")
        assert door.check_audit().people == new.check_audit().people == 2
        assert acts(new)[:1] == ["created"]


def damaged(file: Path, kind: str) -> None:
    content = bytearray(file.read_bytes())
    if kind == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "noise":
        file.write_bytes(b"notes " * 1000)
    else:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "cut",
        "empty",
        "noise",
        "UPDATE audit SET detail = '{}' WHERE seq = 2",
        "DELETE FROM audit",
        "DELETE FROM person",
        "UPDATE person SET record = zeroblob(60)",
        "UPDATE template SET sealed = zeroblob(44)",
        "UPDATE template SET person = (SELECT max(number) FROM person)",
        "UPDATE epoch SET check_value = zeroblob(16)",
        "DELETE FROM epoch",
        "PRAGMA user_version = 99",
    ],
)
def test_a_damaged_backup_is_refused_and_nothing_is_changed(gallery: Gallery, file: Path, kind: str) -> None:
    back_up(gallery, file)
    gallery.enrol("alan", vectors())
    before = gallery.path.read_bytes()
    damaged(file, kind)
    with pytest.raises(IntegrityError, match=f"{file} ") as refused:
        restore(gallery, file)
    assert ".tmp" not in str(refused.value)
    assert gallery.path.read_bytes() == before
    assert names(gallery) == ["ada", "alan", "grace"]
    assert sorted(path.name for path in gallery.path.parent.iterdir()) == ["gallery.db", "reserve"]
    gallery.check_audit()


def test_a_backup_of_another_encoder_is_refused(gallery: Gallery, opener: Opener, file: Path) -> None:
    with opener("other", OTHER) as other:
        other.enrol("alan", vectors())
        back_up(other, file)
    with raises(IntegrityError, reason="gallery_of_other_fingerprint"):
        restore(gallery, file)
    assert names(gallery) == ["ada", "grace"]


def test_a_backup_of_another_key_is_restored_with_that_key_only_and_sealed_with_the_present_one(
    gallery, opener, file, tmp_path
):
    former = tmp_path / "former"
    back_up(gallery, file)
    with opener() as door:
        kept = rotate_key(gallery).former
        assert kept is not None
        Path(kept).rename(former)
        gallery.forget("grace")
        with raises(IntegrityError, match=f"{file} is sealed with another key .* --backup-key", reason="wrong_key"):
            restore(gallery, file)
        assert names(gallery) == ["ada"]
        assert restore(gallery, file, KeySource(former)).people == 2
        for opened in (gallery, door):
            assert names(opened) == ["ada", "grace"]
            np.testing.assert_array_equal(matched(opened, "ada"), vectors(2, seed=1))
            assert opened.check_audit().people == 2
    assert acts(gallery)[-2:] == ["key_rotated", "restored"]
    with opener() as again:
        assert names(again) == ["ada", "grace"]


def test_a_backup_of_a_former_key_finds_it_beside_the_present_one(gallery: Gallery, opener: Opener, file: Path) -> None:
    back_up(gallery, file)
    for _ in range(3):
        rotate_key(gallery)
    gallery.forget("grace")
    assert restore(gallery, file).people == 2
    with opener() as again:
        assert names(again) == ["ada", "grace"]
        assert again.check_audit().people == 2


def test_a_file_that_is_not_there_is_wrong_input(gallery: Gallery, file: Path) -> None:
    for wrong, reason in ((file, "not_found"), (file.parent, "not_a_file")):
        with raises(InputError, reason=reason):
            restore(gallery, wrong)


# people from one device to another


def test_people_are_taken_to_another_device_with_all_but_their_photos(gallery, opener, file, key, tmp_path):
    create_key(tmp_path / "key of the other")
    common = read_key(KeySource(key))
    moved = export_people(gallery, file, common)
    assert (moved.people, moved.skipped, moved.fingerprint) == (["ada", "grace"], [], MINE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = file.read_bytes()
    for secret in (b"ada", b"grace", vectors(2, seed=1).tobytes()[:8]):
        assert secret not in content
    with opener("other", file=tmp_path / "key of the other") as other:
        other.enrol("grace", vectors(1, seed=7))
        taken = import_people(other, file, common)
        assert (taken.people, taken.skipped) == (["ada"], ["grace"])
        np.testing.assert_array_equal(matched(other, "ada"), vectors(2, seed=1))
        np.testing.assert_array_equal(matched(other, "grace"), vectors(1, seed=7))
        ada = other.people()[0]
        assert (ada.valid_until, ada.hours, ada.enrolled) == (
            UNTIL.valid_until,
            UNTIL.hours,
            gallery.people()[0].enrolled,
        )
        assert other.number_of("ada") != gallery.number_of("ada")
        assert import_people(other, file, common).people == []
        assert acts(other) == ["created", "enrolled", "imported"]
        assert other.check_audit().people == 2
    assert acts(gallery)[-1] == "exported"


def test_two_devices_with_one_key_still_have_nothing_in_common(gallery, opener, file, key):
    common = read_key(KeySource(key))
    export_people(gallery, file, common)
    first = json.loads(file.read_bytes())["sealed"]
    export_people(gallery, file, common)
    assert json.loads(file.read_bytes())["sealed"] != first
    with opener("other") as other:
        import_people(other, file, common)
        rows = []
        for path in (gallery.path, other.path):
            with closing(sqlite3.connect(path)) as connection:
                rows.append({row[0] for row in connection.execute("SELECT sealed FROM template")})
        assert len(rows[0]) == len(rows[1]) == 3
        assert not rows[0] & rows[1]


def test_an_empty_gallery_is_exported_and_imported(opener: Opener, file: Path, key: Path) -> None:
    with opener("empty") as empty:
        assert export_people(empty, file, read_key(KeySource(key))).people == []
        assert import_people(empty, file, read_key(KeySource(key))).people == []


def test_a_file_of_people_altered_anywhere_is_refused_and_nobody_enrolled(gallery, opener, file, key):
    common = read_key(KeySource(key))
    export_people(gallery, file, common)
    whole = file.read_bytes()
    reasons = set()
    last = whole.index(b'="') - 1 if b'="' in whole else -1  # of whose six bits base64 leaves some unused
    with opener("other") as other:
        for at in range(len(whole)):
            altered = bytearray(whole)
            altered[at] ^= 1
            if at == last:
                continue
            file.write_bytes(altered)
            with pytest.raises((InputError, IntegrityError)) as refused:
                import_people(other, file, common)
            reasons.add(refused.value.reason)
        for length in range(0, len(whole), 7):
            file.write_bytes(whole[:length])
            with raises(InputError, reason="not_a_people_file"):
                import_people(other, file, common)
        assert reasons == {"not_a_people_file", "other_fingerprint", "wrong_key"}
        assert names(other) == []
        assert acts(other) == ["created"]
        file.write_bytes(whole)
        assert import_people(other, file, common).people == ["ada", "grace"]


def test_a_file_of_people_opens_with_its_own_key_for_its_own_encoder(gallery, opener, file, key):
    common = read_key(KeySource(key))
    export_people(gallery, file, common)
    with opener("other") as other, raises(IntegrityError, match="--transfer-key", reason="wrong_key"):
        import_people(other, file, bytes(range(32)))
    with opener("foreign", OTHER) as foreign:
        with raises(IntegrityError, match=f"encoder {MINE[:12]}, here is {OTHER[:12]}", reason="other_fingerprint"):
            import_people(foreign, file, common)
        # nor when the file says that they are of this one
        content = json.loads(file.read_bytes())
        file.write_text(json.dumps(content | {"fingerprint": OTHER}))
        with raises(IntegrityError, reason="wrong_key"):
            import_people(foreign, file, common)
        assert names(foreign) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff\xfe", b"null", b'{"format":2,"fingerprint":"","people":0,"sealed":""}',
     b'{"format":1,"fingerprint":"","people":-1,"sealed":""}', b'{"format":1,"fingerprint":"","people":0,"sealed":"!"}',
     b'{"format":1,"fingerprint":"","people":0,"sealed":"","more":1}'],
)  # fmt: skip
def test_what_is_no_file_of_people_is_refused(gallery: Gallery, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with raises(InputError, match="give one that people export wrote", reason="not_a_people_file"):
        import_people(gallery, file, bytes(32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_templates_that_have_no_scores_are_not_imported(gallery, opener, file, key, value):
    broken = np.full(SIZE, value, "<f4").tobytes()
    number = gallery.number_of("ada")
    assert number is not None
    with gallery.writing() as transaction:
        write_template(transaction, number, broken)
    export_people(gallery, file, read_key(KeySource(key)))
    with opener("other") as other:
        with raises(IntegrityError, match="export them again", reason="other_fingerprint"):
            import_people(other, file, read_key(KeySource(key)))
        assert names(other) == []


def test_commands_back_up_restore_and_transfer(make_bundle, people, tmp_path, capfd):
    bundle = make_bundle()
    here, there, file, key = (tmp_path / name for name in ("here", "there", "people.file", "transfer.key"))
    for folder in (here, there):
        installer.install(bundle, folder)
    with Recognizer.open(here) as recognizer:
        recognizer.enrol("ada", people["ada"][0])

    def run(folder: Path, *arguments: str) -> int:
        capfd.readouterr()
        return cli.main([*arguments, "--state", str(folder)])

    assert run(here, "people", "export", str(file), "--transfer-key", str(key)) == 0
    assert f"exported 1 person: {file}" in capfd.readouterr().out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run(there, "people", "import", str(file)) == 3
    assert "--transfer-key" in capfd.readouterr().err
    assert run(there, "people", "import", str(file), "--transfer-key", str(tmp_path / "absent")) == 3
    assert run(there, "people", "import", str(file), "--transfer-key", str(key)) == 0
    assert run(there, "people", "import", str(file), "--transfer-key", str(key)) == 0
    assert "already enrolled, left unchanged: ada" in capfd.readouterr().out
    assert run(there, "people", "export") == 2
    image = tmp_path / "ada.png"
    image.write_bytes(people["ada"][1])
    assert run(there, "identify", str(image)) == 0
    assert run(here, "backup", str(tmp_path / "backup")) == 0
    assert run(here, "forget", "ada") == 0
    assert run(here, "restore", str(tmp_path / "backup"), "--json") == 0
    assert json.loads(capfd.readouterr().out)["people"] == 1
    assert run(here, "identify", str(image)) == 0
    assert run(here, "audit", "--check") == 0
    (tmp_path / "backup").write_bytes(b"")
    assert run(here, "restore", str(tmp_path / "backup")) == 3
    assert run(here, "restore", str(tmp_path / "absent")) == 2
