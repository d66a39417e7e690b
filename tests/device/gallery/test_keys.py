import os
import stat
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device import cli
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery import key_command, keys
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key, find_key, read_key
from edge_oneshot_device.installation import installer
from tests.raising import raises
from tests.samples.galleries import names
from tests.samples.tiny import MakeBundle

DIGITS = "0123456789abcdef" * 4


def write_key(path: Path, content: str = DIGITS + "\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the environment says where the key is."""
    for name in ("CREDENTIALS_DIRECTORY", keys.COMMAND, keys.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


# where it comes from


def test_a_credential_comes_first_then_the_argument_the_command_the_environment_and_the_home_folder(
    monkeypatch, tmp_path
):
    assert find_key() == KeySource(tmp_path / "home/.config/edge-oneshot/key")
    monkeypatch.setenv(keys.ENVIRONMENT, "/from/environment")
    assert find_key() == KeySource(Path("/from/environment"))
    monkeypatch.setenv(keys.COMMAND, "print-key --slot '1 of 2'")
    assert find_key() == KeySource(None, ("print-key", "--slot", "1 of 2"))
    assert find_key("/from/argument") == KeySource(Path("/from/argument"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert find_key("/from/argument") == KeySource(Path("/from/argument"))  # no credential of that name
    credential = write_key(tmp_path / "credentials" / "edge-oneshot.key")
    assert find_key("/from/argument") == KeySource(credential)


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CREDENTIALS_DIRECTORY", keys.COMMAND, keys.ENVIRONMENT):
        monkeypatch.setenv(name, "")
    assert find_key() == KeySource(tmp_path / "home/.config/edge-oneshot/key")


def test_a_command_that_cannot_be_understood_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.COMMAND, "print-key 'slot 1")
    with raises(InputError, match="EDGE_ONESHOT_KEY_COMMAND", reason="bad_key_command"):
        find_key()


# a file


@pytest.mark.parametrize("content", [DIGITS, DIGITS + "\n", f"  {DIGITS.upper()}\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_is_64_hexadecimal_digits(tmp_path: Path, content: str, mode: int) -> None:
    path = write_key(tmp_path / "key", content, mode)
    assert read_key(KeySource(path)) == bytes.fromhex(DIGITS)


@pytest.mark.parametrize(
    "content",
    ["", "\n", DIGITS[:-1], DIGITS + "0", DIGITS[:-1] + "g", DIGITS[:32] + " " + DIGITS[32:], "ж" * 32, DIGITS * 64],
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = write_key(tmp_path / "key", content)
    with raises(IntegrityError, match="64 hexadecimal digits are expected", reason="key_unreadable"):
        read_key(KeySource(path))


def test_a_key_that_is_no_secret_is_refused(tmp_path: Path) -> None:
    # what a one-time-programmable memory that nobody wrote to answers
    with raises(IntegrityError, match="all zeros", reason="key_unreadable"):
        read_key(KeySource(write_key(tmp_path / "key", "0" * 64)))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o611, 0o602])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "key", mode=mode)
    with raises(
        IntegrityError, match=rf"mode {mode:03o}\): chmod 600 it, and consider rotate-key", reason="key_exposed"
    ):
        read_key(KeySource(path))
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_nor_is_it_taken_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(tmp_path / "key", mode=0o644)
    monkeypatch.chdir(tmp_path)
    for folder in (None, "", "elsewhere"):
        if folder is not None:
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", folder)
        with raises(IntegrityError, reason="key_exposed"):
            read_key(KeySource(Path("key")))


def test_a_credential_may_have_the_mode_that_systemd_gives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credential = write_key(tmp_path / "credentials" / "edge-oneshot.key", mode=0o440)
    with pytest.raises(IntegrityError, match="can be read by other users"):
        read_key(KeySource(credential))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent) + "/")
    assert read_key(find_key()) == bytes.fromhex(DIGITS)


def test_a_missing_key_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent", "key_missing"), (tmp_path, "key_unreadable")):
        with raises(IntegrityError, match=path.name, reason=reason):
            read_key(KeySource(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_key_that_may_not_be_read_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        read_key(KeySource(write_key(tmp_path / "key", mode=0o000)))


# a command


def test_a_command_prints_the_key() -> None:
    assert read_key(KeySource(None, ("echo", DIGITS))) == bytes.fromhex(DIGITS)
    assert str(KeySource(None, ("print-key", "slot 1"))) == "the command print-key of EDGE_ONESHOT_KEY_COMMAND"


def test_what_the_command_holds_is_never_shown(make_bundle, tmp_path, monkeypatch, capfd):
    installer.install(make_bundle(), tmp_path / "state", key=write_key(tmp_path / "key"))
    for line in (
        "curl -H 'Token hunter2' https://keys",
        "sh -c 'echo hunter2 >&2; exit 1'",
        "sh -c 'echo hunter2'",
        f"sh -c 'cat {tmp_path / 'key'} # hunter2'",
        DIGITS.replace("0123", "feed"),  # the key itself in the place of a command
    ):
        monkeypatch.setenv(keys.COMMAND, line)
        cli.main(["doctor", "--state", str(tmp_path / "state")])
        cli.main(["people", "--state", str(tmp_path / "state"), "--json"])
    captured = capfd.readouterr()
    assert "hunter2" not in captured.out + captured.err
    assert "feed" not in captured.out + captured.err
    assert f"the command sh of {keys.COMMAND}" in captured.out


@pytest.mark.parametrize("words", [("cat", "/dev/zero"), ("sh", "-c", "yes & yes"), ("seq", "10000")])
def test_a_command_that_prints_without_end_is_stopped_early(words: tuple[str, ...]) -> None:
    with raises(MachineError, match="printed more than 4096 bytes", reason="key_command_failed"):
        read_key(KeySource(None, words))


def test_whatever_a_command_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, seconds = tmp_path / "sleeper", 0.3
    while not sleeper.exists() or not sleeper.read_text():  # a busy machine did not get so far
        monkeypatch.setattr(key_command, "_SECONDS", seconds)
        with pytest.raises(MachineError, match="took too long"):
            read_key(KeySource(None, ("sh", "-c", f"sleep 1000 & echo $! > {sleeper}; wait")))
        seconds *= 2
    status = Path(f"/proc/{sleeper.read_text().strip()}/stat")
    with suppress(FileNotFoundError):
        while status.read_text().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.02)


def test_a_command_has_nothing_to_read_and_what_it_complains_of_is_no_key() -> None:
    source = KeySource(None, ("sh", "-c", f"cat; echo {DIGITS[:32]} >&2; echo {DIGITS}"))
    assert read_key(source) == bytes.fromhex(DIGITS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("false",), "the command false of EDGE_ONESHOT_KEY_COMMAND, .* ended with 1"),
        (("sh", "-c", f"echo {DIGITS}; exit 3"), "ended with 3"),
        (("sh", "-c", "kill -9 $$"), "ended with -9"),
        (("/no/such/program",), "cannot be run: No such file or directory"),
        (("/",), "cannot be run: Permission denied"),
    ],
)
def test_a_command_that_fails_is_told(words: tuple[str, ...], said: str) -> None:
    with raises(MachineError, match=said, reason="key_command_failed"):
        read_key(KeySource(None, words))


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_command, "_SECONDS", 0.3)
    # the sleeper is a grandchild, which keeps the pipe open
    with raises(MachineError, match="took too long", reason="key_command_failed"):
        read_key(KeySource(None, ("sh", "-c", "sleep 10000; echo")))


