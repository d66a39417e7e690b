"""Batches of augmented training images: a pure function of seed and step, made ahead of time."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.training.augmentation import Augmentation, augment
from edge_oneshot_device.manifest import InputSection
from edge_oneshot_device.preprocessing import scale

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
_AHEAD = 6


def classes_of(data: Dataset, how: Augmentation) -> int:
    """Classes to learn: the identities, or each of their four quarter turns."""
    return len(data.identities) * (4 if how.quarter_turns else 1)


def make_batch(data: Dataset, section: InputSection, how: Augmentation, *, size: int, seed: int, step: int) -> Batch:
    """The batch of one step: every image comes once before any comes again.

    Args:
        data: Images at `augmentation.OVERSAMPLING` times the resolution of `section`.
        section: Scales the pixels.
        how: The variation.
        size: Images a batch.
        seed: Of the run.
        step: From 0.

    Returns:
        float32 (size, h, w, c), scaled, and int64 (size,) classes, below `classes_of`.
    """
    total = len(data.labels)
    images, classes = [], []
    rng = np.random.default_rng((seed, 1, step))
    for position in range(step * size, (step + 1) * size):
        index = _order(total, seed, position // total)[position % total]
        image, label = data.images[index], data.labels[index]
        if how.quarter_turns:
            turns = int(rng.integers(4))
            image, label = np.rot90(image, turns), label * 4 + turns
        images.append(augment(np.ascontiguousarray(image), how, rng))
        classes.append(label)
    return scale(np.stack(images), section), np.array(classes, np.int64)


def batches(
    data: Dataset, section: InputSection, how: Augmentation, *, size: int, seed: int, first: int
) -> Generator[Batch]:
    """Batches from step `first` on, for ever; made in a thread that stays a few steps ahead."""
    cv2.setNumThreads(1)  # its own pool would fight the training step for the cores
    queue: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, "batches") as maker:
        step = first
        try:
            while True:
                while len(queue) < _AHEAD:
                    queue.append(maker.submit(make_batch, data, section, how, size=size, seed=seed, step=step))
                    step += 1
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


@lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, 0, epoch)).permutation(total)
