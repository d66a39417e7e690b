"""Batches of augmented training images: a pure function of seed and step, made ahead of time."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.training.augmentation import Augmentation, augment
from edge_oneshot_device.bundle.manifest import InputSection
from edge_oneshot_device.encoding.preprocessing import scale

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
_AHEAD = 6
_TOGETHER = 8  # identities of one group that come together


@dataclass(frozen=True, eq=False)
class Source:
    """What batches are made from; any step's batch can be made at any time.

    Attributes:
        data: Images at `augmentation.OVERSAMPLING` times the resolution of `section`.
        section: Scales the pixels.
        how: The variation.
        size: Images a batch.
        seed: Of the run.
        images_a_class: 0: every image comes once before any comes again. Else so many images of
            each class come together, and with them other classes of its group, in the same
            orientation: the pairs and triplets that objectives over a batch learn from.
        part: Which of how many equal parts of each batch is made, for training on several devices.
    """

    data: Dataset
    section: InputSection
    how: Augmentation
    size: int
    seed: int
    images_a_class: int = 0
    part: tuple[int, int] = (0, 1)

    @property
    def classes(self) -> int:
        """Classes to learn: the identities, or each of their orientations."""
        return len(self.data.identities) * self.how.orientations

    def batch(self, step: int) -> Batch:
        """The batch of a step, from 0: float32 (size, h, w, c), scaled, and int64 (size,) below `classes`."""
        part, parts = self.part
        rng = np.random.default_rng((self.seed, 1, step, part))
        chosen, orientations = self._grouped(step) if self.images_a_class else self._shuffled(step)
        own = slice(self.size * part // parts, self.size * (part + 1) // parts)
        chosen, orientations = chosen[own], orientations[own]
        images = augment(self.data.images[chosen], orientations, self.how, rng)
        return scale(images, self.section), self.data.labels[chosen] * self.how.orientations + orientations

    def _shuffled(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        total = len(self.data.labels)
        places = np.arange(step * self.size, (step + 1) * self.size)
        chosen = np.array([_order(total, self.seed, place // total)[place % total] for place in places])
        orientations = np.random.default_rng((self.seed, 3, step)).integers(self.how.orientations, size=self.size)
        return chosen, orientations

    def _grouped(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rng = np.random.default_rng((self.seed, 3, step))
        chosen: list[npt.NDArray[np.int64]] = []
        orientations: list[int] = []
        wanted = -(-self.size // self.images_a_class)
        met: set[tuple[int, int]] = set()
        while len(chosen) < wanted:
            # a group is met as often as it has identities
            group = self._members[int(rng.integers(len(self._members)))]
            orientation = int(rng.integers(self.how.orientations))
            for identity in rng.permutation(group)[: min(_TOGETHER, wanted - len(chosen))]:
                if len(met) < self.classes and (int(identity), orientation) in met:
                    continue
                met.add((int(identity), orientation))
                own = self._images[identity]
                chosen.append(rng.choice(own, self.images_a_class, replace=len(own) < self.images_a_class))
                orientations.append(orientation)
        repeated = np.repeat(np.array(orientations, np.int64), self.images_a_class)
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
    """Batches from step `first` on, for ever; made in a thread that stays a few steps ahead."""
    cv2.setNumThreads(1)  # its own pool would fight the training step for the cores
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
