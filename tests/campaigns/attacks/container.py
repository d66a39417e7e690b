"""Attacks on the bytes of a bundle, on the records of its zip, and on the names and places of its members."""

import bz2
import functools
import gzip
import io
import json
import lzma
import random
import struct
import zipfile
import zlib

from edge_oneshot_device.bundle.manifest import MANIFEST_NAME
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME
from tests.campaigns.attacks.subject import MIB, Entry, Subject, laid_out, signature, zipped

# offset and size of each field of the three records of a zip, after its four bytes of magic
LOCAL = ((4, 2), (6, 2), (8, 2), (10, 2), (12, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))
CENTRAL = (
    (4, 2), (6, 2), (8, 2), (10, 2), (12, 2), (14, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2),
    (36, 2), (38, 4), (42, 4),
)  # fmt: skip
END = ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def flipped_bit(subject: Subject, rng: random.Random) -> bytes:
    edited = bytearray(subject.content)
    edited[_position(subject, rng)] ^= 1 << rng.randrange(8)
    return bytes(edited)


def flipped_bytes(subject: Subject, rng: random.Random) -> bytes:
    edited = bytearray(subject.content)
    for _ in range(rng.randint(2, 16)):
        edited[_position(subject, rng)] ^= rng.randint(1, 255)
    return bytes(edited)


def truncated(subject: Subject, rng: random.Random) -> bytes:
    return subject.content[: _position(subject, rng)]


def inserted(subject: Subject, rng: random.Random) -> bytes:
    position, start = _position(subject, rng), _position(subject, rng)
    spare = rng.choice((rng.randbytes(rng.randint(1, 64)), subject.content[start : start + rng.randint(1, 400)]))
    return subject.content[:position] + spare + subject.content[position:]


def deleted(subject: Subject, rng: random.Random) -> bytes:
    position = _position(subject, rng)
    return subject.content[:position] + subject.content[position + rng.randint(1, 200) :]


def moved(subject: Subject, rng: random.Random) -> bytes:
    """A stretch of the file is overwritten with another one."""
    to, start = _position(subject, rng), _position(subject, rng)
    stretch = subject.content[start : start + rng.randint(1, 400)]
    return subject.content[:to] + stretch + subject.content[to + len(stretch) :]


def surrounded(subject: Subject, rng: random.Random) -> bytes:
    """Something before, after or between, offsets put right or not: a file of two kinds."""
    spare = rng.choice(
        (rng.randbytes(rng.randint(1, 99)), bytes(rng.randint(1, 9)), b"\x7fELF" + bytes(60), b"%PDF-1.7\n",
         b"#!/bin/sh\n", b"PK\5\6" + bytes(18), subject.content)
    )  # fmt: skip
    entries = subject.entries
    return rng.choice(
        (
            lambda: spare + subject.content,
            lambda: subject.content + spare,
            lambda: zipped(entries, before=spare),
            lambda: zipped(entries, between=spare),
            lambda: zipped(entries, after=spare),
            lambda: zipped(entries, comment=spare[:0xFFFF]),
        )
    )()


def other_file(subject: Subject, rng: random.Random) -> bytes:
    """No bundle at all."""
    return rng.choice(
        (
            lambda: b"",
            lambda: rng.randbytes(rng.randint(1, 2000)),
            lambda: bytes(rng.randint(1, 2000)),
            lambda: b"PK\5\6" + bytes(18),
            lambda: b"PK\5\6" + rng.randbytes(18),
            lambda: gzip.compress(subject.content, mtime=0),
            lambda: rng.choice(list(subject.files.values())),
            lambda: laid_out({}),
            lambda: laid_out(subject.members),
            lambda: subject.content[::-1],
        )
    )()


def header_field(subject: Subject, rng: random.Random) -> bytes:
    """A field of a header, or of both headers of a member, says something else."""
    edited = bytearray(subject.content)
    locals_, centrals, end = _records(subject.content)
    which = rng.randrange(len(locals_))
    fields = rng.choice((
        [(locals_[which], *rng.choice(LOCAL))],
        [(centrals[which], *rng.choice(CENTRAL))],
        [(end, *rng.choice(END)) for _ in range(rng.randint(1, 3))],
        _twice(locals_[which], centrals[which], rng.randrange(2, 10)),
    ))  # fmt: skip
    value = rng.choice((*EXTREMES, rng.getrandbits(32)))
    for record, offset, size in fields:
        before = int.from_bytes(edited[record + offset : record + offset + size], "little")
        after = rng.choice((value, before + rng.choice((-1, 1)), before ^ (1 << rng.randrange(8 * size))))
        edited[record + offset : record + offset + size] = (after % 256**size).to_bytes(size, "little")
    return bytes(edited)


