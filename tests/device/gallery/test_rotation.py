import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_oneshot_device import cli
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import database, keys, rotation
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key, kept_at, kept_keys, read_key
from edge_oneshot_device.gallery.rotation import DroppedKeys, KeyRotation, drop_former, rotate_key
from edge_oneshot_device.gallery.transfer import back_up, restore
from edge_oneshot_device.gallery.vault import Vault
from tests.raising import raises
from tests.samples.galleries import MINE, SIZE, names, vectors


def sealed_values(path: Path) -> set[bytes]:
    """All that was made with the key."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            row[0]
            for query in ("SELECT tag FROM person", "SELECT record FROM person", "SELECT sealed FROM template",
                          "SELECT sealed FROM photo", "SELECT check_value FROM epoch", "SELECT chain FROM epoch")
            for row in connection.execute(query)
        }  # fmt: skip


def photos(gallery: Gallery, person: str) -> list[bytes]:
    number = gallery.number_of(person)
    assert number is not None
    query = "SELECT sealed FROM photo WHERE person = ? ORDER BY id"
    with gallery.reading() as transaction:
        rows = transaction.execute(query, (number,)).fetchall()
    return [gallery.keyring.vault.open(row[0], "photo", number) for row in rows]


def kept_copy(key: Path) -> Path:
    """Where the key of a file is kept beside it."""
    return kept_at(key, Vault(read_key(KeySource(key))).check_value)


def kept_names(key: Path) -> set[str]:
    return {path.name for path in kept_keys(key)}


def put_back(key: Path, former: bytes) -> None:
    """As if the rotation was cut between the commit and the new key's place."""
    key.write_bytes(former)
    key.chmod(0o600)


@pytest.fixture
def key(key_file: Path) -> Path:
    return key_file


@pytest.fixture
def reopen(tmp_path: Path, key: Path) -> Callable[..., Gallery]:
    """Opens the gallery once more."""
    return lambda file=key: Gallery.open(tmp_path / "gallery.db", MINE, SIZE, KeySource(file), create=True)


@pytest.fixture
def gallery(reopen: Callable[..., Gallery]) -> Iterator[Gallery]:
    with reopen() as opened:
        opened.enrol("ada", vectors(2, seed=1), photos=[b"the first", b"the second"])
        opened.enrol("grace", vectors(1, seed=2))
        yield opened


def assert_whole(gallery: Gallery) -> None:
    assert names(gallery) == ["ada", "grace"]
    assert gallery.template_cache("cosine", "best").index.people == 2
    assert photos(gallery, "ada") == [b"the first", b"the second"]
    assert gallery.check_audit().people == 2


def test_everything_is_sealed_anew_and_nothing_sealed_before_is_left_in_the_file(gallery: Gallery, key: Path) -> None:
    former, values, kept = key.read_bytes(), sealed_values(gallery.path), kept_copy(key)
    assert len(values) == 11
    assert rotate_key(gallery) == KeyRotation(2, 2, str(key), str(kept))
    assert kept.read_bytes() == former
    assert key.read_bytes() != former
    assert key.stat().st_mode & 0o777 == 0o600
    content = gallery.path.read_bytes()
    # the check value of the former key stays, to number the keys
    assert {len(value) for value in values if value in content} == {16}
    assert_whole(gallery)
    assert {path.name for path in key.parent.iterdir()} == {"gallery.db", "reserve", "key", *kept_names(key)}
    assert {kept, kept_copy(key)} == set(kept_keys(key))
    assert {path.stat().st_mode & 0o777 for path in kept_keys(key)} == {0o600}


def test_the_former_key_opens_a_copy_of_before_and_nothing_else(gallery, key, reopen, tmp_path):
    former = Path(shutil.copy(key, tmp_path / "former"))
    shutil.copy(gallery.path, tmp_path / "copy.db")
    rotate_key(gallery)
    with raises(IntegrityError, reason="wrong_key"):
        reopen(former)
    with Gallery.open(tmp_path / "copy.db", MINE, SIZE, KeySource(former)) as copy:
        assert_whole(copy)


def test_keys_are_rotated_again_and_again_and_the_record_holds_from_its_beginning(gallery, reopen):
    for count in range(2, 6):
        gallery.enrol("ada", vectors(count - 1), replace=True, photos=[b"the first", b"the second"])
        assert rotate_key(gallery).keys == count
    assert_whole(gallery)
    assert gallery.check_audit().first == 1
    with reopen() as again:
        assert_whole(again)


