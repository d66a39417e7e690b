"""Download of a file of known SHA-256: completely or not at all, and resumed after an interruption."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from edge_oneshot.errors import DataError
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.files import sync_folder

ATTEMPTS = 4  # in a row that bring no new byte
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of content
_PIECE = 1 << 14


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on the web.

    Attributes:
        url: Its address.
        bytes: Its size.
        sha256: Its digest, in hexadecimal.
    """

    url: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


def download(remote: Remote, target: Path, *, pause: float = 1.0) -> Path:
    """Download `remote` to `target`, which appears when it is complete and its SHA-256 is right.

    Until then the content is in ``TARGET.part``, from which a later call resumes. Of two processes that download the
    same file, the second waits.

    Args:
        remote: What to download.
        target: Path of the file; missing folders are made.
        pause: Seconds before the second attempt, doubled before each further one.

    Returns:
        `target`.

    Raises:
        DataError: Reason ``download_failed``: the server cannot be reached, refuses, or breaks off repeatedly;
            ``wrong_digest``: it sent another content.
        MachineError: Reason ``cannot_write``: the disk does not allow it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            if not target.is_file():
                part = target.with_name(f"{target.name}.part")
                _fetch(remote, part, target, pause)
                _check_digest(remote, part)
                part.rename(target)
                sync_folder(target.parent)
    except requests.RequestException as error:  # an OSError too, but not the disk's
        raise _failed(remote, target, _in_words(error)) from error
    except OSError as error:
        raise MachineError(
            f"{error.filename or target}: cannot be written ({error.strerror}); free space or change its rights",
            reason="cannot_write",
        ) from error
    return target


def _fetch(remote: Remote, part: Path, target: Path, pause: float) -> None:
    """Grow `part` to the full size, over as many requests as that takes."""
    fruitless = 0
    with _progress(remote) as report:
        while (done := _size(part)) != remote.bytes:
            problem = _continue(remote, part, done, report)
            fruitless = 0 if _size(part) > done else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise _failed(remote, target, problem)
            if fruitless:
                time.sleep(pause * 2 ** (fruitless - 1))


def _continue(remote: Remote, part: Path, done: int, report: Callable[[int], None]) -> str:
    """Request the missing bytes once; returns why the request ended early, if it did."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink(missing_ok=True)
            if response.status_code >= 500 or response.status_code in (408, 416, 429):
                return f"the server answers {response.status_code}"
            response.raise_for_status()
            # a server without support for ranges sends the whole file again
            resumed = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
            with part.open("ab" if resumed else "wb") as file:
                fetched = file.tell()
                for piece in response.iter_content(_PIECE):
                    fetched += len(piece)
                    if fetched > remote.bytes:
                        part.unlink()
                        raise _unexpected(remote, f"more than {remote.bytes} bytes")
                    file.write(piece)
                    report(fetched)
                file.flush()
                os.fsync(file.fileno())
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        return _in_words(error)
    return "the server breaks off"


def _check_digest(remote: Remote, part: Path) -> None:
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != remote.sha256:
        part.unlink()
        raise _unexpected(remote, f"SHA-256 {digest}, expected {remote.sha256}")


def _unexpected(remote: Remote, what: str) -> DataError:
    return DataError(
        f"{remote.url}: is not the expected file ({what}); it was deleted, try again", reason="wrong_digest"
    )


def _failed(remote: Remote, target: Path, why: str) -> DataError:
    return DataError(
        f"{remote.url}: cannot be downloaded ({why}); try again, or fetch it by hand and put it at {target}",
        reason="download_failed",
    )


def _in_words(error: requests.RequestException) -> str:
    """The cause of an error in a few words."""
    if error.response is not None:
        return f"the server answers {error.response.status_code}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    return "no connection"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(remote: Remote) -> Iterator[Callable[[int], None]]:
    """A bar on stderr if it is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(remote.name, total=remote.bytes)
        yield lambda fetched: bar.update(task, completed=fetched)
