"""Templates as rows in memory, each with its person, added and deleted without copying all the others."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.matching.decision import MAX_TEMPLATES

BLOCK: Final = 64_000
"""Rows that lie side by side in memory; no power of two, which caches do not like as a stride."""

ABREAST: Final = 4
"""A block's rows are room for a multiple of so many."""

LONGEST: Final = 1e18
"""Squares of the distances between shorter vectors are finite in float32."""

SMALLEST: Final = 1e-30
"""Smaller values are encoded as 0, since what they would be divided by is none in float32."""

_ROOM: Final = 16  # one part in so many is kept free for the next rows
_AT_ONCE: Final = 2048


class Rows:
    """Templates and what a search needs of each.

    Rows 0..count-1 are in use; those of a person follow each other in a ring.

    Args:
        size: d, length of a template.
        encoded: Whether there are codes.

    Attributes:
        count: Rows in use.
        people: Persons who have one.
        owners: int64, the person of each row.
        following: int32, the next row of the same person.
        halves: float32, half the square of each row's length.
        scales: float32, what a unit of each row's code stands for.
        vectors: float32 (d, `BLOCK`), the last one shorter: templates side by side, which a product reads faster.
        codes: int8 (`BLOCK`, d), likewise; none unless encoded.
        used_vectors, used_codes: The parts of them in use, each after the number of its first row.
        longest: No row is longer.
        rest: No row differs more from its code, in units of the code.
        length: No row is longer, in units of its code.
    """

    def __init__(self, size: int, *, encoded: bool) -> None:
        self.count = 0
        self.people = 0
        self.owners = np.empty(0, np.int64)
        self.following = np.empty(0, np.int32)
        self.halves = np.empty(0, np.float32)
        self.scales = np.empty(0, np.float32)
        self.vectors: list[NDArray[np.float32]] = []
        self.codes: list[NDArray[np.int8]] = []
        self.used_vectors: list[tuple[int, NDArray[np.float32]]] = []
        self.used_codes: list[tuple[int, NDArray[np.int8]]] = []
        self.longest = 0.0
        self.rest = 0.0
        self.length = 0.0
        self._size = size
        self._encoded = encoded

    @property
    def nbytes(self) -> int:
        """Bytes of memory that they take."""
        arrays: list[NDArray[Any]] = [*self._flat(), *self.vectors, *self.codes]
        return sum(array.nbytes for array in arrays)

    def gather(self, rows: list[int]) -> NDArray[np.float32]:
        """Templates of k rows, float32 (k, d)."""
        if len(self.vectors) == 1:
            return np.ascontiguousarray(self.vectors[0].take(rows, axis=1).T)
        return np.stack([self.vectors[row // BLOCK][:, row % BLOCK] for row in rows])

    def ring(self, row: int) -> list[int]:
        """All rows of a row's person, beginning with it."""
        rows = [row]
        following = self.following.item(row)
        while following != row:
            rows.append(following)
            following = self.following.item(following)
        return rows

    def of(self, person: int) -> list[int]:
        """All rows of a person, rising."""
        return [int(row) for row in np.flatnonzero(self.owners[: self.count] == person)]

    def append(self, person: int, templates: NDArray[np.float32]) -> None:
        """Add the rows of somebody who has none.

        Raises:
            MachineError: Reason ``not_finite``: a template is no finite number. Nothing was changed.
        """
        start = self.count
        self.append_loose(np.full(len(templates), person, np.int64), templates)
        self.following[start : self.count] = np.roll(np.arange(start, self.count), -1)
        self.people += 1

    def append_loose(self, owners: NDArray[np.int64], templates: NDArray[np.float32]) -> None:
        """Add rows in any order, to be tied by `tie` before anything else is asked.

        Raises:
            MachineError: Reason ``not_finite``: a template is no finite number. Nothing was changed.
        """
        if templates.shape != (len(owners), self._size):
            raise ValueError(f"templates of shape {templates.shape}: expected ({len(owners)}, {self._size})")
        if not np.isfinite(templates).all():
            message = "a template is no finite number: the model or its runtime is at fault"
            raise MachineError(message, reason="not_finite")
        if self.count + len(owners) > len(self.owners):
            self._resize(self.count + len(owners))
        for start in range(0, len(owners), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            while len(owners[part]):
                part = self._append_some(owners, templates, part)
        self._use()

    def tie(self) -> None:
        """Tie all rows into rings anew.

        Raises:
            ValueError: A person has more than `MAX_TEMPLATES`.
        """
        order = np.argsort(self.owners[: self.count], kind="stable").astype(np.int32)
        if not len(order):
            return
        owners = self.owners[order]
        starts = np.concatenate([[0], np.flatnonzero(owners[1:] != owners[:-1]) + 1])
        counts = np.diff(starts, append=len(order))
        if counts.max() > MAX_TEMPLATES:
            raise ValueError(f"{counts.max()} templates of a person: at most {MAX_TEMPLATES} are possible")
        self.following[order[:-1]] = order[1:]
        self.following[order[starts + counts - 1]] = order[starts]
        self.people = len(starts)

    def delete(self, rows: list[int]) -> None:
        """Delete all rows of a person, none or more: the last rows move to their places."""
        self.people -= bool(rows)
        for row in sorted(rows, reverse=True):
            last = self.count - 1
            if row != last:
                self.following[self.ring(last)[-1]] = row
                for array in self._flat():
                    array[row] = array[last]
                self.vectors[row // BLOCK][:, row % BLOCK] = self.vectors[last // BLOCK][:, last % BLOCK]
                if self._encoded:
                    self.codes[row // BLOCK][row % BLOCK] = self.codes[last // BLOCK][last % BLOCK]
            self.count = last
        if len(self.owners) > self.count + self.count // 4 + _AT_ONCE:
            self._resize(self.count)
        self._use()

    def _flat(self) -> list[NDArray[Any]]:
        return [self.owners, self.following, self.halves, self.scales]

    def _append_some(self, owners: NDArray[np.int64], templates: NDArray[np.float32], part: slice) -> slice:
        """Add what the current block has room for; returns what is left."""
        block, place = divmod(self.count, BLOCK)
        end = min(part.stop, part.start + BLOCK - place)
        some = templates[part.start : end]
        own = slice(self.count, self.count + len(some))
        inside = slice(place, place + len(some))
        self.owners[own] = owners[part.start : end]
        self.vectors[block][:, inside] = some.T
        lengths = np.sqrt(np.einsum("ij,ij->i", some, some, dtype=np.float64))
        self.halves[own] = np.minimum(lengths, LONGEST) ** 2 / 2
        self.longest = max(self.longest, float(lengths.max()))
        if self._encoded:
            self.codes[block][inside], self.scales[own], rests, lengths = encode(some)
            self.rest = max(self.rest, float(rests.max()))
            self.length = max(self.length, float(lengths.max()))
        self.count += len(some)
        return slice(end, part.stop)

    def _use(self) -> None:
        starts = range(0, self.count, BLOCK)
        self.used_vectors = [(start, self.vectors[start // BLOCK][:, : self.count - start]) for start in starts]
        if self._encoded:
            self.used_codes = [(start, self.codes[start // BLOCK][: self.count - start]) for start in starts]

    def _resize(self, rows: int) -> None:
        """Make room for so many rows and a few more."""
        capacity = -(-(rows + rows // _ROOM + ABREAST) // ABREAST) * ABREAST
        self.owners = _resized(self.owners, capacity)
        self.following = _resized(self.following, capacity)
        self.halves = _resized(self.halves, capacity)
        self.scales = _resized(self.scales, capacity)
        sizes = [min(BLOCK, capacity - start) for start in range(0, capacity, BLOCK)]
        _fit(self.vectors, sizes, np.empty((self._size, 0), np.float32), axis=1)
        if self._encoded:
            _fit(self.codes, sizes, np.empty((0, self._size), np.int8), axis=0)


def encode(
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Encode vectors (k, d) as integers of 8 bits.

    Returns:
        Codes, int8 (k, d); the scale of each, float32 (k,); in units of it how far the vector is from its code at
        most, float32 (k,), and how long it is at most, float32 (k,).
    """
    greatest = np.abs(vectors).max(axis=1)
    scales = np.where(greatest < SMALLEST, np.float32(0.0), greatest / np.float32(127))
    units = vectors * np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales > 0)[:, np.newaxis]
    codes = np.rint(units)
    lengths = np.sqrt(np.einsum("ij,ij->i", units, units)) * 1.0001 + moved(vectors.shape[1])
    units -= codes
    rests = np.sqrt(np.einsum("ij,ij->i", units, units)) * 1.0001 + moved(vectors.shape[1])
    return codes.astype(np.int8), scales, rests, lengths


def moved(size: int) -> float:
    """How far rounding to float32 moves a vector, in units of its code, at most; a length by less than 1e-4 of it."""
    return float(3e-5 * size**0.5)


def _resized(array: NDArray[Any], rows: int, axis: int = 0) -> NDArray[Any]:
    if array.shape[axis] == rows:
        return array
    shape = list(array.shape)
    shape[axis] = rows
    resized = np.empty(shape, array.dtype)
    kept = (slice(None),) * axis + (slice(min(array.shape[axis], rows)),)
    resized[kept] = array[kept]
    return resized


def _fit(blocks: list[NDArray[Any]], sizes: list[int], empty: NDArray[Any], *, axis: int) -> None:
    """Give blocks these sizes; those of the right size stay where they are."""
    del blocks[len(sizes) :]
    blocks.extend([empty] * (len(sizes) - len(blocks)))
    for number, size in enumerate(sizes):
        blocks[number] = _resized(blocks[number], size, axis)