def test_another_connection_goes_on_with_the_new_key(gallery: Gallery, reopen: Callable[..., Gallery]) -> None:
    with reopen() as door:
        assert door.template_cache("cosine", "best").index.people == 2
        rotate_key(gallery)
        assert door.number_of("grace") == gallery.number_of("grace")
        rotate_key(gallery)
        door.enrol("alan", vectors())
        assert gallery.template_cache("cosine", "best").index.people == 3
        gallery.forget("alan")
        rotate_key(door)
        assert_whole(gallery)
        assert_whole(door)


# with a key of its own file


def test_a_new_key_may_be_put_elsewhere(gallery: Gallery, key: Path, reopen: Callable[..., Gallery]) -> None:
    new, former = key.with_name("new"), key.read_bytes()
    assert rotate_key(gallery, new) == KeyRotation(2, 2, str(new))
    assert key.read_bytes() == former
    with reopen(new) as again:
        assert_whole(again)
    with raises(IntegrityError, reason="wrong_key"):
        reopen(key)


def test_a_key_that_is_there_is_taken_unless_it_is_in_force_or_open_to_others(gallery, key, reopen):
    new = key.with_name("new")
    taken = create_key(new)
    same = Path(shutil.copy(key, key.with_name("same")))
    for file in (key, same):
        with raises(InputError, match="holds the key that is in force", reason="wrong_use"):
            rotate_key(gallery, file)
    new.chmod(0o644)
    with raises(IntegrityError, reason="key_exposed"):
        rotate_key(gallery, new)
    assert_whole(gallery)
    new.chmod(0o600)
    rotate_key(gallery, new)
    assert read_key(KeySource(new)) == taken
    with reopen(new) as again:
        assert_whole(again)


def test_a_key_from_a_command_is_replaced_by_a_file_only(gallery: Gallery, key: Path) -> None:
    command = KeySource(None, ("cat", str(key)))
    with Gallery.open(gallery.path, MINE, SIZE, command) as opened:
        with raises(InputError, match="--new-key FILE", reason="wrong_use"):
            rotate_key(opened)
        rotate_key(opened, key.with_name("new"))
    with Gallery.open(gallery.path, MINE, SIZE, KeySource(key.with_name("new"))) as again:
        assert_whole(again)


def test_a_credential_is_not_replaced_for_it_would_be_gone_with_the_service(gallery, key, tmp_path, monkeypatch):
    credential = tmp_path / "credentials" / "edge-oneshot.key"
    credential.parent.mkdir()
    shutil.copy(key, credential)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent))
    with Gallery.open(gallery.path, MINE, SIZE, find_key()) as opened:
        with raises(InputError, match="--new-key FILE", reason="wrong_use"):
            rotate_key(opened)
        assert_whole(opened)
        rotate_key(opened, key.with_name("new"))
    assert credential.read_bytes() == key.read_bytes()
    assert [path.name for path in credential.parent.iterdir()] == ["edge-oneshot.key"]


# interrupted


def test_a_power_cut_between_the_commit_and_the_new_keys_place_leaves_a_gallery_that_opens(gallery, key, reopen):
    former = key.read_bytes()
    rotate_key(gallery)
    put_back(key, former)
    with reopen() as again:
        assert_whole(again)
        assert key.read_bytes() == former
        rotate_key(again)
        assert_whole(again)
    assert_whole(gallery)
    assert key.read_bytes() != former
    assert len(kept_keys(key)) == 3


def test_a_key_file_that_is_gone_is_found_among_the_kept_ones(gallery, key, reopen):
    rotate_key(gallery)
    key.unlink()
    with reopen() as again:
        assert_whole(again)
        rotate_key(again)
    assert key.exists()


def test_a_kept_key_that_others_may_read_is_refused(gallery, key, reopen):
    former = key.read_bytes()
    rotate_key(gallery)
    kept_copy(key).chmod(0o644)
    with reopen() as again:  # not looked at as long as the key file fits
        assert_whole(again)
    put_back(key, former)
    with raises(IntegrityError, reason="key_exposed"):
        reopen()


