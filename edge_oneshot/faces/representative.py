"""Representative images for quantization and drift, from installed packages; none of the user's photos is needed."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from edge_oneshot.faces.packages import ASTRONAUT, SMALL_FACES, read_package_file
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_export.judging.protocols import LabelledImages

_FACES: Final = 100  # of the subset of LFW; its other images show no face
_VARIATIONS: Final = 4
_SHIFT: Final = 0.04  # largest, as a share of the side
_LIGHT: Final = (0.6, 1.4)


def representative_faces(section: InputSection, finder: FaceFinder, *, seed: int = 0) -> LabelledImages:
    """Aligned images of 101 faces, each in four variations of light, contrast, colour, position and side.

    The variations of a face come from one photo. Error rates over them show what quantization changes, and not how
    well the encoder separates people.

    Args:
        section: The encoder's input.
        finder: Cuts the face out of the one photo; the small faces are cut already.
        seed: Random seed of the variations.

    Raises:
        DataError: Reason ``extra_missing`` or ``wrong_file``.
    """
    size = section.width, section.height
    photo = load_photo(read_package_file(ASTRONAUT), 512)
    small = np.load(io.BytesIO(read_package_file(SMALL_FACES)), allow_pickle=False)[:_FACES]
    grey = [Image.fromarray(np.rint(face * 255.0).astype(np.uint8)) for face in small]
    faces = [Image.fromarray(finder.chip(photo))]
    faces += [face.convert("RGB").resize(size, Image.Resampling.BICUBIC) for face in grey]
    rng = np.random.default_rng(seed)
    images = np.stack([_varied(face, rng) for face in faces for _ in range(_VARIATIONS)])
    names = tuple(f"face {number}" for number in range(len(faces)))
    return LabelledImages(images, np.repeat(np.arange(len(faces), dtype=np.int64), _VARIATIONS), names)


def golden_faces(finder: FaceFinder) -> NDArray[np.uint8]:
    """Two aligned images for the bundle's self-test: a face, and the same mirrored and dark.

    The self-test computes the embedding of each at every start, and compares it with the one that the bundle holds.

    Returns:
        uint8 (2, h, w, 3).

    Raises:
        DataError: Reason ``extra_missing`` or ``wrong_file``.
    """
    chip = finder.chip(load_photo(read_package_file(ASTRONAUT), 512))
    return np.stack([chip, chip[:, ::-1] // 2])


def _varied(face: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    left, top = rng.uniform(-_SHIFT, _SHIFT, 2) * face.size
    moved = face.transform(face.size, Image.Transform.AFFINE, (1, 0, left, 0, 1, top), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        moved = moved.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        moved = enhance(moved).enhance(float(rng.uniform(*_LIGHT)))
    tint = rng.uniform(0.85, 1.0, 3)
    return np.asarray(np.rint(np.asarray(moved, dtype=np.float64) * tint).astype(np.uint8))
