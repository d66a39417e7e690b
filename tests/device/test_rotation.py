import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import database, keyring
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import (
    KeySource,
    adopt_successor,
    create_key,
    find_key,
    former_of,
    read_key,
    successor_of,
)
from edge_oneshot_device.gallery.rotation import Rotation, rotate_key

SIZE = 4
MINE = "a" * 64


def vectors(count: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)


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
    rows = gallery.read(lambda connection: connection.execute(query, (number,)).fetchall())
    return [gallery.keyring.vault.open(row[0], "photo", number) for row in rows]


def take_back(key: Path, former: bytes) -> bytes:
    """As it was before the new key's rename; returns the new one."""
    new = key.read_bytes()
    key.rename(successor_of(key))
    key.write_bytes(former)
    key.chmod(0o600)
    return new


@pytest.fixture
def key(tmp_path: Path) -> Path:
    create_key(tmp_path / "key")
    return tmp_path / "key"


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
    assert [person.person for person in gallery.people()] == ["ada", "grace"]
    assert gallery.mirror("cosine", "best").index.people == 2
    assert photos(gallery, "ada") == [b"the first", b"the second"]
    assert gallery.check_audit().people == 2


def test_everything_is_sealed_anew_and_nothing_sealed_before_is_left_in_the_file(gallery: Gallery, key: Path) -> None:
    former, values = key.read_bytes(), sealed_values(gallery.path)
    assert len(values) == 11
    former = key.read_bytes()
    assert rotate_key(gallery) == Rotation(2, 2, str(key), f"{key}.former")
    assert key.with_name("key.former").read_bytes() == former
    assert key.read_bytes() != former
    assert key.stat().st_mode & 0o777 == 0o600
    content = gallery.path.read_bytes()
    # the check value of the former key stays, to number the keys
    assert {len(value) for value in values if value in content} == {16}
    assert_whole(gallery)
    assert sorted(path.name for path in key.parent.iterdir()) == ["gallery.db", "key", "key.former", "reserve"]


def test_the_former_key_opens_a_copy_of_before_and_nothing_else(
    gallery: Gallery, key: Path, reopen: Callable[..., Gallery], tmp_path: Path
) -> None:
    former = Path(shutil.copy(key, tmp_path / "former"))
    shutil.copy(gallery.path, tmp_path / "copy.db")
    rotate_key(gallery)
    with pytest.raises(IntegrityError) as refused:
        reopen(former)
    assert refused.value.reason == "wrong_key"
    with Gallery.open(tmp_path / "copy.db", MINE, SIZE, KeySource(former)) as copy:
        assert_whole(copy)


def test_keys_are_rotated_again_and_again_and_the_record_holds_from_its_beginning(
    gallery: Gallery, reopen: Callable[..., Gallery]
) -> None:
    for keys in range(2, 6):
        gallery.enrol("ada", vectors(keys - 1), replace=True, photos=[b"the first", b"the second"])
        assert rotate_key(gallery).keys == keys
    assert_whole(gallery)
    assert gallery.check_audit().first == 1
    with reopen() as again:
        assert_whole(again)


def test_another_connection_goes_on_with_the_new_key(gallery: Gallery, reopen: Callable[..., Gallery]) -> None:
    with reopen() as door:
        assert door.mirror("cosine", "best").index.people == 2
        rotate_key(gallery)
        assert door.number_of("grace") == gallery.number_of("grace")
        rotate_key(gallery)
        door.enrol("alan", vectors())
        assert gallery.mirror("cosine", "best").index.people == 3
        gallery.forget("alan")
        rotate_key(door)
        assert_whole(gallery)
        assert_whole(door)


# with a key of its own file


def test_a_new_key_may_be_put_elsewhere(gallery: Gallery, key: Path, reopen: Callable[..., Gallery]) -> None:
    new, former = key.with_name("new"), key.read_bytes()
    assert rotate_key(gallery, new) == Rotation(2, 2, str(new))
    assert key.read_bytes() == former
    with reopen(new) as again:
        assert_whole(again)
    with pytest.raises(IntegrityError) as refused:
        reopen(key)
    assert refused.value.reason == "wrong_key"


def test_a_key_that_is_there_is_taken_unless_it_is_in_force_or_open_to_others(
    gallery: Gallery, key: Path, reopen: Callable[..., Gallery]
) -> None:
    new = key.with_name("new")
    taken = create_key(new)
    same = Path(shutil.copy(key, key.with_name("same")))
    for file in (key, same):
        with pytest.raises(InputError, match="holds the key that is in force") as refused:
            rotate_key(gallery, file)
        assert refused.value.reason == "wrong_use"
    new.chmod(0o644)
    with pytest.raises(IntegrityError) as exposed:
        rotate_key(gallery, new)
    assert exposed.value.reason == "key_exposed"
    assert_whole(gallery)
    new.chmod(0o600)
    rotate_key(gallery, new)
    assert read_key(KeySource(new)) == taken
    with reopen(new) as again:
        assert_whole(again)


