"""A file system that forgets: what may be left of a run on a disk when the power fails.

What is assumed of a disk and of its file system:

- A file's content is safe once fsync or fdatasync of the file returned; a name once that of its folder returned.
- Until then each sector of each write is on the disk or is not, in any order; a file's length is any that it had.
- A sector that was never synced may hold anything within the bytes that were being written; bytes beside them
  stay (SQLite asks for that too: "powersafe overwrite").
- A rename happens or does not, and so does a link.
- Names: with `ordered`, as a journalling file system does, changes get to the disk in their order, in all folders;
  else in any order that keeps the order of changes to one name, each folder for itself.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

SECTORS = (512, 4096)
STDOUT = 1
TRACED = (
    "openat,open,creat,close,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,sync,"
    "syncfs,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,"
    "dup,dup2,dup3,copy_file_range,sendfile"
)
"""Whatever changes a file or a name; what the model does not know is refused, not left out."""

_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\)\s+= (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


class Event(NamedTuple):
    """A change of a file or of a name, or a sync, or that something was acknowledged.

    Attributes:
        what: create, write, truncate, sync, mkdir, rename, link, unlink, sync_folder or told.
        file: Number of a file, for the first four.
        name: A path, for others.
        to: The new name of rename and link.
        offset: Of a write; the length, for truncate.
        content: Written, or told.
    """

    what: str
    file: int = -1
    name: str = ""
    to: str = ""
    offset: int = 0
    content: bytes = b""


@dataclass
class Recording:
    """A run on a folder.

    Attributes:
        root: The folder.
        files: Content at the beginning, by number.
        names: Number of each path at the beginning, relative to the folder.
        folders: Paths of folders at the beginning.
        events: What happened since.
    """

    root: Path
    files: dict[int, bytes]
    names: dict[str, int]
    folders: set[str]
    events: list[Event] = field(default_factory=list)


def record(root: Path) -> Recording:
    """The beginning of a recording: what is in a folder, safe on the disk."""
    recording = Recording(root, {}, {}, {"."})
    for number, path in enumerate(sorted(root.rglob("*"))):
        name = str(path.relative_to(root))
        if path.is_dir():
            recording.folders.add(name)
        else:
            recording.files[number], recording.names[name] = path.read_bytes(), number
    return recording


def replay(recording: Recording, log: Path) -> None:
    """Append what a trace of `TRACED` says, made with ``-xx`` and whole strings; of threads, those that share no call.

    Raises:
        ValueError: A call that the model does not know.
    """
    names, folders = dict(recording.names), set(recording.folders)
    sizes = {number: len(content) for number, content in recording.files.items()}
    opened: dict[int, tuple[int, str]] = {}  # descriptor: file, or -1 and the folder
    places: dict[int, int] = {}

    def relative(path: str, folder: str = "") -> str | None:
        """A path within the root; `folder`: the descriptor that it is relative to, if it is."""
        if folder.isdigit() and not path.startswith("/"):
            return str(Path(opened[int(folder)][1]) / path) if int(folder) in opened else None
        inside = Path(path).is_relative_to(recording.root)
        return str(Path(path).relative_to(recording.root)) if inside else None

    for line in log.read_text().splitlines():
        match = _LINE.match(line)
        if "<unfinished" in line and not line.split("(")[0].endswith(("openat", "close")):
            raise ValueError(f"two threads write at once: {line[:200]}")
        if match is None or match[3].startswith("-"):
            continue  # it failed, or is no call
        call, arguments, result = match[1], match[2], int(match[3])
        strings = [_text(found) for found in _STRING.finditer(arguments)]
        first = arguments.split(",")[0]
        descriptor = int(first) if first.isdigit() else -1
        event = None
        at = [relative(one, folder) for folder, one in _paths(arguments)] if call.endswith("at") else []
        if call == "openat":
            name = at[0]
            if name is None:
                continue
            if name in folders:
                opened[result] = (-1, name)
                continue
            if name not in names:
                names[name] = max(sizes, default=0) + 1
                sizes[names[name]] = 0
                event = Event("create", names[name], name)
            elif "O_TRUNC" in arguments:
                event = Event("truncate", names[name])
            opened[result], places[result] = (names[name], name), 0
        elif call == "close" or (call.startswith("dup") and descriptor not in opened):
            opened.pop(descriptor, None)
        elif descriptor not in opened and (call == "writev" or (call == "write" and descriptor == STDOUT)):
            event = Event("told", content=strings[0])
        elif call in ("write", "pwrite64"):
            if descriptor in opened:
                offset = places[descriptor] if call == "write" else int(arguments.rsplit(",", 1)[1])
                places[descriptor] += result if call == "write" else 0
                event = Event("write", opened[descriptor][0], offset=offset, content=strings[0][:result])
        elif call == "ftruncate":
            event = Event("truncate", opened[descriptor][0], offset=int(arguments.rsplit(",", 1)[1]))
        elif call == "fallocate":
            event = Event("truncate", opened[descriptor][0], offset=sum(map(int, arguments.split(",")[2:])))
        elif call in ("fsync", "fdatasync"):
            file, name = opened[descriptor]
            event = Event("sync", file) if file >= 0 else Event("sync_folder", name=name)
        elif (act := call.removesuffix("at")) in ("rename", "link", "unlink", "mkdir"):
            name, to = (*(at or map(relative, (one.decode() for one in strings))), None)[:2]
            if name is None:
                continue
            event = Event(act, name=name, to=to or "")
            if act == "mkdir":
                folders.add(name)
            else:
                _rename(names, folders, [event])
        else:
            raise ValueError(f"{call} is not modelled: {line[:200]}")
        if event is not None:
            recording.events.append(event)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a power cut goes.

    Attributes:
        ordered: Whether names change on the disk in their order.
        keep: Chance that a sector that was not synced is on the disk.
        sector: Bytes that are written as one; None: each write as a whole.
        garbage: Whether what is not on the disk may be anything, not only what was there before.
    """

    ordered: bool
    keep: float
    sector: int | None
    garbage: bool

    def __str__(self) -> str:
        """As it is counted."""
        kept = "dropped" if self.keep == 0.0 else "kept" if self.keep == 1.0 else "kept in part"
        torn = "whole writes" if self.sector is None else f"sectors of {self.sector}"
        return f"{kept}, {torn}, {'names in order' if self.ordered else 'names in any order'}" + (
            ", garbage" if self.garbage else ""
        )