def test_a_wrong_key_stays_wrong_whatever_lies_beside_it(gallery, key, reopen):
    other = key.with_name("other")
    wrong = create_key(other)
    keys.keep_key(other, wrong)
    # a name that fits, and another key in it
    shutil.copy(other, kept_at(other, gallery.keyring.vault.check_value))
    with raises(IntegrityError, reason="wrong_key"):
        reopen(other)
    assert read_key(KeySource(other)) == wrong
    assert_whole(gallery)


def test_what_lies_in_the_place_of_a_kept_key_and_is_another_is_not_overwritten(gallery: Gallery, key: Path) -> None:
    former, foreign = key.read_bytes(), create_key(key.with_name("foreign"))
    shutil.copy(key.with_name("foreign"), kept_copy(key))
    with raises(MachineError, match="the new key is in force and lies in", reason="not_confirmed"):
        rotate_key(gallery)
    assert key.read_bytes() == former
    assert read_key(KeySource(kept_copy(key))) == foreign
    assert_whole(gallery)


def test_a_rotation_that_fails_midway_leaves_the_former_key_in_force(gallery, key, monkeypatch):
    former, content, files = key.read_bytes(), sealed_values(gallery.path), set(key.parent.iterdir())
    with closing(sqlite3.connect(gallery.path)) as connection, connection:
        connection.execute("UPDATE photo SET sealed = zeroblob(40) WHERE id = 2")
    with raises(IntegrityError, match="a photo of", reason="gallery_corrupt"):
        rotate_key(gallery)
    assert key.read_bytes() == former
    assert len(sealed_values(gallery.path) & content) == len(content) - 1
    gallery.enrol("alan", vectors())
    assert gallery.check_audit().people == 3
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(gallery.path, isolation_level=None)) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        with raises(MachineError, reason="gallery_busy"):
            rotate_key(gallery)
    assert key.read_bytes() == former
    assert len(gallery.people()) == 3
    # a new key that came to nothing is let go, but not while nobody can say so
    assert len(set(key.parent.iterdir()) - files) == 1


# at once


def test_two_rotations_at_once_lose_nobody(gallery: Gallery, reopen: Callable[..., Gallery]) -> None:
    start, faults = threading.Barrier(2), []

    def rotate() -> None:
        with reopen() as mine:
            start.wait()
            for _ in range(5):
                try:
                    rotate_key(mine)
                except Exception as error:
                    faults.append(error)

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert_whole(gallery)
    assert gallery.keyring.epoch == 11
    with reopen() as again:
        assert_whole(again)


def test_another_rotation_before_the_new_key_is_in_its_place_loses_nobody(gallery, key, reopen):
    with reopen() as other:
        former = key.read_bytes()
        rotate_key(gallery)
        put_back(key, former)
        assert rotate_key(other).keys == 3
        assert_whole(gallery)
        assert_whole(other)
    assert read_key(KeySource(key)) == gallery.keyring.vault.key


def test_of_two_rotations_at_once_the_newest_key_comes_to_lie_in_the_file(gallery, key, reopen, monkeypatch):
    place = rotation.put_in_place

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(rotation, "put_in_place", place)
        with reopen() as other:
            assert rotate_key(other).keys == 3
        place(*arguments)

    monkeypatch.setattr(rotation, "put_in_place", overtaken)
    assert rotate_key(gallery).keys == 2
    assert_whole(gallery)
    assert read_key(KeySource(key)) == gallery.keyring.vault.key


@pytest.mark.parametrize("look", [1, 2])
def test_whoever_opens_the_gallery_while_the_key_changes_gets_the_right_one(gallery, key, reopen, monkeypatch, look):
    read = keys.read_key
    calls = []

    def while_it_changes(source: KeySource) -> bytes:
        calls.append(source)
        if len(calls) == look:  # the gallery was looked at before the rotation, the key file or the kept one after it
            with monkeypatch.context() as patch, reopen_with(read, patch) as other:
                rotate_key(other)
        return read(source)

    def reopen_with(original: Any, patch: pytest.MonkeyPatch) -> Gallery:
        patch.setattr(keys, "read_key", original)
        return reopen()

    if look == 2:
        former = key.read_bytes()
        rotate_key(gallery)
        put_back(key, former)
    monkeypatch.setattr(keys, "read_key", while_it_changes)
    with reopen() as again:
        assert_whole(again)
    assert len(calls) >= look


# former keys


