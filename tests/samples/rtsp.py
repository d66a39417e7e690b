"""A camera in the network that shows what it is told and can be unplugged: JPEG frames (RFC 2435) by RTSP (RFC 2326).

It sends them over the connection of the requests, as OpenCV asks for.
"""

import io
import itertools
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Self

from PIL import Image

RATE: Final = 10.0  # frames a second
_JPEG: Final = 26  # payload type of RTP
_FRAGMENT: Final = 8000  # bytes of a frame in one packet
_CLOCK: Final = 90_000  # of the time stamps, a second


class _Jpeg:
    """A frame, as RFC 2435 takes it apart: tables, and the scan without its headers.

    Args:
        image: Sides are multiples of 8.
    """

    def __init__(self, image: Image.Image) -> None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90, subsampling=2)
        data, place, tables = file.getvalue(), 2, b""
        self.size = image.width // 8, image.height // 8
        while True:
            marker, length = struct.unpack_from(">HH", data, place)
            content = data[place + 4 : place + 2 + length]
            if marker == 0xFFDB:
                tables += b"".join(content[at + 1 : at + 65] for at in range(0, len(content), 65))
            place += 2 + length
            if marker == 0xFFDA:
                break
        self.tables, self.scan = tables, data[place:-2]

    def packets(self, number: int, stamp: int) -> list[bytes]:
        """The packets of RTP, the first with this sequence number."""
        packets = []
        for offset in range(0, len(self.scan), _FRAGMENT):
            last = offset + _FRAGMENT >= len(self.scan)
            sequence = (number + len(packets)) & 0xFFFF
            head = struct.pack(">BBHII", 0x80, _JPEG | (0x80 if last else 0), sequence, stamp & 0xFFFFFFFF, 1)
            head += struct.pack(">I", offset) + bytes([1, 255, *self.size])  # 4:2:0, tables in the first packet
            if offset == 0:
                head += struct.pack(">HH", 0, len(self.tables)) + self.tables
            packets.append(head + self.scan[offset : offset + _FRAGMENT])
        return packets


class RtspCamera:
    """Shows one of its pictures, again and again; a context manager that unplugs it.

    Args:
        pictures: By name; the first one is shown first.
        answers: False takes connections and never answers.

    Attributes:
        shown: The name of the picture that it shows now.
        silent: Whether it sends no frames although it is connected.
        taken: How many connections it has taken.
        port: Where it listens, at 127.0.0.1.
    """

    def __init__(self, pictures: Mapping[str, Image.Image], *, answers: bool = True) -> None:
        self._frames = {name: _Jpeg(picture) for name, picture in pictures.items()}
        self.shown, self.silent, self._answers = next(iter(pictures)), False, answers
        self.port = self.taken = 0
        self._listener: socket.socket | None = None
        self._links: set[socket.socket] = set()
        self.plug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    @property
    def url(self) -> str:
        """Its address, with a password."""
        return f"rtsp://user:secret@127.0.0.1:{self.port}/stream"

    @property
    def is_away(self) -> bool:
        """Whether it is unplugged."""
        return self._listener is None

    def plug(self) -> None:
        """Be there, at the same port as before."""
        self.silent = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()

    def unplug(self) -> None:
        """Be away: connections end, and nobody answers any more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for link in list(self._links):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            if not self._answers:  # else the thread that serves it closes it
                link.close()

    def _listen(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                link, _ = listener.accept()
                self.taken += 1
                self._links.add(link)
                if self._answers:
                    threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError, ValueError), link, link.makefile("rb") as lines:
            while True:
                request = lines.readline().decode()
                if not request:
                    break
                fields = {}
                while line := lines.readline().decode().strip():
                    name, _, value = line.partition(":")
                    fields[name.lower()] = value.strip()
                link.sendall(self._answer(request, fields))
                if request.startswith("PLAY"):
                    self._play(link)
        self._links.discard(link)

    def _answer(self, request: str, fields: Mapping[str, str]) -> bytes:
        head, body = [f"CSeq: {fields.get('cseq', '0')}", "Session: 1;timeout=600"], ""
        if request.startswith("OPTIONS"):
            head.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif request.startswith("DESCRIBE"):
            media = f"m=video 0 RTP/AVP {_JPEG}\r\na=framerate:{RATE:g}\r\na=control:video\r\n"
            body = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n{media}"
            head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif request.startswith("SETUP"):
            head.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return "\r\n".join(["RTSP/1.0 200 OK", *head, "", body]).encode()

    def _play(self, link: socket.socket) -> None:
        """Send frames until the connection ends."""
        began, number = time.monotonic(), 0
        for frame in itertools.count():
            time.sleep(max(0.0, began + frame / RATE - time.monotonic()))
            if self.silent:
                continue
            packets = self._frames[self.shown].packets(number, round((time.monotonic() - began) * _CLOCK))
            number += len(packets)
            link.sendall(b"".join(struct.pack(">BBH", 0x24, 0, len(packet)) + packet for packet in packets))