def test_a_command_that_prints_no_key_is_refused() -> None:
    for words in (("true",), ("echo", "ask your administrator")):
        with raises(IntegrityError, match=f"the command {words[0]}.* gives no key", reason="key_unreadable"):
            read_key(KeySource(None, words))


# a new one


def test_a_new_key_is_its_owners_alone_and_no_two_are_the_same(tmp_path: Path) -> None:
    first, second = (create_key(tmp_path / "config" / "edge-oneshot" / name) for name in ("a", "b"))
    assert first != second
    assert len(first) == 32
    folder = tmp_path / "config" / "edge-oneshot"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o600
    assert read_key(KeySource(folder / "a")) == first
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = write_key(tmp_path / "key")
    with pytest.raises(MachineError, match="never overwritten"):
        create_key(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    with raises(MachineError, reason="key_exists"):
        create_key(tmp_path / "dangling")
    assert path.read_text() == DIGITS + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "key"]


def test_a_key_that_another_process_made_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "key"
    drawn = keys.secrets.token_bytes

    def meanwhile(size: int) -> bytes:
        write_key(path)
        return drawn(size)

    monkeypatch.setattr(keys.secrets, "token_bytes", meanwhile)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self != path and exists(self))  # it looked just before
    with pytest.raises(MachineError, match="never overwritten"):
        create_key(path)
    assert path.read_text() == DIGITS + "\n"