def claimed_size(subject: Subject, rng: random.Random) -> bytes:
    """A member is said to be larger or smaller than it is, in both headers."""
    entries = subject.entries
    place = rng.randrange(len(entries))
    one = entries[place]
    size = rng.choice((*EXTREMES, len(one.data) + rng.choice((-1, 1, 30, 46)), rng.getrandbits(32)))
    told = rng.choice(({"size": size}, {"stored": size}, {"stored": size, "size": size}))
    entries[place] = Entry(one.name, one.data, **told)
    return zipped(entries)


def compressed(subject: Subject, rng: random.Random) -> bytes:
    """The honest members, packed as any zip program would."""
    archive = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    packed = set(rng.sample(list(subject.files), rng.randint(1, len(subject.files))))
    with zipfile.ZipFile(archive, "w") as writer:
        for name, data in subject.files.items():
            writer.writestr(zipfile.ZipInfo(name), data, method if name in packed else zipfile.ZIP_STORED)
    return archive.getvalue()


def bomb(subject: Subject, rng: random.Random) -> bytes:
    """A member that would unpack to gigabytes, its sizes told truly or not."""
    method, data = rng.choice(_bombs())
    entries = subject.entries
    size = rng.choice((len(data), 64 * MIB, 0xFFFFFFFF))
    told = {"size": size, "checksum": rng.getrandbits(32)}
    hostile = Entry(rng.choice(entries).name, data, rng.choice((0, method)), **told)
    place = rng.randrange(len(entries) + 1)
    if rng.random() < 0.5 and place < len(entries):
        entries[place] = Entry(entries[place].name, data, method, size=size)
    else:
        entries.insert(place, hostile)
    return zipped(entries)


def overlapping(subject: Subject, rng: random.Random) -> bytes:
    """Entries share one content, the way a bomb without compression is made."""
    entries = subject.entries
    if rng.random() < 0.5:
        many = rng.choice((2, 10, 1000, 60_000))
        entries += [Entry(b"models/%d" % number, b"", stored=MIB, size=MIB, offset=0) for number in range(many)]
        return zipped(entries[:65_535])
    place, other = rng.sample(range(len(entries)), 2)
    offset = sum(30 + len(one.name) + len(one.data) for one in entries[:other])
    entries[place] = Entry(entries[place].name, entries[place].data, offset=offset)
    return zipped(entries)


def zip64(subject: Subject, rng: random.Random) -> bytes:
    archive = io.BytesIO()
    wide = set(rng.sample(list(subject.files), rng.randint(1, len(subject.files))))
    with zipfile.ZipFile(archive, "w") as writer:
        for name, data in subject.files.items():
            with writer.open(zipfile.ZipInfo(name), "w", force_zip64=name in wide) as member:
                member.write(data)
    content = archive.getvalue()
    if rng.random() < 0.5:  # the end record as zip64 has it, too
        end = content.rindex(b"PK\5\6")
        size, start = struct.unpack_from("<2I", content, end + 12)
        count = len(subject.files)
        record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        record += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
        last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        content = content[:end] + record + last
    return content


def extra_field(subject: Subject, rng: random.Random) -> bytes:
    """Extra fields and comments of members."""
    entries = subject.entries
    place = rng.randrange(len(entries))
    one, spare = entries[place], struct.pack("<2H", rng.getrandbits(16), 8) + rng.randbytes(8)
    told = rng.choice(({"extra": spare}, {"comment": spare}, {"extra": spare, "comment": b"!"}, {"extra": b"x"}))
    entries[place] = Entry(one.name, one.data, **told)
    return zipped(entries)


