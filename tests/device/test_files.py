"""Whole files: a write is complete or did not happen, a read is refused in one line."""

import errno
import os
import stat
from pathlib import Path

import pytest

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.files import read_file, write_atomically
from tests.raising import raises


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"\0one\n")
    assert read_file(path, 5) == b"\0one\n"
    write_atomically(str(path), b"")
    assert read_file(str(path), 0) == b""


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "public", b"x")
        write_atomically(tmp_path / "private", b"x", mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_failing_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with raises(MachineError, match="No space left on device", reason="cannot_write"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_and_folder_are_synced_in_this_order_around_the_rename(tmp_path, monkeypatch):
    path = tmp_path / "file"
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(Path(f"/proc/self/fd/{fd}").readlink()), fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda old, new: (events.append("rename"), replace(old, new))[1])
    write_atomically(path, b"x")
    assert events[1:] == ["rename", tmp_path]
    assert events[0].parent == tmp_path


def test_a_folder_or_a_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (tmp_path, pipe, Path("/dev/null")):
        with raises(MachineError, match=str(target), reason="cannot_write"):
            write_atomically(target, b"x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_writing_into_a_missing_folder_is_one_line(tmp_path):
    with raises(MachineError, match="No such file or directory", reason="cannot_write"):
        write_atomically(tmp_path / "missing" / "file", b"x")


def test_what_is_not_there_is_not_found(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "missing", tmp_path / "file" / "below"):
        with raises(InputError, match="does not exist", reason="not_found"):
            read_file(path, 10)


def test_a_folder_and_a_pipe_without_a_writer_are_no_files(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with raises(InputError, reason="not_a_file"):
            read_file(path, 10)


def test_a_file_over_the_limit_is_refused_and_one_at_the_limit_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (1 << 20))
    assert len(read_file(path, 1 << 20)) == 1 << 20
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with raises(InputError, match="larger than 1 MiB", reason="file_too_large"):
        read_file(path, 1 << 20)
    with pytest.raises(InputError, match="larger than 64 KiB"):
        read_file(path, 64 << 10)


def test_a_file_that_cannot_be_read_is_the_machines_failure():
    # The first page of a process is never mapped: a read error that even root gets.
    with raises(MachineError, match="Input/output error", reason="cannot_read"):
        read_file("/proc/self/mem", 10)


def test_a_pipe_that_takes_the_place_of_a_file_before_it_is_opened_does_not_hold_the_command_up(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    look = os.stat

    def swapped(*arguments: object, **keywords: object) -> os.stat_result:
        status = look(*arguments, **keywords)
        path.unlink()
        os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", swapped)
    with raises(InputError, reason="not_a_file"):
        read_file(path, 5)
