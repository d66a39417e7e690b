"""A camera in the network: a small RTSP server (RFC 2326) that sends JPEG frames (RFC 2435) over its connection."""

import io
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from PIL import Image

_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=door\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:video\r\n"
_CLOCK = 90_000  # of RTP's time stamps, a second
_MOST = 1400  # bytes of a frame in a packet


class RtspCamera:
    """Serves a grey level that rises by one from frame to frame; a context manager.

    Args:
        port: 0 takes any.
        silent: Takes connections and never answers.
    """

    def __init__(self, port: int = 0, *, silent: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"rtsp://user:secret@127.0.0.1:{self.port}/stream"
        self._silent, self._open, self._connections, self._threads = silent, True, [], []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for one in (self._listener, *self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        for thread in self._threads:
            thread.join(10.0)
        for one in (self._listener, *self._connections):
            one.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=run, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while self._open:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            if not self._silent:
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection.makefile("r", encoding="ascii", newline="\r\n") as lines:
            while request := "".join(iter(lambda: lines.readline(), "\r\n")):
                number = re.search(r"CSeq: (\d+)", request)
                assert number is not None
                method, body, more = request.split()[0], "", ""
                if method == "DESCRIBE":
                    body, more = _SDP, f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n"
                elif method == "SETUP":
                    more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                answer = f"RTSP/1.0 200 OK\r\nCSeq: {number[1]}\r\nSession: 1\r\n{more}\r\n{body}"
                connection.sendall(answer.encode())
                if method == "PLAY":
                    self._play(connection)

    def _play(self, connection: socket.socket) -> None:
        sequence, start = 0, time.monotonic()
        for level in range(1, 10_000):
            if not self._open:
                return
            frame = _jpeg(level % 200)
            stamp = round(_CLOCK * (time.monotonic() - start)) % 2**32
            for offset in range(0, len(frame), _MOST):
                part, last = frame[offset : offset + _MOST], offset + _MOST >= len(frame)
                header = struct.pack(">BBHII", 0x80, 26 | last << 7, sequence % 2**16, stamp, 1)
                header += struct.pack(">II", offset, 1 << 24 | 75 << 16 | 160 // 8 << 8 | 120 // 8)
                connection.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(part)) + header + part)
                sequence += 1
            time.sleep(0.02)


def _jpeg(level: int) -> bytes:
    """The scan of a grey frame of 160 x 120 pixels, of quality 75 and with the standard tables."""
    file = io.BytesIO()
    Image.new("RGB", (160, 120), (level, level, level)).save(file, "JPEG", quality=75, subsampling=2)
    content = file.getvalue()
    place = content.index(b"\xff\xda")
    return content[place + 2 + int.from_bytes(content[place + 2 : place + 4]) :]