def renamed(subject: Subject, rng: random.Random) -> bytes:
    """A member with a name that leads elsewhere, in the zip alone or in the manifest, too."""
    old = rng.choice(list(subject.members))
    new = rng.choice((
        f"../{old}", "../../../../etc/cron.d/door", "/etc/passwd", f"/{old}", f"models/../../{old}", f"./{old}",
        f"{old}/", f"{old}//x", "C:\\windows\\door.dll", "..\\..\\door.dll", "\\\\host\\share\\x", "~/.bashrc", "-rf",
        "models/.", "models/..", ".", "..", "", " ", "a\0b", f"{old}\0.png", f"{old}\n", "\x1b[2Jx", "a" * 60_000,
        "a/" * 200 + "x", "aux", "models/int8.tflite:stream", "%2e%2e/x", MANIFEST_NAME, SIGNATURE_NAME,
        MANIFEST_NAME.upper(), f"x/{MANIFEST_NAME}", "models/\u202egpj.tflite", "\uff0e\uff0e/x",
    ))  # fmt: skip
    if rng.random() < 0.5:
        return zipped([Entry((new if name == old else name).encode(), data) for name, data in subject.files.items()])
    plain = subject.manifest
    text = json.dumps(plain).replace(json.dumps(old), json.dumps(new)).encode()
    members = [(new if name == old else name, data) for name, data in subject.members.items()]
    signed = rng.choice(([], [(SIGNATURE_NAME, signature(text, subject.stranger))]))
    return zipped([Entry(name.encode(), data) for name, data in [(MANIFEST_NAME, text), *signed, *members]])


def two_names(subject: Subject, rng: random.Random) -> bytes:
    """The two headers of a member name it differently."""
    entries = subject.entries
    place = rng.randrange(len(entries))
    one = entries[place]
    other = rng.choice((b"../x", one.name.upper(), one.name + b"x", b"", rng.choice(entries).name + b"/"))
    entries[place] = Entry(one.name, one.data, local_name=other)
    return zipped(entries)


def stray(subject: Subject, rng: random.Random) -> bytes:
    """A member that the manifest does not list."""
    entries = subject.entries
    name = rng.choice((b"x", b"models/", b"../../x", b"/x", b"__main__.py", b"META-INF/x", b".sig", b"manifest.json/"))
    entries.insert(rng.randint(0, len(entries)), Entry(name, rng.choice((b"", b"x", subject.content))))
    return zipped(entries)


def duplicated(subject: Subject, rng: random.Random) -> bytes:
    """A member stands twice, with the same content or another."""
    entries = subject.entries
    one = rng.choice(entries)
    data = rng.choice((one.data, one.data[:-1], b"", rng.choice(entries).data))
    entries.insert(rng.randint(0, len(entries)), Entry(one.name, data))
    return zipped(entries)


def exchanged(subject: Subject, rng: random.Random) -> bytes:
    """Two members have each other's content."""
    one, other = rng.sample(list(subject.files), 2)
    return laid_out(subject.files | {one: subject.files[other], other: subject.files[one]})


def reordered(subject: Subject, rng: random.Random) -> bytes:
    names = list(subject.files)
    rng.shuffle(names)
    return laid_out({name: subject.files[name] for name in names})


def missing(subject: Subject, rng: random.Random) -> bytes:
    others = [name for name in subject.files if name != SIGNATURE_NAME]
    lost = rng.sample(others, rng.randint(1, len(others)))
    return laid_out({name: data for name, data in subject.files.items() if name not in lost})


def replaced(subject: Subject, rng: random.Random) -> bytes:
    """A member is altered and its checksum put right."""
    name = rng.choice(list(subject.members))
    data = bytearray(subject.members[name])
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= rng.randint(1, 255)
    return laid_out(subject.files | {name: bytes(data)})


def _position(subject: Subject, rng: random.Random) -> int:
    """Somewhere: in the whole file, its directory, the manifest and its signature, or a header."""
    content = subject.content
    locals_, centrals, _ = _records(content)
    return rng.choice((
        lambda: rng.randrange(len(content)),
        lambda: rng.randrange(centrals[0], len(content)),
        lambda: rng.randrange(locals_[2]),
        lambda: rng.choice(locals_) + rng.randrange(60),
    ))()  # fmt: skip


@functools.cache
def _records(content: bytes) -> tuple[list[int], list[int], int]:
    """Where the local headers, the entries of the directory and the end record are."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [(entry.header_offset, len(entry.filename)) for entry in archive.infolist()]
        position, centrals = archive.start_dir, []
    for _, size in names:
        centrals.append(position)
        position += 46 + size
    return [offset for offset, _ in names], centrals, position


def _twice(local: int, central: int, field: int) -> list[tuple[int, int, int]]:
    """The same field in both headers of a member."""
    return [(local, *LOCAL[field - 1]), (central, *CENTRAL[field])]


@functools.cache
def _bombs() -> list[tuple[int, bytes]]:
    """Method and data of what unpacks to 64 MiB."""
    zeros = bytes(64 * MIB)
    return [(8, zlib.compress(zeros, 9)[2:-4]), (12, bz2.compress(zeros)), (14, lzma.compress(zeros, preset=1))]