def test_a_key_from_a_command_is_replaced_by_a_file_only(gallery: Gallery, key: Path) -> None:
    command = KeySource(None, ("cat", str(key)))
    with Gallery.open(gallery.path, MINE, SIZE, command) as opened:
        with pytest.raises(InputError, match="--new-key FILE") as refused:
            rotate_key(opened)
        assert refused.value.reason == "wrong_use"
        rotate_key(opened, key.with_name("new"))
    with Gallery.open(gallery.path, MINE, SIZE, KeySource(key.with_name("new"))) as again:
        assert_whole(again)


def test_a_credential_is_not_replaced_for_it_would_be_gone_with_the_service(
    gallery: Gallery, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = tmp_path / "credentials" / "edge-oneshot.key"
    credential.parent.mkdir()
    shutil.copy(key, credential)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent))
    with Gallery.open(gallery.path, MINE, SIZE, find_key()) as opened:
        with pytest.raises(InputError, match="--new-key FILE") as refused:
            rotate_key(opened)
        assert refused.value.reason == "wrong_use"
        assert_whole(opened)
        rotate_key(opened, key.with_name("new"))
    assert credential.read_bytes() == key.read_bytes()
    assert [path.name for path in credential.parent.iterdir()] == ["edge-oneshot.key"]


# interrupted


def test_a_power_cut_between_the_commit_and_the_new_keys_place_is_made_good_on_opening(
    gallery: Gallery, key: Path, reopen: Callable[..., Gallery]
) -> None:
    former = key.read_bytes()
    rotate_key(gallery)
    new = take_back(key, former)
    with reopen() as again:
        assert_whole(again)
        assert key.read_bytes() == new
        assert not successor_of(key).exists()
        assert_whole(gallery)


@pytest.mark.usefixtures("gallery")
def test_a_new_key_whose_rotation_was_not_committed_is_passed_over_and_made_anew(
    key: Path, reopen: Callable[..., Gallery]
) -> None:
    former = key.read_bytes()
    leftover = create_key(successor_of(key))
    with reopen() as again:
        assert_whole(again)
        assert key.read_bytes() == former
        rotate_key(again)
    assert not successor_of(key).exists()
    assert read_key(KeySource(key)) != leftover
    with reopen() as again:
        assert_whole(again)


def test_a_wrong_key_stays_wrong_whatever_lies_beside_it(
    gallery: Gallery, key: Path, reopen: Callable[..., Gallery]
) -> None:
    other = key.with_name("other")
    wrong = create_key(other)
    create_key(successor_of(other))
    with pytest.raises(IntegrityError) as refused:
        reopen(other)
    assert refused.value.reason == "wrong_key"
    assert read_key(KeySource(other)) == wrong
    assert_whole(gallery)


def test_a_rotation_that_fails_midway_leaves_the_former_key_in_force(
    gallery: Gallery, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, content = key.read_bytes(), sealed_values(gallery.path)
    with closing(sqlite3.connect(gallery.path)) as connection, connection:
        connection.execute("UPDATE photo SET sealed = zeroblob(40) WHERE id = 2")
    with pytest.raises(IntegrityError, match="a photo of") as refused:
        rotate_key(gallery)
    assert refused.value.reason == "gallery_corrupt"
    assert key.read_bytes() == former
    assert len(sealed_values(gallery.path) & content) == len(content) - 1
    gallery.enrol("alan", vectors())
    assert gallery.check_audit().people == 3
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(gallery.path, isolation_level=None)) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MachineError) as failed:
            rotate_key(gallery)
        assert failed.value.reason == "gallery_busy"
    assert key.read_bytes() == former
    assert len(gallery.people()) == 3


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


def test_another_rotation_before_the_new_key_is_in_its_place_loses_nobody(
    gallery: Gallery, key: Path, reopen: Callable[..., Gallery]
) -> None:
    with reopen() as other:
        former = key.read_bytes()
        rotate_key(gallery)
        take_back(key, former)
        assert rotate_key(other).keys == 3
        assert_whole(gallery)
        assert_whole(other)
    assert not successor_of(key).exists()


@pytest.mark.parametrize("moment", ["committed", "renamed"])
def test_whoever_opens_the_gallery_while_the_key_changes_gets_the_right_one(
    gallery: Gallery, key: Path, reopen: Callable[..., Gallery], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    read = keyring.read_key
    former = key.read_bytes()
    calls = []

    def while_it_changes(source: KeySource) -> bytes:
        calls.append(source)
        if len(calls) > 1:
            return read(source)
        monkeypatch.setattr(keyring, "read_key", read)
        if moment == "renamed":
            # the gallery was looked at before the rotation, the key is after it
            with reopen() as other:
                rotate_key(other)
            return read(source)
        # the gallery after, the key before: the rename comes between the two looks at the folder
        return bytes.fromhex(former.decode())

    if moment == "committed":
        rotate_key(gallery)
    monkeypatch.setattr(keyring, "read_key", while_it_changes)
    with reopen() as again:
        assert_whole(again)
    assert len(calls) == 1


def test_a_key_that_is_put_in_its_place_again_after_a_cut_leaves_no_third_copy(key: Path) -> None:
    former = key.read_bytes()
    create_key(successor_of(key))
    # cut between the two renames
    former_of(key).hardlink_to(key)
    adopt_successor(key)
    assert former_of(key).read_bytes() == former
    assert key.read_bytes() != former
    assert not key.with_name("key.tmp").exists()
