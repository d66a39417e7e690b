"""Attacks by file operations and links, at every name of a state folder; the names are listed, not hard-coded."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.campaigns.intrusion.acts import Act, Scene

_KINDS_OF_JOURNAL = ("-journal", "-wal", "-shm")


def draw(scene: Scene) -> Act:
    """One file operation."""
    return scene.numbers.choice(_OPERATIONS)(scene, target(scene))


def draw_link(scene: Scene, *, hard: bool) -> Act:
    """A link to something of somebody else's, in the place of a name.

    Args:
        scene: Where.
        hard: A hard link; it is of a file.
    """
    path, canaries = target(scene), scene.place / "canaries"
    if hard:
        to = canaries / scene.numbers.choice(
            ("secret.txt", "public.txt", "database.db", "own.txt", "folder/letter.txt")
        )
        return Act(f"{_name(scene, path)} is a hard link to {to.name}", partial(_hard_link, path, to))
    return _link(scene, path)


def target(scene: Scene) -> Path:
    """A name of the state folder: one that is there, one that was there, a journal's, or the folder itself."""
    state = scene.state
    if scene.chance(0.03):
        return state
    names = {path.relative_to(state) for path in state.rglob("*") if path.name != "notes.txt"}
    former = scene.loot / "state"
    names |= {path.relative_to(former) for path in former.rglob("*") if path.name != "notes.txt"}
    database = scene.database().name
    names |= {Path(database + end) for end in _KINDS_OF_JOURNAL}
    return state / scene.numbers.choice(sorted(names))


def _name(scene: Scene, path: Path) -> str:
    return str(path.relative_to(scene.place))


def _delete(scene: Scene, path: Path) -> Act:
    return Act(f"{_name(scene, path)} removed", partial(_clear, path))


def _rename(scene: Scene, path: Path) -> Act:
    to = scene.numbers.choice((path.with_name(path.name + "~"), scene.loot / "taken", target(scene)))
    return Act(f"{_name(scene, path)} renamed to {_name(scene, to)}", partial(path.rename, to))


def _swap(scene: Scene, path: Path) -> Act:
    to = target(scene)

    def perform() -> None:
        aside = scene.loot / "aside"
        path.rename(aside)
        with suppress(OSError):
            to.rename(path)
        aside.rename(to)

    return Act(f"{_name(scene, path)} and {_name(scene, to)} swapped", perform)


def _write(scene: Scene, path: Path) -> Act:
    content = scene.numbers.choice((b"", b"{}", b"null", scene.blob(5000), bytes(1 << 20), b"[" * 60_000))

    def perform() -> None:
        _clear(path)
        path.write_bytes(content)
        path.chmod(0o600)

    return Act(f"{_name(scene, path)} holds {len(content)} bytes, {content[:8]!r}", perform)


def _alter(scene: Scene, path: Path) -> Act:
    """A few bytes, the end, or more at the end."""
    how = scene.numbers.choice(("changed", "cut", "longer"))
    seed = scene.numbers.random()

    def perform() -> None:
        content = bytearray(path.read_bytes())
        place = int(seed * len(content))
        if how == "changed":
            content[place] ^= 1
        elif how == "cut":
            del content[place:]
        else:
            content += bytes(4096)
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(content)

    return Act(f"{_name(scene, path)} {how} at {seed:.3f} of its length", perform)


def _copy(scene: Scene, path: Path) -> Act:
    """What has this name in the older copy, or in the other state folder, or another file of this one."""
    which = scene.numbers.choice(("before", "other", "here"))
    relative = path.relative_to(scene.state)
    roots = {"before": scene.loot / "state", "other": scene.place / "other"}
    source = target(scene) if which == "here" else roots[which] / relative

    def perform() -> None:
        aside = scene.loot / "aside"
        if source.is_dir():
            shutil.copytree(source, aside)
        else:
            shutil.copy2(source, aside)
        _clear(path)
        aside.rename(path)

    told = f"{_name(scene, source)} copied to {_name(scene, path)}"
    return Act(told, perform, before=which == "before", other=which == "other")


def _mode(scene: Scene, path: Path) -> Act:
    mode = scene.numbers.choice((0o000, 0o400, 0o444, 0o200, 0o666, 0o777, 0o4777, 0o100))
    return Act(f"{_name(scene, path)} has mode {mode:o}", partial(path.chmod, mode))


def _link(scene: Scene, path: Path) -> Act:
    canaries = scene.place / "canaries"
    roots = (scene.loot / "state", scene.place / "other")
    to = scene.numbers.choice([
        *sorted(canaries.iterdir()), canaries / "folder", canaries / "own",
        canaries / "absent", canaries / "own" / "new",
        path, Path("/dev/null"), Path("/dev/zero"), Path("/dev/tty"), Path("/proc/self/mem"),
        *(root / path.relative_to(scene.state) for root in roots),
    ])  # fmt: skip

    def perform() -> None:
        _clear(path)
        path.symlink_to(to)

    told = str(to.relative_to(scene.place)) if to.is_relative_to(scene.place) else str(to)
    act = f"{_name(scene, path)} is a symbolic link to {told}"
    return Act(act, perform, before=roots[0] in to.parents, other=roots[1] in (to, *to.parents))


def _moved(scene: Scene, path: Path) -> Act:
    """The thing itself elsewhere, and a link to it in its place."""

    def perform() -> None:
        path.rename(scene.loot / "moved")
        path.symlink_to(scene.loot / "moved")

    return Act(f"{_name(scene, path)} moved to loot, and a symbolic link in its place", perform)


def _special(scene: Scene, path: Path) -> Act:
    how = scene.numbers.choice(("pipe", "folder", "full folder"))

    def perform() -> None:
        _clear(path)
        if how == "pipe":
            os.mkfifo(path, 0o600)
        else:
            path.mkdir(mode=0o700)
            if how == "full folder":
                (path / "something").write_bytes(b"x")

    return Act(f"{_name(scene, path)} is a {how}", perform)


def _hard_link(path: Path, to: Path) -> None:
    _clear(path)
    path.hardlink_to(to)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(path.name + ".away"))
    else:
        path.unlink(missing_ok=True)


_OPERATIONS: tuple[Callable[[Scene, Path], Act], ...] = (
    _delete, _delete, _rename, _swap, _write, _alter, _copy, _copy, _mode, _link, _moved, _special,
)  # fmt: skip
