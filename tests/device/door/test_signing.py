"""Signed requests: the signature, the secret's file, the addresses that they go to, and the request itself."""

import hmac
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_oneshot_device.door import signing
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from tests.raising import raises

SECRET = b"0123456789abcdef0123456789abcdef"


def write_secret(path: Path, content: bytes = SECRET + b"\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


class Receiver(HTTPServer):
    """Answers every request with the same status, and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.location = 204, ""
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/door"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.received.append((dict(self.headers), body))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_signature_is_the_hmac_over_timestamp_full_stop_and_body() -> None:
    # from: printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    expected = "sha256=417adf36b901772f658597a76d329694e335e65fc0849d7715c3ca33406309b5"
    assert signing.signature(SECRET, "1700000000", b"{}") == expected


def test_a_secret_is_read_without_the_line_s_end(tmp_path: Path) -> None:
    assert signing.read_secret(write_secret(tmp_path / "secret")) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o602])
def test_a_secret_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_secret(tmp_path / "secret", mode=mode)
    with raises(IntegrityError, match=f"mode {mode:03o}", reason="secret_exposed"):
        signing.read_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_secret_that_systemd_passed_may_have_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_secret(tmp_path / "secret", mode=0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert signing.read_secret(path) == SECRET


def test_a_short_secret_is_refused_unless_it_may_be_short(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "secret", b"  " + SECRET[:31] + b"  \n")
    with raises(IntegrityError, match="31 bytes: 32 or more", reason="secret_short"):
        signing.read_secret(path)
    assert signing.read_secret(path, 1) == SECRET[:31]
    with raises(IntegrityError, match="0 bytes: 1 or more", reason="secret_short"):
        signing.read_secret(write_secret(path, b"\n"), 1)


def test_a_missing_secret_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with raises(IntegrityError, match="has to hold a secret", reason="secret_missing"):
            signing.read_secret(path)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/door",
        "https://example.org:8443/door?token=1",
        "http://localhost:8123/api",
        "http://homeassistant.local/api",
        "http://192.168.1.5/api",
        "http://10.0.0.1:80",
        "http://[::1]:8080/",
        "http://[fd00::1]/",
        "http://169.254.1.1/",
    ],
)
def test_https_is_taken_anywhere_and_http_in_a_network_of_one_s_own(url: str) -> None:
    signing.require_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https://",
        "https://user:password@example.org/",
        "http://user@127.0.0.1/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://example.org/a b",
        "https://example.org/\r\nX: y",
        "https://ex\u00e4mple.org/",
        "http://example.org/",
        "http://8.8.8.8/",
        "http://local/",
        "http://example.local.org/",
        "http://0x7f000001.example/",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with raises(InputError, reason="bad_url"):
        signing.require_address(url)


def test_a_request_is_signed_so_that_its_receiver_can_check_it(receiver: Receiver) -> None:
    signing.post(receiver.url, b'{"id": 1}', SECRET, 5)
    [(headers, body)] = receiver.received
    assert headers["Content-Type"] == "application/json"
    signed = headers["X-Timestamp"].encode() + b"." + body
    assert headers["X-Signature"] == "sha256=" + hmac.new(SECRET, signed, "sha256").hexdigest()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.location = status, receiver.url
    with raises(MachineError, match=f"answered {status}", reason="request_failed"):
        signing.post(receiver.url, b"{}", SECRET, 5)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_a_refusal_is_an_error(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with raises(MachineError, match=f"answered {status}", reason="request_failed"):
        signing.post(receiver.url, b"{}", SECRET, 5)


def test_no_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    signing.post(receiver.url, b"{}", SECRET, 5)
    assert len(receiver.received) == 1


def test_a_receiver_that_is_away_is_an_error_that_names_it(receiver: Receiver) -> None:
    receiver.server_close()
    with raises(MachineError, match=rf"127.0.0.1:{receiver.server_port} did not take", reason="request_failed"):
        signing.post(receiver.url, b"{}", SECRET, 5)
