"""The augmentations that go by a name, and the one call that varies training images by any of them."""

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.augmentation import DRAWINGS, PHOTOS, Augmentation, augment
from edge_oneshot.training.options import Orientations
from edge_oneshot.training.speech_augmentation import SPEECH, VOICES, SpeechAugmentation, augment_speech
from edge_oneshot_device.bundle.manifest import InputSection

AnyAugmentation = Augmentation | SpeechAugmentation

PRESETS: Final[dict[str, AnyAugmentation]] = {
    "drawings": DRAWINGS,
    "photos": PHOTOS,
    "speech": SPEECH,
    "voices": VOICES,
}


def preset(name: str, orientations: Orientations | None = None) -> AnyAugmentation:
    """An augmentation by its name.

    Args:
        name: Of `PRESETS`.
        orientations: Replaces the preset's own, unless None.

    Raises:
        TrainingError: Reason ``bad_augment``: there is none of this name; ``wrong_use``: recordings have one
            orientation.
    """
    if name not in PRESETS:
        raise TrainingError(f"augment {name!r}: name one of {', '.join(PRESETS)}", reason="bad_augment")
    chosen = PRESETS[name]
    if isinstance(chosen, Augmentation):
        return chosen if orientations is None else replace(chosen, orientations=orientations)
    if orientations not in (None, 1):
        raise TrainingError(f"orientations {orientations}: a recording has one; leave it out", reason="wrong_use")
    return chosen


def varied(
    images: npt.NDArray[np.uint8],
    orientations: npt.NDArray[np.int64],
    augmentation: AnyAugmentation,
    section: InputSection,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """A random variation of each image, by the kind of the augmentation.

    Args:
        images: uint8 (n, ...), as `edge_oneshot.training.images.oversampled` says of the section.
        orientations: (n,), see `augment`.
        augmentation: How much the images vary.
        section: The encoder's input.
        rng: Source of randomness; the same state gives the same result.

    Returns:
        uint8 (n, h, w, c).
    """
    if isinstance(augmentation, Augmentation):
        return augment(images, orientations, augmentation, rng)
    return augment_speech(images, augmentation, section, rng)
