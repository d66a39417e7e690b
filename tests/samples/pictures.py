"""Encoded pictures and zip files."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as a file of this format; options are Pillow's."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """An array as a PNG file."""
    return encoded(Image.fromarray(pixels))


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write a zip file of these members; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def members(archive: Path | bytes) -> dict[str, bytes]:
    """The content of a zip file's members, by name."""
    with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}
