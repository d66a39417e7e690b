"""Downloads from a server on this machine that behaves as badly as real ones do."""

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_oneshot.data import download as module
from edge_oneshot.data.download import ATTEMPTS, Remote, download
from edge_oneshot.errors import DataError
from edge_oneshot_device.errors import MachineError
from tests.raising import raises

CONTENT = bytes(range(256)) * 2000
HALF = 1 << 18  # a whole number of the pieces that are written
STEP = 3 << 16


@dataclass
class Server:
    """Answers GET with `answer`, which gets the handler and the first byte asked for."""

    port: int = 0
    ranges: list[str | None] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler, int], None] = lambda handler, start: send(handler, start)

    def remote(self, content: bytes = CONTENT) -> Remote:
        url = f"http://127.0.0.1:{self.port}/folder/file.zip"
        return Remote(url, len(content), hashlib.sha256(content).hexdigest())


def send(
    handler: BaseHTTPRequestHandler,
    start: int,
    *,
    content: bytes = CONTENT,
    ranges: bool = True,
    upto: int | None = None,
) -> None:
    """Send `content` from byte `start`, and break off before byte `upto`."""
    first = start if ranges else 0
    handler.send_response(206 if first else 200)
    handler.send_header("Content-Length", str(len(content) - first))
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    handler.wfile.write(content[first:upto])


def refuse(handler: BaseHTTPRequestHandler, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            state.answer(self, int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        state.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listener.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache/omniglot/file.zip"


def part_of(target: Path) -> Path:
    return target.with_name("file.zip.part")


def test_a_file_arrives_whole_and_once(server: Server, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert download(server.remote(), target) == target
    assert target.read_bytes() == CONTENT
    assert sorted(path.name for path in target.parent.iterdir()) == ["file.zip", "file.zip.lock"]
    download(server.remote(), target)
    assert server.ranges == [None]
    assert capfd.readouterr() == ("", "")  # a bar is for a terminal


def test_a_download_that_breaks_off_goes_on_where_it_was(server: Server, target: Path) -> None:
    server.answer = lambda handler, start: send(handler, start, upto=start + STEP)
    download(server.remote(), target, pause=0)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={STEP}-", f"bytes={2 * STEP}-"]


def test_a_download_that_was_killed_goes_on_where_it_was(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(CONTENT[:HALF])
    download(server.remote(), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"]


def test_a_part_that_is_complete_already_asks_the_server_nothing(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(CONTENT)
    download(server.remote(), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == []


def test_a_server_without_ranges_sends_the_whole_again(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(CONTENT[:HALF])
    server.answer = lambda handler, start: send(handler, start, ranges=False)
    download(server.remote(), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"]


def test_a_part_that_is_too_long_is_fetched_anew(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(CONTENT + b"more")

    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        if start > len(CONTENT):
            refuse(handler, 416)
        else:
            send(handler, start)

    server.answer = answer
    download(server.remote(), target, pause=0)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_wrong_content_is_deleted_and_refused_and_may_be_tried_again(server: Server, target: Path) -> None:
    server.answer = lambda handler, start: send(handler, start, content=CONTENT[::-1])
    with pytest.raises(
        DataError, match=r"file\.zip: is not the expected file \(SHA-256 [0-9a-f]{64}, expected"
    ) as caught:
        download(server.remote(), target)
    assert caught.value.reason == "wrong_digest"
    assert not target.exists()
    assert not part_of(target).exists()
    server.answer = send
    assert download(server.remote(), target).read_bytes() == CONTENT


def test_a_stale_part_is_found_out_by_its_digest(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(b"x" * HALF)
    with pytest.raises(DataError, match="is not the expected file"):
        download(server.remote(), target)
    assert download(server.remote(), target).read_bytes() == CONTENT


def test_content_that_never_ends_is_cut_off(server: Server, target: Path) -> None:
    server.answer = lambda handler, start: send(handler, start, content=CONTENT + b"more")
    with raises(DataError, match=f"more than {len(CONTENT)} bytes", reason="wrong_digest"):
        download(server.remote(), target)
    assert not part_of(target).exists()


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_server_that_is_busy_is_asked_again(server: Server, target: Path, status: int) -> None:
    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        if len(server.ranges) < ATTEMPTS:
            refuse(handler, status)
        else:
            send(handler, start)

    server.answer = answer
    assert download(server.remote(), target, pause=0).read_bytes() == CONTENT
    assert len(server.ranges) == ATTEMPTS


@pytest.mark.parametrize(("status", "requests"), [(503, ATTEMPTS), (404, 1), (403, 1)])
def test_a_server_that_refuses_is_given_up(server: Server, target: Path, status: int, requests: int) -> None:
    server.answer = lambda handler, _: refuse(handler, status)
    with raises(DataError, match=f"cannot be downloaded \\(the server answers {status}\\)", reason="download_failed"):
        download(server.remote(), target, pause=0)
    assert len(server.ranges) == requests
    assert not target.exists()


def test_a_server_that_never_gets_further_is_given_up_and_the_part_is_kept(server: Server, target: Path) -> None:
    server.answer = lambda handler, start: send(handler, start, upto=HALF)
    with raises(DataError, match="cannot be downloaded", reason="download_failed"):
        download(server.remote(), target, pause=0)
    assert len(server.ranges) == 1 + ATTEMPTS
    assert part_of(target).read_bytes() == CONTENT[:HALF]
    assert not target.exists()


def test_a_short_file_that_the_server_calls_whole_is_not_taken(server: Server, target: Path) -> None:
    server.answer = lambda handler, _: send(handler, 0, content=CONTENT[:HALF])
    with pytest.raises(DataError, match="the server breaks off"):
        download(server.remote(), target, pause=0)
    assert not target.exists()


def test_a_server_that_falls_silent_is_not_waited_for_without_end(server, target, monkeypatch):
    done = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        if len(server.ranges) > 1:
            done.set()
            return send(handler, start)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:HALF])
        done.wait()
        return None

    server.answer = answer
    monkeypatch.setattr(module, "TIMEOUT", (1.0, 0.2))
    assert download(server.remote(), target, pause=0).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_without_a_network_one_line_says_where_to_put_the_file(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        remote = Remote(f"http://127.0.0.1:{unused.getsockname()[1]}/file.zip", 3, "0" * 64)
        with pytest.raises(DataError) as caught:
            download(remote, target, pause=0)
    assert str(caught.value) == (
        f"{remote.url}: cannot be downloaded (no connection); try again, or fetch it by hand and put it at {target}"
    )
    assert caught.value.reason == "download_failed"
    assert caught.value.exit_code == 2


def test_a_cache_that_cannot_be_written_is_the_machines_failure(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    with raises(MachineError, match=r"cache.*: cannot be written", reason="cannot_write"):
        download(server.remote(), tmp_path / "cache/omniglot/file.zip")
    assert server.ranges == []


def test_a_full_disk_keeps_what_was_fetched(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with raises(MachineError, match=r"cannot be written \(No space left on device\)", reason="cannot_write"):
        download(server.remote(), target)
    assert not target.exists()


def test_two_at_once_fetch_once(server: Server, target: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(download(server.remote(), target).read_bytes())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert server.ranges == [None]
