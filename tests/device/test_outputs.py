"""Outputs that a user names: nothing is written over what is no regular file, an input, a key, or the state folder."""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.gallery import transfer
from edge_oneshot_device.gallery.keys import create_key
from edge_oneshot_device.gallery.transfer import back_up, export_people
from edge_oneshot_device.installation import installer
from edge_oneshot_device.outputs import check_output, check_place
from tests.raising import raises
from tests.samples.folders import content_of
from tests.samples.tiny import MakeBundle, People


def refused(call: Callable[[], object], words: str, reason: str = "bad_output") -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert (caught.value.reason, caught.value.exit_code) == (reason, 2)
    assert "\n" not in str(caught.value)


# the check itself


def test_a_file_that_is_there_is_replaced_and_a_new_one_is_made(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "empty").touch()
    for name in ("old", "new", "empty"):
        check_output(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "old"]


def test_what_is_no_regular_file_is_refused_even_for_root(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("folder", "file", "pipe", "nowhere"):
            (tmp_path / f"to {name}").symlink_to(tmp_path / name)
        (tmp_path / "to null").symlink_to("/dev/null")
        for name, words in {
            "folder": "is a folder: name a file",
            "pipe": "is a pipe",
            "socket": "is a socket",
            "to folder": "is a link: name the file itself",
            "to file": "is a link",
            "to pipe": "is a link",
            "to nowhere": "is a link",
            "to null": "is a link",
        }.items():
            refused(lambda name=name: check_output(tmp_path / name), words)
    refused(lambda: check_output("/dev/null"), "is a device")
    refused(lambda: check_output("/dev/stdout"), "is a link")
    refused(lambda: check_output(""), "is a folder")
    refused(lambda: check_output(f"{tmp_path}/folder/"), "is a folder")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(lambda: check_output(tmp_path / "missing" / "x"), "missing does not exist: make it first", "no_folder")
    refused(lambda: check_output(tmp_path / "file" / "x"), "file does not exist", "no_folder")


def test_an_input_is_known_by_whatever_name_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = tmp_path / "in"
    read.write_bytes(b"read")
    (tmp_path / "hard").hardlink_to(read)
    (tmp_path / "link").symlink_to(read)
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for spelling in (read, "in", "./in", "folder/in", tmp_path / "folder" / ".." / tmp_path.name / "in", "hard"):
        for named in (read, "link", "hard"):
            refused(lambda spelling=spelling, named=named: check_output(spelling, inputs=[None, named]), "reads")
    descriptor = os.open(read, os.O_RDONLY)
    try:
        refused(lambda: check_output("hard", inputs=[f"/proc/self/fd/{descriptor}"]), "reads")
        refused(lambda: check_output(f"/proc/self/fd/{descriptor}", inputs=[read]), "is a link")
    finally:
        os.close(descriptor)
    check_output("other", inputs=[read, "absent", "absent/deeper", None])


def test_two_outputs_that_are_not_there_yet_are_still_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(lambda: check_output("new", inputs=[tmp_path / "here" / "new"]), "also reads or writes")
    check_output("new", inputs=["newer"])


def test_nothing_in_a_folder_that_is_read_is_replaced_but_new_files_may_lie_there(tmp_path: Path) -> None:
    (tmp_path / "people" / "ada").mkdir(parents=True)
    (tmp_path / "people" / "ada" / "1.png").write_bytes(b"an image")
    (tmp_path / "link").symlink_to(tmp_path / "people")
    for spelling in ("people", "link"):
        where = tmp_path / spelling / "ada"
        refused(lambda where=where: check_output(where / "1.png", folders=[tmp_path / "people"]), "command reads")
        check_output(where / "new.png", folders=[tmp_path / "people", None])


@pytest.mark.parametrize(
    "content", [b"0a" * 32, b"0A" * 32 + b"\n", b" " + b"ff" * 32 + b" \n", b"-----BEGIN PRIVATE KEY-----\nMC4CAQ"]
)
def test_a_key_is_never_replaced_whoever_it_belongs_to(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    refused(lambda: check_output(tmp_path / "file", backup=True), "holds a key, which is never overwritten")
    (tmp_path / "file").write_bytes(content[:-10] + b"!" * 10 if b"KEY" not in content else b"-----BEGIN CERTIFICATE")
    check_output(tmp_path / "file")


def test_a_database_is_replaced_by_a_backup_alone_and_by_that_only_where_it_is_a_gallery(tmp_path: Path) -> None:
    header = b"SQLite format 3\0" + bytes(52)
    (tmp_path / "gallery").write_bytes(header + b"EOSG" + bytes(28))
    (tmp_path / "other").write_bytes(header + bytes(32))
    check_output(tmp_path / "gallery", backup=True)
    refused(lambda: check_output(tmp_path / "gallery"), "holds a database")
    for backup in (True, False):
        refused(lambda backup=backup: check_output(tmp_path / "other", backup=backup), "holds a database")


def test_names_beside_the_key_are_kept_for_former_keys(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"no key, and yet named as one")
    (tmp_path / "other").mkdir()
    refused(lambda: check_output(tmp_path / "key", key=tmp_path / "key"), "command also reads")
    for name in ("key.new", "key.former", "key.0123456789abcdef"):
        refused(lambda name=name: check_output(tmp_path / name, key=tmp_path / "key"), "reserved for former keys")
        check_output(tmp_path / "other" / name, key=tmp_path / "key")
    check_output(tmp_path / "keyring", key=tmp_path / "key")


def test_a_file_that_nobody_may_look_at_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(MachineError, match=r"cannot read .*file, which would be replaced: Permission denied"):
        check_output(tmp_path / "file")


def test_a_folder_that_this_user_may_not_write_in_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with raises(MachineError, match="this user may not write in", reason="cannot_write"):
        check_output(tmp_path / "file")


def test_a_check_before_the_rename_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def swapped() -> None:
        path.unlink()
        os.mkfifo(path)
        check_output(path)

    refused(lambda: write_atomically(path, b"new", check=swapped), "is a pipe")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert stat.S_ISFIFO(path.stat().st_mode)


# the program


@pytest.fixture
def state(tmp_path: Path, make_bundle: MakeBundle, people: People, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with one person enrolled; its key, and a transfer key, lie beside it."""
    folder = tmp_path / "state"
    create_key(tmp_path / "own" / "key")
    create_key(tmp_path / "own" / "transfer")
    monkeypatch.setenv("EDGE_ONESHOT_STATE", str(folder))
    monkeypatch.setenv("EDGE_ONESHOT_KEY", str(tmp_path / "own" / "key"))
    installer.install(make_bundle(), folder)
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", people["ada"][0])
    return folder


@pytest.fixture
def outputs(state: Path, tmp_path: Path) -> dict[str, Path]:
    """Every path that no command may write to, by a word for it."""
    own = tmp_path / "own"
    (own / "other").mkdir()
    shutil.copytree(state, own / "other state")
    os.mkfifo(own / "pipe")
    (own / "folder").mkdir()
    (own / "dangling").symlink_to(own / "nowhere")
    found = {
        "the key": own / "key",
        "the transfer key": own / "transfer",
        "a pipe": own / "pipe",
        "a folder": own / "folder",
        "a dangling link": own / "dangling",
        "a new file in the state": state / "copy",
        "a new file among the bundles": state / "bundles" / "copy",
        "another state": own / "other state" / "gallery.db",
        "a new file in another state": own / "other state" / "copy",
    }
    for file in [*state.iterdir(), *(state / "bundles").iterdir()]:
        if file.is_file():
            found[f"{file.name} of the state"] = file
    for number, (name, file) in enumerate(list(found.items())):
        if file.is_file() and not name.startswith("another state"):
            found[f"a link to {name}"], found[f"a hard link to {name}"] = own / f"link {number}", own / f"hard {number}"
            (own / f"link {number}").symlink_to(file)
            (own / f"hard {number}").hardlink_to(file)
    with contextlib.suppress(PermissionError):  # root alone makes devices; not the real /dev/null, should this fail
        os.mknod(own / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        found["a device"] = own / "null"
    return found


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main([*map(str, arguments), "--json"])
    printed = capfd.readouterr()
    return code, json.loads(printed.err)["reason"] if code > 1 else printed.out


@pytest.mark.parametrize(
    "command",
    [["backup", "FILE"], ["people", "export", "FILE"], ["people", "export", "FILE", "--transfer-key", "own/transfer"]],
)
def test_no_copy_takes_the_place_of_what_cannot_be_made_again(command, outputs, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = content_of(tmp_path)
    told = {name: run(capfd, *(file if word == "FILE" else word for word in command)) for name, file in outputs.items()}
    assert {name: answer for name, answer in told.items() if answer != (2, "bad_output")} == {}
    after = content_of(tmp_path)
    # the audit trail does not even say that a copy was begun
    assert after == before


def test_a_transfer_key_that_is_to_be_made_is_not_the_file_of_people(state, tmp_path, capfd):
    both = tmp_path / "both"
    assert run(capfd, "people", "export", both, "--transfer-key", both) == (2, "bad_output")
    assert not both.exists()
    assert run(capfd, "people", "export", both, "--transfer-key", tmp_path / "fresh")[0] == 0
    assert run(capfd, "people", "export", tmp_path / "fresh", "--transfer-key", tmp_path / "fresh")[0] == 2
    assert (tmp_path / "fresh").read_bytes() != both.read_bytes()
    assert state.exists()


def test_a_new_key_is_not_made_where_files_of_the_state_come_and_go(state, tmp_path, capfd):
    before = content_of(tmp_path)
    (tmp_path / "bundles").symlink_to(state / "bundles")
    for file in (state / "bundles" / "new", tmp_path / "bundles" / "new", state / "gallery.db-journal"):
        assert run(capfd, "rotate-key", "--new-key", file) == (2, "bad_output")
        assert run(capfd, "people", "export", tmp_path / "people", "--transfer-key", file) == (2, "bad_output")
    (tmp_path / "bundles").unlink()
    assert content_of(tmp_path) == before
    assert run(capfd, "rotate-key", "--new-key", state / "new")[0] == 0


def test_the_first_init_does_not_make_its_key_where_it_would_be_removed_again(make_bundle, tmp_path, capfd):
    bundle, state = make_bundle(), tmp_path / "deep" / "state"
    for key in (state / "bundles" / "key", state / "reserve", state / "gallery.db"):
        assert run(capfd, "init", bundle, "--state", state, "--key", key) == (2, "bad_output")
    assert not state.exists()
    for _ in range(2):
        assert run(capfd, "init", bundle, "--state", state, "--key", state / "key")[0] == 0
    assert run(capfd, "people", "--state", state, "--key", state / "key")[0] == 0


def test_a_backup_and_a_file_of_people_replace_those_of_before(state, tmp_path, capfd):
    for _ in range(2):
        assert run(capfd, "backup", tmp_path / "copy")[0] == 0
        assert run(capfd, "people", "export", tmp_path / "people")[0] == 0
    assert run(capfd, "people", "export", tmp_path / "copy") == (2, "bad_output")
    assert state.exists()


@pytest.mark.parametrize("act", [back_up, lambda gallery, file: export_people(gallery, file, bytes(range(32)))])
def test_the_output_is_looked_at_again_before_the_rename(act, state, tmp_path, monkeypatch):
    file, calls = tmp_path / "copy", []

    def check(path: Path, **how: object) -> None:
        calls.append(path)
        if len(calls) > 1:
            create_key(file)
        check_output(path, **how)

    monkeypatch.setattr(transfer, "check_output", check)
    with Recognizer.open(state) as recognizer:
        refused(lambda: act(recognizer.gallery, file), "holds a key")
    assert calls == [file, file]
    assert len(file.read_bytes()) == 65
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("part", ["", "bundles"])
def test_a_state_folder_that_is_mounted_elsewhere_is_still_the_state_folder(part, state, tmp_path, capfd):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if os.geteuid() or subprocess.run(["mount", "--bind", state / part, elsewhere], check=False).returncode:
        pytest.skip("this user may not mount")
    capfd.readouterr()
    try:
        for name in ("new", "gallery.db"):
            assert run(capfd, "backup", elsewhere / name) == (2, "bad_output")
        names = sorted(path.name for path in elsewhere.iterdir())
    finally:
        subprocess.run(["umount", elsewhere], check=True)
    assert names == sorted(path.name for path in (state / part).iterdir())


def test_a_state_folder_is_known_by_its_content(state: Path, tmp_path: Path) -> None:
    (tmp_path / "usb" / "bundles").mkdir(parents=True)
    shutil.copy(tmp_path / "tiny.oneshot", tmp_path / "usb" / "bundles")
    check_output(tmp_path / "usb" / "gallery.db")
    shutil.copy(state / "gallery.db", tmp_path / "usb" / "gallery.db")
    check_output(tmp_path / "usb" / "gallery.db", backup=True)
    check_place(tmp_path / "usb" / "bundles" / "new.oneshot")
    refused(lambda: check_place(state / "bundles" / "new.oneshot"), "is in a state folder")
    refused(lambda: check_place(state / "deep" / "er"), "is in a state folder")


# every option of every command is known to be an output, an input or neither

OUTPUTS = {("backup", "file"), ("people", "file"), ("people", "transfer_key"), ("rotate-key", "new_key"),
           ("init", "key"), ("door", "config")}  # fmt: skip
INPUTS = {
    *((name, "state") for name in cli._COMMANDS if cli._COMMANDS[name].has_state),
    *((name, "key") for name in cli._COMMANDS if cli._COMMANDS[name].has_state and name != "init"),
    *(("init", name) for name in ("bundle", "trust")),
    *(("enrol", name) for name in ("files", "folder")),
    *((name, "file") for name in ("verify", "identify")),
    *((name, "microphone") for name in ("enrol", "verify", "identify")),
    ("bench", "image"),
    *(("restore", name) for name in ("file", "backup_key")),
    *(("inspect", name) for name in ("bundle", "other")),
    ("bench", "what"),
    *((name, "config") for name in ("run", "doctor")),
}
NEITHER = {
    *((name, option) for name in ("init", "bench") for option in ("variant", "runtime", "threads")),
    *(("init", option) for option in ("allow_cpu", "target_far", "keep_photos", "rejections_per_minute", "re_enrol")),
    ("init", "empty"),
    ("init", "take_over"),
    *((name, "person") for name in ("enrol", "access", "verify", "forget", "unlock", "pin")),
    ("pin", "remove"),
    *((name, option) for name in ("enrol", "access") for option in ("valid_from", "valid_until", "hours")),
    ("access", "always"),
    *((name, "scores") for name in ("verify", "identify")),
    ("rotate-key", "drop_former"),
    *(("enrol", option) for option in ("add", "replace", "even_if_alike")),
    ("people", "action"),
    *(("audit", option) for option in ("check", "head", "export", "keep_days", "against", "last")),
    ("bench", "runs"),
    ("lookalikes", "limit"),
    ("rotate-key", "drop_former"),
    ("verify", "scores"),
    ("identify", "scores"),
    ("inspect", "all"),
    ("door", "action"),
    ("run", "show"),
    ("run", "demo"),
}


def test_it_is_known_of_every_option_whether_it_names_an_output() -> None:
    options = set()
    for name in cli._COMMANDS:
        parser = cli.make_parser()
        (chosen,) = (action for action in parser._actions if action.dest == "==SUPPRESS==" and action.choices)
        for action in chosen.choices[name]._actions:
            if action.dest not in ("help", "json"):
                options.add((name, action.dest))
    assert options == OUTPUTS | INPUTS | NEITHER, "classify the new option, and try it above if it names an output"
    assert not OUTPUTS & INPUTS
