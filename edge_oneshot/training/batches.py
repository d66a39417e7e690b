"""Batches of augmented training images: each is a pure function of seed and step, and made ahead of time."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.training.presets import AnyAugmentation, varied
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import scale

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
_AHEAD = 6
_TOGETHER = 8  # identities of one group in a batch


@dataclass(frozen=True, eq=False)
class Source:
    """The source of the batches; the batch of any step can be made at any time.

    Attributes:
        data: Images as `edge_oneshot.training.images.oversampled` says of `section`.
        section: The encoder's input, for which the pixels are scaled.
        augmentation: How much the images vary.
        size: Images per batch.
        seed: Random seed of the run.
        images_per_class: 0: every image comes once before any comes again. Otherwise a batch holds this many images
            of a class, beside other classes of its group in the same orientation: the pairs and triplets of the
            objectives that compare the images of a batch.
        part: Number of this process's part of each batch, and the count of the equal parts.
    """

    data: Dataset
    section: InputSection
    augmentation: AnyAugmentation
    size: int
    seed: int
    images_per_class: int = 0
    part: tuple[int, int] = (0, 1)

    @property
    def classes(self) -> int:
        """Count of the classes: each orientation of each identity is one."""
        return len(self.data.identities) * self.augmentation.orientations

    def batch(self, step: int) -> Batch:
        """The batch of a step, from 0: float32 (size, h, w, c), scaled, and int64 (size,) below `classes`."""
        part, parts = self.part
        rng = np.random.default_rng((self.seed, 1, step, part))
        chosen, orientations = self._grouped(step) if self.images_per_class else self._shuffled(step)
        own = slice(self.size * part // parts, self.size * (part + 1) // parts)
        chosen, orientations = chosen[own], orientations[own]
        images = varied(self.data.images[chosen], orientations, self.augmentation, self.section, rng)
        return scale(images, self.section), self.data.labels[chosen] * self.augmentation.orientations + orientations

    def _shuffled(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        total = len(self.data.labels)
        places = np.arange(step * self.size, (step + 1) * self.size)
        chosen = np.array([_order(total, self.seed, place // total)[place % total] for place in places])
        rng = np.random.default_rng((self.seed, 3, step))
        return chosen, rng.integers(self.augmentation.orientations, size=self.size)

    def _grouped(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rng = np.random.default_rng((self.seed, 3, step))
        chosen: list[npt.NDArray[np.int64]] = []
        orientations: list[int] = []
        wanted = -(-self.size // self.images_per_class)
        met: set[tuple[int, int]] = set()
        while len(chosen) < wanted:
            # so that a group comes as often as it has identities
            group = self._members[int(rng.integers(len(self._members)))]
            orientation = int(rng.integers(self.augmentation.orientations))
            for identity in rng.permutation(group)[: min(_TOGETHER, wanted - len(chosen))]:
                if len(met) < self.classes and (int(identity), orientation) in met:
                    continue
                met.add((int(identity), orientation))
                own = self._images[identity]
                chosen.append(rng.choice(own, self.images_per_class, replace=len(own) < self.images_per_class))
                orientations.append(orientation)
        repeated = np.repeat(np.array(orientations, np.int64), self.images_per_class)
        return np.concatenate(chosen)[: self.size], repeated[: self.size]

    @cached_property
    def _images(self) -> list[npt.NDArray[np.int64]]:
        """Positions of each identity's images."""
        return [np.flatnonzero(self.data.labels == identity) for identity in range(len(self.data.identities))]

    @cached_property
    def _members(self) -> list[npt.NDArray[np.int64]]:
        """For each identity, the identities of its group."""
        group_of = np.zeros(len(self.data.identities), np.int64)
        group_of[self.data.labels] = self.data.groups
        return [np.flatnonzero(group_of == group) for group in group_of]


def batches(source: Source, first: int) -> Generator[Batch]:
    """Batches from step `first` on, without end; a thread makes them a few steps ahead.

    Args:
        source: Makes the batches.
        first: The first step.
    """
    cv2.setNumThreads(1)  # OpenCV's own threads would compete with the training step for the cores
    queue: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, "batches") as maker:
        step = first
        try:
            while True:
                while len(queue) < _AHEAD:
                    queue.append(maker.submit(source.batch, step))
                    step += 1
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


@lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, 0, epoch)).permutation(total)
