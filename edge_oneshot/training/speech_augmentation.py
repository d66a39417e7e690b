"""Augmentation of speech: random time, speed, voice, microphone and background of training spectrograms.

Spectrograms arrive with half as many frames again as the encoder sees, so that what moves or becomes slower brings
its own surroundings along.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge_oneshot.training.augmentation import spline
from edge_oneshot_device.bundle.manifest import InputSection

SURROUNDINGS: Final = 1.5
"""Frames of a spectrogram that augmentation starts from, relative to those that the encoder sees."""

_KNOTS: Final = 4  # of the smooth random curves along time and along mel
_GRAIN_DB: Final = 4.0  # spread of a noise's power from cell to cell: a mel band is the sum of few bins


@dataclass(frozen=True, slots=True)
class SpeechAugmentation:
    """How much training spectrograms vary.

    Attributes:
        shift: Largest translation in time, as a fraction of the frames.
        speed: Largest relative change of the speed.
        sway: Standard deviation of a smooth displacement in time: the speed changes within a word.
        warp: Largest displacement along mel of the lowest and of the highest band, as a fraction of all bands: another
            length of the vocal tract (Jaitly & Hinton 2013) and another pitch.
        response: Standard deviation of a smooth gain along mel in dB: another microphone, another room.
        noise: Lowest and highest level of an added background in dB, relative to the loudest cell.
        tilt: Largest difference of the background's level from the lowest to the highest band, in dB.
        orientations: A spectrogram has one.
    """

    shift: float
    speed: float
    sway: float
    warp: float
    response: float
    noise: tuple[float, float]
    tilt: float
    orientations: Literal[1] = 1


SPEECH: Final = SpeechAugmentation(
    shift=0.1,
    speed=0.12,
    sway=0.02,
    warp=0.07,
    response=3.0,
    noise=(-70.0, -30.0),
    tilt=20.0,
)
VOICES: Final = replace(SPEECH, warp=0.0, speed=0.1, response=2.0)
"""Who speaks is heard in pitch, formants and speed."""


def augment_speech(
    spectrograms: npt.NDArray[np.uint8],
    augmentation: SpeechAugmentation,
    section: InputSection,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """A random variation of each spectrogram.

    Args:
        spectrograms: (n, h, w or more, 1), 0..255, as of `edge_oneshot_device.audio.spectrogram.log_mel`.
        augmentation: How much they vary.
        section: The encoder's input, with an audio part: h, w and the decibels that 0..255 stand for.
        rng: Source of randomness; the same state gives the same result.

    Returns:
        (n, h, w, 1), 0..255; the loudest cell of each is 255.
    """
    assert section.audio is not None
    range_db = np.float32(section.audio.range_db)
    level = (_warped(spectrograms, augmentation, section, rng) / np.float32(255.0) - 1.0) * range_db
    level += np.float32(augmentation.response) * _curves(len(level), section.height, rng)[:, :, None]
    level = _in_noise(level, augmentation, rng)
    loudest = level.max(axis=(1, 2), keepdims=True)
    pixels = np.rint(255.0 * np.maximum(1.0 + (level - loudest) / range_db, 0.0))
    return np.asarray(pixels[..., None], np.uint8)


def middle(spectrograms: npt.NDArray[np.uint8], section: InputSection) -> npt.NDArray[np.uint8]:
    """The middle of each spectrogram: what the encoder sees of it without augmentation.

    Args:
        spectrograms: (n, h, w or more, 1).
        section: The encoder's input.

    Returns:
        (n, h, w, 1).
    """
    first = (spectrograms.shape[2] - section.width) // 2
    return spectrograms[:, :, first : first + section.width]


def _warped(
    spectrograms: npt.NDArray[np.uint8],
    augmentation: SpeechAugmentation,
    section: InputSection,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Each spectrogram moved and stretched in time and along mel: (n, h, w), 0..255."""
    count, _, length, _ = spectrograms.shape
    height, width, _ = section.shape
    speed = np.exp(rng.uniform(-augmentation.speed, augmentation.speed, (count, 1)))
    shift = width * rng.uniform(-augmentation.shift, augmentation.shift, (count, 1))
    x = (length - 1) / 2 + shift + speed * (np.arange(width) - (width - 1) / 2)
    x += width * augmentation.sway * _curves(count, width, rng)
    ends = height * rng.uniform(-augmentation.warp, augmentation.warp, (2, count, 1))
    share = np.linspace(0.0, 1.0, height)
    y = np.clip(np.arange(height) + ends[0] + (ends[1] - ends[0]) * share, 0, height - 1)
    columns, rows = x.astype(np.float32), y.astype(np.float32)
    result = np.empty((count, height, width), np.float32)
    for number, spectrogram in enumerate(spectrograms[..., 0].astype(np.float32)):
        places = (np.tile(columns[number], (height, 1)), np.repeat(rows[number, :, None], width, axis=1))
        # silence lies beyond the recording
        result[number] = cv2.remap(spectrogram, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return result


def _in_noise(
    level: npt.NDArray[np.float32], augmentation: SpeechAugmentation, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Speech (n, h, w) in dB with a background, whose powers add."""
    count, height, _ = level.shape
    middle = level.max(axis=(1, 2), keepdims=True) + rng.uniform(*augmentation.noise, (count, 1, 1))
    tilt = rng.uniform(-augmentation.tilt, augmentation.tilt, (count, 1, 1))
    colour = (middle + tilt * np.linspace(-0.5, 0.5, height)[:, None]).astype(np.float32)
    noise = colour + np.float32(_GRAIN_DB) * rng.standard_normal(level.shape, np.float32)
    decade = np.float32(np.log(10.0) / 10.0)
    return np.asarray(np.log(np.exp(decade * level) + np.exp(decade * noise)) / decade)


def _curves(count: int, length: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Smooth random curves (n, length) of standard deviation 1 at their knots."""
    return rng.standard_normal((count, _KNOTS), np.float32) @ spline(_KNOTS, length).T