# the gallery's key


def test_a_gallery_opens_with_its_own_key_only(tmp_path: Path) -> None:
    path, mine, other = tmp_path / "gallery.db", tmp_path / "mine", tmp_path / "other"
    create_key(mine)
    create_key(other)
    with Gallery.open(path, "a" * 64, 4, KeySource(mine), create=True) as gallery:
        gallery.enrol("ada", np.ones((1, 4), np.float32))
    content = path.read_bytes()
    with raises(IntegrityError, match=f"another key than that from {other}: name the right one", reason="wrong_key"):
        Gallery.open(path, "a" * 64, 4, KeySource(other))
    with raises(IntegrityError, reason="key_missing"):
        Gallery.open(path, "a" * 64, 4, KeySource(tmp_path / "absent"))
    assert path.read_bytes() == content
    with Gallery.open(path, "a" * 64, 4, KeySource(None, ("cat", str(mine)))) as gallery:
        assert names(gallery) == ["ada"]


def test_a_key_is_made_for_a_new_gallery_and_never_where_a_sealed_one_lies(make_bundle, tmp_path):
    folder, key = tmp_path / "state", tmp_path / "keys" / "key"
    bundle = make_bundle()
    assert installer.install(bundle, folder, key=key).key == str(key)
    content = key.read_text()
    installer.install(bundle, folder, key=key)
    assert key.read_text() == content
    key.unlink()
    for _ in range(2):
        with raises(IntegrityError, match="put it back", reason="key_missing"):
            installer.install(bundle, folder, key=key)
        assert not key.exists()
    # nor from elsewhere
    with raises(IntegrityError, reason="key_missing"):
        installer.install(bundle, folder)
    assert not (tmp_path / "home/.config").exists()


def test_the_key_never_comes_to_lie_beside_the_gallery_unless_asked(make_bundle: MakeBundle, tmp_path: Path) -> None:
    installer.install(make_bundle(), tmp_path / "home/.local/state/edge-oneshot")
    assert (tmp_path / "home/.config/edge-oneshot/key").exists()
    assert not list((tmp_path / "home/.local/state/edge-oneshot").rglob("key*"))


def test_faults_of_the_key_end_a_command_with_3_and_those_of_its_command_with_4(
    make_bundle, tmp_path, monkeypatch, capfd
):
    folder, key = tmp_path / "state", tmp_path / "key"
    installer.install(make_bundle(), folder, key=key)
    people = ["people", "--state", str(folder)]
    key.chmod(0o644)
    assert cli.main([*people, "--key", str(key)]) == 3
    assert "chmod 600" in capfd.readouterr().err
    key.chmod(0o600)
    monkeypatch.setenv(keys.COMMAND, f"cat {key}")
    assert cli.main(people) == 0
    monkeypatch.setenv(keys.COMMAND, "false")
    assert cli.main(people) == 4
    monkeypatch.setenv(keys.COMMAND, "print 'it")
    assert cli.main(people) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 2
    assert "internal error" not in captured.err
