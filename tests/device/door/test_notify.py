"""What systemd is told, over a socket with a path or an abstract name."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_oneshot_device.door import notify


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(name if request.param == "path" else f"\0{name}")
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "path" else f"@{name}")
        yield listening


def test_systemd_is_told_what_it_asks_for(systemd: socket.socket) -> None:
    notify.ready("idle")
    notify.alive()
    notify.alive("unlocked")
    notify.stopping()
    assert [systemd.recv(1000) for _ in range(4)] == [
        b"READY=1\nSTATUS=idle",
        b"WATCHDOG=1",
        b"WATCHDOG=1\nSTATUS=unlocked",
        b"STOPPING=1",
    ]


def test_a_status_is_one_line_that_can_say_nothing_else(systemd: socket.socket) -> None:
    notify.alive("fault\nMAINPID=1 " + "x" * 1000)
    lines = systemd.recv(5000).split(b"\n")
    assert len(lines) == 2
    assert lines[1].startswith(b"STATUS=fault MAINPID=1 xxx")
    assert len(lines[1]) <= 7 + 200


def test_systemd_that_does_not_listen_holds_nothing_up(systemd: socket.socket) -> None:
    for _ in range(10_000):  # far more than the socket takes
        notify.alive()
    systemd.close()
    notify.alive()


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/notify", "@nobody-listens"])
def test_without_systemd_nothing_is_told_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.ready()
    notify.alive()
    notify.stopping()


@pytest.mark.parametrize(
    ("seconds", "process", "expected"),
    [
        ("10000000", None, 10.0),
        ("10000000", "own", 10.0),
        ("10000000", "1", None),
        ("0", None, None),
        ("x", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_s_time_is_what_systemd_says(
    monkeypatch: pytest.MonkeyPatch, seconds: str | None, process: str | None, expected: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", seconds), ("WATCHDOG_PID", process)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert notify.watchdog_seconds() == expected
