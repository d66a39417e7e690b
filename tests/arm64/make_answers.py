"""What this machine makes of image files, for an arm64 userland to repeat.

Usage: python tests/arm64/make_answers.py BUNDLES OUT

BUNDLES is what tests.tflite_runtime.make_bundles wrote. Writes OUT/files/, image files of many kinds,
two of them, ada.png and other.png, of characters that the tiny net finds least alike,
OUT/sections.json, input sections by name, and OUT/pixels.npz: of each file under FILE/SECTION what the preprocessing
makes of it, and under FILE/NET the raw output of that bundle's int8 variant.
"""

import io
import sys
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_image

NETS = ("tiny", "base")
RESIZES = ("box", "bilinear", "bicubic", "lanczos")
SECTIONS = {
    f"{colour}-{resize}": InputSection(
        height=64, width=56, colour=colour, resize=resize, mean=(127.5,), scale=(127.5,), value_range=(-1.0, 1.0),
        min_contrast=16,
    )
    for colour in ("grey", "rgb") for resize in RESIZES
}  # fmt: skip


def scene(height: int, width: int, seed: int) -> Image.Image:
    """Strokes in colour on a bright ground, with noise: edges, ramps and detail below a pixel of the model."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    pixels = np.full((height, width, 3), 235.0)
    for _ in range(9):
        a, b, c = rng.uniform(-1, 1, 3)
        pixels[np.abs(a * x + b * y + c / 2 + 0.1 * np.sin(9 * x)) < 0.02] = rng.integers(0, 120, 3)
    pixels += rng.normal(0, 6, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


def files() -> dict[str, bytes]:
    """An image file of each kind that a device opens."""
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    deep = (np.asarray(scene(90, 120, 3).convert("L")).astype(np.uint16) << 8) + 77
    return {
        "camera.jpg": encoded(scene(1200, 1600, 0), "JPEG", quality=88),
        "turned.jpg": encoded(scene(300, 200, 1), "JPEG", quality=70, progressive=True, exif=upside_down),
        "whole.jpg": encoded(scene(120, 160, 2), "JPEG", quality=95, subsampling=0),
        "grey.png": encoded(scene(105, 105, 4).convert("L"), "PNG"),
        "colours.png": encoded(scene(333, 222, 5), "PNG"),
        "deep.png": encoded(Image.fromarray(deep), "PNG"),
        "palette.png": encoded(scene(140, 90, 6).convert("P"), "PNG"),
        "small.bmp": encoded(scene(20, 24, 7), "BMP"),
        "lossy.webp": encoded(scene(260, 280, 8), "WEBP", quality=80),
        "lossless.webp": encoded(scene(150, 150, 9), "WEBP", lossless=True),
    }


def unlike(made: Path) -> dict[str, bytes]:
    """Two of the images that a bundle's answers were made of."""
    with np.load(made) as answers:
        images, vectors = answers["images"], answers["float32-xnnpack"]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    other = int(np.argmin(vectors @ vectors[0]))
    return {
        f"{name}.png": encoded(Image.fromarray(images[place, :, :, 0]), "PNG")
        for name, place in {"ada": 0, "other": other}.items()
    }


def make(bundles: Path, out: Path) -> None:
    (out / "files").mkdir(parents=True, exist_ok=True)
    opened = {net: Bundle.open(bundles / f"{net}.oneshot") for net in NETS}
    encoders = {net: Encoder.open(bundle, "int8") for net, bundle in opened.items()}
    answers = {}
    for name, content in (files() | unlike(bundles / "tiny.npz")).items():
        (out / "files" / name).write_bytes(content)
        for section, described in SECTIONS.items():
            answers[f"{name}/{section}"] = load_image(content, described)
        for net, encoder in encoders.items():
            answers[f"{name}/{net}"] = encoder.raw(load_image(content, opened[net].manifest.input))
    (out / "sections.json").write_bytes(msgspec.json.encode(SECTIONS))
    np.savez_compressed(out / "pixels.npz", **answers)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