def manner(numbers: random.Random) -> Manner:
    """A way for the power to fail."""
    return Manner(
        ordered=numbers.random() < 0.5,
        keep=numbers.choice((0.0, 0.1, 0.5, 0.9, 1.0)),
        sector=numbers.choice((None, *SECTORS)),
        garbage=numbers.random() < 0.3,
    )


def cut(
    recording: Recording, stop: int, how: Manner, numbers: random.Random, ignored: frozenset[str] = frozenset()
) -> tuple[set[str], dict[str, bytes]]:
    """What is left when the power fails before an event: folders, and files with their content.

    Args:
        recording: A run.
        stop: Number of the event.
        how: In which manner.
        numbers: Choose what is left.
        ignored: Syncs that the disk makes nothing of: ``sync``, ``sync_folder``.
    """
    safe, names, folders = dict(recording.files), dict(recording.names), set(recording.folders)
    pending: dict[int, list[Event]] = {}
    changes: list[Event] = []
    for event in recording.events[:stop]:
        if event.what in ignored:
            continue
        if event.what in ("write", "truncate"):
            pending.setdefault(event.file, []).append(event)
        elif event.what == "sync":
            content = bytearray(safe.get(event.file, b""))
            for one in pending.pop(event.file, ()):
                _apply(content, one)
            safe[event.file] = bytes(content)
        elif event.what == "sync_folder":
            own = [event.name in _folders(one) for one in changes]
            last = max((number for number, is_own in enumerate(own) if is_own), default=-1)
            synced = [is_own or (how.ordered and number <= last) for number, is_own in enumerate(own)]
            _rename(names, folders, [one for one, done in zip(changes, synced, strict=True) if done])
            changes = [one for one, done in zip(changes, synced, strict=True) if not done]
        elif event.what != "told":
            changes.append(event)
    _rename(names, folders, _survivors(changes, how, numbers))
    files = {}
    for name, number in names.items():
        if str(Path(name).parent) in folders:
            files[name] = _left(safe.get(number, b""), pending.get(number, ()), how, numbers)
    return folders, files


