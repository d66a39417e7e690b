"""Images sorted by whom they show and who made them, to draw one-shot tasks from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_export.errors import ModelError

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Images sorted into cells: what one drawer made of one identity, or all images of one identity.

    A cell is the range `start`, `count` of `order`; its identity's range surrounds it.

    Attributes:
        order: int64 (n,), positions of the images.
        start, count: int64 (cells,).
        owner_start, owner_count: int64 (cells,), the range of the identity.
        pools: Of each group and each drawer, the cells that have a query outside them.
    """

    order: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    owner_start: NDArray[np.int64]
    owner_count: NDArray[np.int64]
    pools: list[list[NDArray[np.int64]]]


def sort_into_cells(labels: Integers, groups: Integers | None, drawers: Integers | None) -> Cells:
    """Sort images by identity, group and drawer, integers (n,) each.

    Raises:
        ModelError: Not one an image, or an identity in two groups.
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
        raise ModelError("an identity lies in two groups: label it apart in each", reason="bad_labels")
    usable = np.flatnonzero(owner_count > (1 if drawers is None else count))
    pools: list[list[NDArray[np.int64]]] = [[] for _ in range(int(group_of.max(initial=0)) + 1)]
    place = group[usable] * hands + hand[usable]
    by_place = usable[np.argsort(place, kind="stable")]
    for pool in np.split(by_place, np.flatnonzero(np.diff(np.sort(place))) + 1):
        if len(pool):
            pools[group[pool[0]]].append(pool)
    return Cells(order, start, count, owner_start, owner_count, pools)


def largest_ways(labels: Integers, *, groups: Integers | None = None, drawers: Integers | None = None) -> int:
    """The largest N that there are N-way one-shot tasks of; 0 when there is nothing to ask for."""
    return max((len(pool) for drawn in sort_into_cells(labels, groups, drawers).pools for pool in drawn), default=0)
