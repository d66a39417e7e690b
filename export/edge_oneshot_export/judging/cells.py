"""Images sorted by identity and drawer, to draw one-shot tasks from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_export.errors import ModelError

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Images sorted into cells: the images of one identity by one drawer, or all images of one identity.

    A cell is the range `start`, `count` of `order`. The range of its identity contains it.

    Attributes:
        order: int64 (n,), positions of the images.
        start, count: int64 (cells,).
        owner_start, owner_count: int64 (cells,), the range of the cell's identity.
        pools: For each group and each drawer, the cells whose identity has an image outside the cell for the query.
    """

    order: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    owner_start: NDArray[np.int64]
    owner_count: NDArray[np.int64]
    pools: list[list[NDArray[np.int64]]]


def sort_into_cells(labels: Integers, groups: Integers | None, drawers: Integers | None) -> Cells:
    """Sort images by identity, group and drawer.

    Args:
        labels: Integers (n,), the identity of each image.
        groups: Integers (n,), the group of each image; None for one group.
        drawers: Integers (n,), who drew each image; None for one cell an identity.

    Returns:
        The cells.

    Raises:
        ModelError: The arrays differ in length, or an identity is in two groups.
    """
    for name, values in (("groups", groups), ("drawers", drawers)):
        if values is not None and values.shape != labels.shape:
            message = f"{name} of shape {values.shape} for {len(labels)} labels: need one an image"
            raise ModelError(message, reason="bad_labels")
    owner_of = np.unique(labels, return_inverse=True)[1]
    hand_of = np.zeros_like(owner_of) if drawers is None else np.unique(drawers, return_inverse=True)[1]
    group_of = np.zeros_like(owner_of) if groups is None else np.unique(groups, return_inverse=True)[1]
    hands = int(hand_of.max(initial=0)) + 1
    code = owner_of * hands + hand_of
    order = np.argsort(code, kind="stable")
    cells, start, count = np.unique(code[order], return_index=True, return_counts=True)
    owner, hand, group = cells // hands, cells % hands, group_of[order[start]]
    owner_count = np.bincount(owner_of)[owner]
    owner_start = np.searchsorted(owner_of[order], owner)
    if not np.array_equal(group_of[order], np.repeat(group_of[order[owner_start]], count)):
        raise ModelError("an identity is in two groups: give it a label of its own in each", reason="bad_labels")
    usable = np.flatnonzero(owner_count > (1 if drawers is None else count))
    pools: list[list[NDArray[np.int64]]] = [[] for _ in range(int(group_of.max(initial=0)) + 1)]
    place = group[usable] * hands + hand[usable]
    by_place = usable[np.argsort(place, kind="stable")]
    for pool in np.split(by_place, np.flatnonzero(np.diff(np.sort(place))) + 1):
        if len(pool):
            pools[group[pool[0]]].append(pool)
    return Cells(order, start, count, owner_start, owner_count, pools)


def largest_ways(labels: Integers, *, groups: Integers | None = None, drawers: Integers | None = None) -> int:
    """The largest N of the N-way one-shot tasks that these images allow.

    Args:
        labels: Integers (n,), the identity of each image.
        groups: Integers (n,), the group of each image, if the identities of a task are from one group.
        drawers: Integers (n,), who drew each image, if support and query are by different drawers.

    Returns:
        N; 0 when there are no tasks.
    """
    return max((len(pool) for drawn in sort_into_cells(labels, groups, drawers).pools for pool in drawn), default=0)
