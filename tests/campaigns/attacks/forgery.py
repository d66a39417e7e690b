"""Attacks on the signature."""

import hashlib
import json
import random

from edge_oneshot_device.bundle.manifest import MANIFEST_NAME
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME, Signature, encode_signature, signed_bytes
from tests.campaigns.attacks.subject import MIB, Entry, Subject, laid_out, public, rewritten, signature, zipped

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group of Ed25519


def resigned(subject: Subject, rng: random.Random) -> bytes:
    """The same bundle without a signature, or with a stranger's."""
    text = subject.files[MANIFEST_NAME]
    signed = rng.choice(({}, {SIGNATURE_NAME: signature(text, subject.stranger)}))
    return laid_out({MANIFEST_NAME: text, **signed, **subject.members})


def transplanted(subject: Subject, rng: random.Random) -> bytes:
    """The maker's signature, but of another bundle, over this one or an altered one."""
    plain = subject.manifest
    plain["provenance"]["seed"] = rng.getrandbits(30)
    text, bound = rng.choice((
        (subject.files[MANIFEST_NAME], subject.foreign),
        (json.dumps(plain).encode(), subject.foreign),
        (json.dumps(plain).encode(), subject.files[SIGNATURE_NAME]),
    ))  # fmt: skip
    return laid_out({MANIFEST_NAME: text, SIGNATURE_NAME: bound, **subject.members})


def key_swapped(subject: Subject, rng: random.Random) -> bytes:
    """The one's key beside the other's signature."""
    text, key, stranger = subject.files[MANIFEST_NAME], subject.key, subject.stranger
    named, signing = rng.choice(((key, stranger), (stranger, key)))
    plain = subject.manifest
    plain["provenance"]["seed"] = rng.getrandbits(30)
    text = rng.choice((text, json.dumps(plain).encode()))
    made = Signature(public(named), signing.sign(signed_bytes(text)).hex())
    return laid_out({MANIFEST_NAME: text, SIGNATURE_NAME: encode_signature(made), **subject.members})


def forged(subject: Subject, rng: random.Random) -> bytes:
    """Numbers that a lax verification would take: a multiple of the order more, points of small order, no prefix."""
    text, key = subject.files[MANIFEST_NAME], subject.key
    raw = key.sign(signed_bytes(text))
    response = int.from_bytes(raw[32:], "little")
    small = rng.choice(
        ("01" + "00" * 31, "00" * 32, "ec" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f", "00" * 31 + "80")
    )
    flipped = bytearray(raw)
    flipped[rng.randrange(64)] ^= 1 << rng.randrange(8)
    identity = ("01" + "00" * 31) + "00" * 32
    made = rng.choice((
        Signature(public(key), (raw[:32] + (response + ORDER).to_bytes(32, "little")).hex()),
        Signature(public(key), bytes(flipped).hex()),
        Signature(public(key), rng.choice((bytes(64), b"\xff" * 64, rng.randbytes(64), raw[32:] + raw[:32])).hex()),
        Signature(public(key), key.sign(text).hex()),
        Signature(public(key), key.sign(hashlib.sha256(signed_bytes(text)).digest()).hex()),
        Signature(public(key), identity),
        Signature(small, identity),
        Signature(small, small + "00" * 32),
        Signature(small, raw.hex()),
    ))  # fmt: skip
    return laid_out(subject.files | {SIGNATURE_NAME: encode_signature(made)})


def misspelt(subject: Subject, rng: random.Random) -> bytes:
    """The true signature, written otherwise."""
    bound = subject.files[SIGNATURE_NAME]
    key, signed = (json.loads(bound)[name] for name in ("key", "signature"))
    written = rng.choice((
        lambda: b"", lambda: b"{}", lambda: b"null", lambda: b"[" + bound + b"]", lambda: bound + b"\n",
        lambda: b" " + bound, lambda: bound + bound, lambda: bound[: rng.randrange(len(bound))],
        lambda: bound.replace(b":", b": "), lambda: json.dumps({"signature": signed, "key": key}).encode(),
        lambda: bound.replace(key.encode(), key.upper().encode()),
        lambda: bound.replace(signed.encode(), signed.upper().encode()),
        lambda: bound.replace(b'"key"', b'"k\\u0065y"'), lambda: bound[:-1] + b',"key":"' + key.encode() + b'"}',
        lambda: bound[:-1] + b',"algorithm":"none"}', lambda: bound.replace(b'"' + signed.encode() + b'"', b"null"),
        lambda: bytes.fromhex(signed), lambda: b"\xef\xbb\xbf" + bound, lambda: bound.decode().encode("utf-16"),
        lambda: b"[" * rng.choice((100, 10**6)), lambda: bound.ljust(rng.choice((1 << 12, 8 * MIB))),
        lambda: b'{"key":"' + b"0" * (8 * MIB) + b'","signature":""}',
    ))()  # fmt: skip
    return laid_out(subject.files | {SIGNATURE_NAME: written})


def misplaced(subject: Subject, rng: random.Random) -> bytes:
    """The true signature at another place, under another name, or listed by the manifest as a member."""
    files = dict(subject.files)
    bound = files.pop(SIGNATURE_NAME)
    if rng.random() < 0.5:
        plain = subject.manifest
        plain["members"].append(
            {"path": SIGNATURE_NAME, "bytes": len(bound), "sha256": hashlib.sha256(bound).hexdigest()}
        )
        return rewritten(subject, rng, json.dumps(plain).encode())
    names = list(files)
    place = rng.choice((0, *range(2, len(names) + 1)))
    name = rng.choice((SIGNATURE_NAME, SIGNATURE_NAME.upper(), f"/{SIGNATURE_NAME}", "manifest.json.sig"))
    entries = [Entry(name.encode(), data) for name, data in files.items()]
    entries.insert(place if name == SIGNATURE_NAME else 1, Entry(name.encode(), bound))
    return zipped(entries)
