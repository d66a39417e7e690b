"""File systems of one's own: an ext4 in a file, and a small tmpfs. Needs the right to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TMPFS_BYTES = 1 << 20
_IMAGE_BYTES = 24 << 20


def make_image(image: Path) -> None:
    """A file that holds an empty ext4."""
    # a former one may still be mounted where another process keeps a copy of the mounts
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", image)


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """An ext4, mounted on a folder; it turns read-only at an error.

    Whatever was mounted before of the image, it is read from the disk anew.
    """
    folder.mkdir(exist_ok=True)
    _renew(image)
    _run("mount", "-o", "loop,errors=remount-ro", image, folder)
    try:
        yield folder
    finally:
        # umount writes nothing where another process keeps a copy of the mounts
        with suppress(subprocess.CalledProcessError):  # a disk that was cut
            _run("sync", "--file-system", folder)
        _run("umount", folder)


def _renew(image: Path) -> None:
    """Let an image be another file of the same content.

    Whoever has a mount namespace of its own, such as a container that began meanwhile, has a copy of the mounts, in
    which a former mount lives on. To mount the same file again would give that one: without power, or read-only.
    """
    aside = image.with_name(f"{image.name}.new")
    _run("cp", "--sparse=always", image, aside)
    aside.replace(image)


@contextmanager
def tmpfs(folder: Path, size: int = TMPFS_BYTES) -> Iterator[Path]:
    """A file system in memory, of so many bytes."""
    folder.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield folder
    finally:
        _run("umount", folder)


def remount(folder: Path, how: str) -> None:
    """Mount anew, ``ro`` or ``rw``."""
    _run("mount", "-o", f"remount,{how}", folder)


def break_it(folder: Path) -> None:
    """Let an ext4 find an error: from then on it is read-only, whoever has a file open."""
    device = Path(_run("findmnt", "-n", "-o", "SOURCE", folder).strip())
    Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("1")


def why_not(folder: Path) -> str | None:
    """Why no file system can be mounted here; None: it can."""
    try:
        make_image(folder / "probe.img")
        with mounted(folder / "probe.img", folder / "probe"):
            return None
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    except subprocess.CalledProcessError as error:
        return f"cannot mount: {error.stderr.strip()[:200]}"


def _run(*words: str | Path) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout
