"""Signed requests: what a receiver needs to know that a request is from this door, and is not an old one.

The signature is HMAC-SHA256 (RFC 2104) with a secret that door and receiver share, over the timestamp, a full stop and
the body. A receiver computes it anew, compares it in constant time, and refuses timestamps that are too old.
"""

import hashlib
import hmac
import http.client
import ipaddress
import os
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Final

from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.files import read_file
from edge_oneshot_device.gallery.keys import is_credential
from edge_oneshot_device.text import one_line

SIGNATURE_HEADER: Final = "X-Signature"
"""``sha256=`` and the signature in hexadecimal digits."""
TIMESTAMP_HEADER: Final = "X-Timestamp"
"""Seconds since 1970, UTC, as a decimal number: the text that is signed."""

SECRET_BYTES: Final = 32
"""Bytes that a secret has at least."""

_MAX_FILE_BYTES: Final = 4096
_LOCAL_NAMES: Final = (".local", ".home.arpa", ".internal")  # RFC 6762, RFC 8375, and ICANN's own for private use


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a request, as it stands in its header.

    Args:
        secret: As `read_secret` returns it.
        timestamp: As it stands in its header.
        body: All of it.
    """
    return f"sha256={hmac.new(secret, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def read_secret(path: str | os.PathLike[str], least: int = SECRET_BYTES) -> bytes:
    """The secret in a file, without white space around it.

    Args:
        path: The file; only its owner may read it, or systemd passed it as a credential.
        least: Bytes that it has at least.

    Raises:
        IntegrityError: Reason ``secret_missing``, ``secret_exposed`` (others may read the file) or ``secret_short``.
        MachineError: The file cannot be read.
    """
    path = Path(path)
    try:
        content = read_file(path, _MAX_FILE_BYTES).strip()
    except InputError as error:
        raise IntegrityError(f"{error}: it has to hold a secret", reason="secret_missing") from error
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and not is_credential(path):
        message = f"the secret {path} can be read by other users (mode {mode:03o}): replace it, and chmod 600 the file"
        raise IntegrityError(message, reason="secret_exposed")
    if len(content) < least:
        message = f"the secret in {path} has {len(content)} bytes: {least} or more are needed"
        raise IntegrityError(message, reason="secret_short")
    return content


def require_address(url: str) -> None:
    """Check an address that signed requests are sent to.

    It begins with https://, or with http:// and a host that is in a network of one's own by its address (private,
    loopback, link-local) or by its name (localhost, or below .local, .home.arpa or .internal).

    Raises:
        InputError: Reason ``bad_url``.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{url[:80]!a} is no address: {error}", reason="bad_url") from error
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"{url[:80]!a} is no address: give an https:// one", reason="bad_url")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"the address of {host} holds a user: requests are signed, leave it out", reason="bad_url")
    if parts.scheme == "http" and not is_local(host):
        message = f"http:// is refused for {host}, where others read along: use https://, or an address of your network"
        raise InputError(message, reason="bad_url")


def post(url: str, body: bytes, secret: bytes, timeout: float) -> None:
    """Send a signed request, and wait until it is answered with a status of 200 to 299.

    Redirects are not followed, proxies not used, and what is answered is not read.

    Args:
        url: The address, see `require_address`.
        body: JSON.
        secret: As `read_secret` returns it.
        timeout: Seconds without any progress after which it has failed.

    Raises:
        MachineError: Reason ``request_failed``.
    """
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: signature(secret, timestamp, body),
    }
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 (see `require_address`)
    # without a handler of redirects: whoever can answer must not choose where a signed request goes
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=timeout):
            return
    except urllib.error.HTTPError as error:
        error.close()
        fault = f"it answered {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        fault = one_line(str(getattr(error, "reason", error)) or type(error).__name__)[:200]
    host = urllib.parse.urlsplit(url).netloc
    raise MachineError(f"{host} did not take a request: {fault}; check address and receiver", reason="request_failed")


def is_local(host: str) -> bool:
    """Whether a host is in a network of one's own, as `require_address` says.

    Args:
        host: Its name, or its address without brackets.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(_LOCAL_NAMES)
    return address.is_private or address.is_loopback or address.is_link_local
