"""The form of every loaded data set: labelled images, in groups that can be held out."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.errors import DataError
from edge_oneshot_export.judging.protocols import LabelledImages


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled images, prepared by the device's preprocessing.

    An identity is a character or a person, which the encoder learns to separate from others. A group is held out as a
    whole: an alphabet, or a single identity.

    Attributes:
        name: Source of the images.
        images: uint8 (n, h, w, c).
        labels: int64 (n,), index into `identities`, every one of them used.
        identities: Name of each label.
        groups: int64 (n,), index into `group_names`, every one of them used.
        group_names: Name of each group.
        drawers: int64 (n,), a number of who drew the image, comparable within a group only; None for photos.
        faults: For photos of faces, the reason why no face could be cut from each, or None where one was.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    identities: tuple[str, ...]
    groups: NDArray[np.int64]
    group_names: tuple[str, ...]
    drawers: NDArray[np.int64] | None
    faults: tuple[str | None, ...] | None = None

    def only(self, groups: Iterable[str]) -> "Dataset":
        """The images of these groups, labels and groups renumbered in the same order.

        Raises:
            DataError: A group is unknown, or none was named.
        """
        wanted = self._known(groups)
        return self._take(np.array([name in wanted for name in self.group_names], bool)[self.groups])

    def without(self, groups: Iterable[str]) -> "Dataset":
        """The images of all other groups, labels and groups renumbered in the same order.

        Raises:
            DataError: A group is unknown, or no other is left.
        """
        unwanted = self._known(groups)
        return self._take(np.array([name not in unwanted for name in self.group_names], bool)[self.groups])

    def kept(self, mask: NDArray[np.bool_]) -> "Dataset":
        """The images where the mask (n,) is true, labels and groups renumbered in the same order.

        Raises:
            DataError: There are none.
        """
        return self._take(mask)

    def split(self, held_out: int, seed: int) -> tuple["Dataset", "Dataset"]:
        """Hold out whole groups; the same seed holds out the same ones.

        The groups are chosen by the SHA-256 of seed and name, so that no library's generator matters.

        Args:
            held_out: Count of the groups to hold out.
            seed: Random seed.

        Returns:
            The other groups, and the groups held out.

        Raises:
            DataError: Reason ``bad_split``: `held_out` is below 1 or leaves no group to train on.
        """
        if not 1 <= held_out < len(self.group_names):
            raise DataError(
                f"{self.name}: cannot hold out {held_out} of {len(self.group_names)} groups, "
                f"1 to {len(self.group_names) - 1} is possible",
                reason="bad_split",
            )

        def rank(name: str) -> bytes:
            return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()

        ranked = sorted(self.group_names, key=rank)
        return self.without(ranked[:held_out]), self.only(ranked[:held_out])

    def labelled(self) -> LabelledImages:
        """The images as the export package takes them."""
        return LabelledImages(
            self.images, self.labels, self.identities, self.faults, self.groups, self.group_names, self.drawers
        )

    def _known(self, groups: Iterable[str]) -> set[str]:
        names = set(groups)
        if unknown := sorted(names.difference(self.group_names)):
            there = ", ".join(self.group_names[:60]) + (", ..." if len(self.group_names) > 60 else "")
            raise DataError(f"{self.name}: no group {unknown[0]!r}, there are: {there}", reason="unknown_group")
        return names

    def _take(self, mask: NDArray[np.bool_]) -> "Dataset":
        if not mask.any():
            raise DataError(f"{self.name}: no group is left", reason="empty")
        labels, label_of = np.unique(self.labels[mask], return_inverse=True)
        groups, group_of = np.unique(self.groups[mask], return_inverse=True)
        return Dataset(
            name=self.name,
            images=self.images[mask],
            labels=label_of.astype(np.int64),
            identities=tuple(self.identities[label] for label in labels),
            groups=group_of.astype(np.int64),
            group_names=tuple(self.group_names[group] for group in groups),
            drawers=None if self.drawers is None else self.drawers[mask],
            faults=None if self.faults is None else tuple(itertools.compress(self.faults, mask)),
        )


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Several data sets as one. The drawers are kept if all of them have drawers.

    Raises:
        DataError: Reason ``bad_mix``: a group is in two of them.
    """
    names = [name for part in parts for name in part.group_names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{twice[0]} is in two of {', '.join(part.name for part in parts)}", reason="bad_mix")
    people = np.cumsum([0, *(len(part.identities) for part in parts)])
    groups = np.cumsum([0, *(len(part.group_names) for part in parts)])
    drawers = [part.drawers for part in parts if part.drawers is not None]
    return Dataset(
        name="+".join(part.name for part in parts),
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels + first for part, first in zip(parts, people, strict=False)]),
        identities=tuple(identity for part in parts for identity in part.identities),
        groups=np.concatenate([part.groups + first for part, first in zip(parts, groups, strict=False)]),
        group_names=tuple(names),
        drawers=np.concatenate(drawers) if len(drawers) == len(parts) else None,
    )