def lay_out(target: Path, folders: set[str], files: Mapping[str, bytes]) -> None:
    """Write a disk to a folder that is not there yet."""
    for folder in sorted(folders):
        if all(str(parent) in folders for parent in Path(folder).parents):
            (target / folder).mkdir(mode=0o700, exist_ok=True)
    for name, content in files.items():
        if (target / name).parent.is_dir():
            (target / name).write_bytes(content)
            (target / name).chmod(0o600)


def _paths(arguments: str) -> list[tuple[str, str]]:
    """Paths of a call, each with the folder before it: a descriptor or AT_FDCWD."""
    found = []
    for match in _STRING.finditer(arguments):
        *_, before = ["", *arguments[: match.start()].rstrip(", ").rsplit(" ", 1)]
        found.append((before, _text(match).decode()))
    return found


def _text(found: re.Match[str]) -> bytes:
    if found[2]:
        raise ValueError("the trace has cut a string off: give strace a larger -s")
    return bytes.fromhex(found[1].replace("\\x", ""))


def _apply(content: bytearray, event: Event) -> None:
    end = event.offset + len(event.content)
    if event.what == "truncate":
        del content[event.offset :]
    content.extend(bytes(max(0, end - len(content))))
    if event.what == "write":
        content[event.offset : end] = event.content


def _folders(event: Event) -> set[str]:
    return {str(Path(name).parent) for name in (event.name, event.to) if name}


def _rename(names: dict[str, int], folders: set[str], changes: Sequence[Event]) -> None:
    for event in changes:
        if event.what == "create":
            names[event.name] = event.file
        elif event.what == "mkdir":
            folders.add(event.name)
        elif event.what == "unlink":
            names.pop(event.name, None)
        elif event.what == "link":
            names[event.to] = names[event.name]
        elif names.get(event.name) != names.get(event.to):  # of two names of one file, a rename leaves both
            names[event.to] = names.pop(event.name)


def _survivors(changes: Sequence[Event], how: Manner, numbers: random.Random) -> list[Event]:
    """Which changes of names, of those not synced, are on the disk."""
    if how.ordered:
        return list(changes[: numbers.randint(0, len(changes))])
    kept: list[Event] = []
    lost: set[str] = set()
    for event in changes:
        own = {name for name in (event.name, event.to) if name}
        if own & lost or numbers.random() >= how.keep:
            lost |= own
        else:
            kept.append(event)
    return kept


def _left(safe: bytes, pending: Sequence[Event], how: Manner, numbers: random.Random) -> bytes:
    """The content of a file of which some writes were not synced."""
    content, lengths = bytearray(safe), [len(safe)]
    whole = bytearray(safe)
    for event in pending:
        _apply(whole, event)
        lengths.append(len(whole))
        if event.what == "truncate":
            if numbers.random() < how.keep:
                del content[event.offset :]
            continue
        for start, end in _pieces(event, how.sector):
            piece = event.content[start - event.offset : end - event.offset]
            if numbers.random() >= how.keep:
                # never within what was safe before, but for a sector that was just being written
                if not how.garbage or (end <= len(safe) and numbers.random() < 0.9):
                    continue
                piece = numbers.randbytes(len(piece))
            content.extend(bytes(max(0, end - len(content))))
            content[start:end] = piece
    length = numbers.choice(lengths)
    fill = numbers.randbytes(max(0, length - len(content))) if how.garbage else bytes(max(0, length - len(content)))
    return bytes((content + fill)[:length])


def _pieces(event: Event, sector: int | None) -> list[tuple[int, int]]:
    start, end = event.offset, event.offset + len(event.content)
    if sector is None:
        return [(start, end)]
    edges = [start, *range(start - start % sector + sector, end, sector), end]
    return list(pairwise(edges))