def test_former_keys_stay_until_they_are_dropped_and_then_their_backups_are_closed(
    gallery, key, reopen, tmp_path_factory
):
    copies = tmp_path_factory.mktemp("copies")  # not in the state folder
    for number in range(3):
        back_up(gallery, copies / f"backup {number}")
        rotate_key(gallery)
    assert len(kept_keys(key)) == 4
    restore(gallery, copies / "backup 1")  # finds its key by itself
    assert_whole(gallery)
    rotate_key(gallery)
    with reopen() as again:
        dropped = drop_former(again)
        # what the audit trail says of before the restore may be another gallery's
        assert len(dropped.dropped) == 1
        assert len(dropped.kept) == 4
        assert_whole(again)
        rows = [row for row in again.rows() if row.act == "keys_dropped"]
        assert msgspec.json.decode(rows[0].detail) == {"keys": [Path(dropped.dropped[0]).name.removeprefix("key.")]}
        assert drop_former(again) == DroppedKeys([], dropped.kept)
    with reopen() as again:
        assert_whole(again)


def test_a_key_that_the_record_does_not_prove_to_be_a_former_one_is_kept(gallery, key, tmp_path):
    (tmp_path / "other").mkdir()
    with Gallery.open(tmp_path / "other" / "gallery.db", MINE, SIZE, KeySource(key), create=True) as other:
        other.enrol("alan", vectors())
        rotate_key(other)
        rotate_key(gallery)
        rotate_key(other)
        shared = {str(path) for path in kept_keys(key)}
        # a row of the gallery's file that names the other's key is no proof
        with closing(sqlite3.connect(gallery.path)) as connection, connection:
            change = "UPDATE epoch SET check_value = ? WHERE id = 1"
            connection.execute(change, (other.keyring.vault.check_value,))
        dropped = drop_former(gallery)
        assert len(dropped.dropped) == 1
        assert set(dropped.kept) == shared - set(dropped.dropped)
        assert other.check_audit().people == 1
        assert_whole(gallery)
    with Gallery.open(tmp_path / "other" / "gallery.db", MINE, SIZE, KeySource(key), create=True) as again:
        assert again.check_audit().people == 1


def test_no_key_is_dropped_on_the_word_of_a_record_that_was_altered(gallery: Gallery, key: Path) -> None:
    rotate_key(gallery)
    with closing(sqlite3.connect(gallery.path)) as connection, connection:
        connection.execute("UPDATE audit SET detail = replace(detail, 'former', 'farmer') WHERE act = 'key_rotated'")
    before = kept_keys(key)
    with raises(IntegrityError, reason="audit_altered"):
        drop_former(gallery)
    assert kept_keys(key) == before


def test_keys_of_a_command_are_not_dropped(gallery: Gallery, key: Path) -> None:
    source = KeySource(None, ("cat", str(key)))
    with Gallery.open(gallery.path, MINE, SIZE, source) as opened, raises(InputError, reason="wrong_use") as refused:
        drop_former(opened)
    assert "beside a key file alone" in str(refused.value)


def test_the_commands_rotate_and_drop_and_say_what_they_did(make_bundle, tmp_path, capfd):
    key = tmp_path / "keys" / "key"
    options = ["--state", str(tmp_path / "state"), "--key", str(key)]
    assert cli.main(["init", str(make_bundle()), *options]) == 0
    former = kept_copy(key)
    assert cli.main(["rotate-key", "--drop-former", *options]) == 0
    assert "no key was deleted" in capfd.readouterr().out
    assert cli.main(["rotate-key", *options]) == 0
    assert f"the former key, which older backups need, is in {former}" in capfd.readouterr().out
    assert former.exists()
    assert cli.main(["rotate-key", "--drop-former", *options]) == 0
    printed = capfd.readouterr().out
    assert printed.splitlines() == [
        f"deleted  {former}",
        "backups, files of people and other galleries sealed with these keys can no longer be opened",
        f"kept  {kept_copy(key)}",
    ]
    assert not former.exists()
    assert cli.main(["rotate-key", "--drop-former", "--new-key", "new", *options]) == 2
    assert cli.main(["rotate-key", "--drop-former", "--json", *options]) == 0
    assert msgspec.json.decode(capfd.readouterr().out) == {"dropped": [], "kept": [str(kept_copy(key))]}
    assert cli.main(["doctor", *options]) == 0
