"""Templates as rows in memory, each with its person, added and deleted without copying all the others."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

BLOCK: Final = 64_000
"""Rows that lie side by side in memory; no power of two, which caches do not like as a stride."""

ABREAST: Final = 4
"""A block's rows are room for a multiple of so many."""

MAX_NORM: Final = 1e18
"""Squares of the distances between shorter vectors are finite in float32."""

SMALLEST: Final = 1e-30
"""Smaller values are encoded as 0, since what they would be divided by is none in float32."""

_FEW: Final = 7000  # rows, below which a product of floats is as fast as one of codes
_ROOM: Final = 16  # one part in so many is kept free for the next rows
_AT_ONCE: Final = 2048
_LINE: Final = 64  # bytes
_HEADROOM: Final = 1.05  # of the unit of the codes, lest each row a little larger has all of them made anew


class Rows:
    """Templates and what a search needs of each.

    Rows 0..count-1 are in use; those of a person follow each other in a ring.

    Args:
        size: d, length of a template.
        halved: Whether half of the square of each length is kept.
        encoded: Whether there are codes once there are many rows.

    Attributes:
        count: Rows in use.
        people: Persons who have one.
        owners: int64, the person of each row.
        following: int32, the next row of the same person.
        halves: float32, minus half of the square of each length; none unless halved.
        coded: Whether there are so many rows that they have codes.
        blocks: float32 (d, `BLOCK`), the last one shorter: templates side by side, which a product reads faster, with
            `halves` as one more row; without it, and each template in one piece, where codes are multiplied instead.
        vectors: The templates in them, used or not.
        codes: int8 (`BLOCK`, d), likewise.
        unit: What 1 in a code stands for.
        longest: No row is longer.
        rest: No row differs more from its code, in units.
        length: No row is longer, in units.
    """

    def __init__(self, size: int, *, halved: bool, encoded: bool) -> None:
        self.count = 0
        self.people = 0
        self.owners = np.empty(0, np.int64)
        self.following = np.empty(0, np.int32)
        self.halves = np.empty(0, np.float32)
        self.coded = False
        self.blocks: list[NDArray[np.float32]] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.codes: list[NDArray[np.int8]] = []
        self.unit = 0.0
        self.longest = 0.0
        self.rest = 0.0
        self.length = 0.0
        self._size = size
        self._halved = halved
        self._encoded = encoded

    @property
    def nbytes(self) -> int:
        """Bytes of memory that they take."""
        arrays: list[NDArray[Any]] = [*self._flat(), *self.blocks, *self.codes]
        return sum(array.nbytes for array in arrays)

    def used(self) -> list[NDArray[np.float32]]:
        """The templates in use, float32 (d, n) of each block."""
        # there may be room for a further block
        return [self.vectors[start // BLOCK][:, : self.count - start] for start in range(0, self.count, BLOCK)]

    def gather(self, rows: list[int]) -> NDArray[np.float32]:
        """Templates of k rows, float32 (k, d)."""
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
        self._encode(start)

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
            self._resize(self.count + len(owners), _ROOM)
        for start in range(0, len(owners), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            while len(owners[part]):
                part = self._append_some(owners, templates, part)

    def tie(self) -> None:
        """Tie all rows into rings anew, and keep no room.

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
        self._resize(self.count)
        self.following[order[:-1]] = order[1:]
        self.following[order[starts + counts - 1]] = order[starts]
        self.people = len(starts)
        self._encode(0)

    def delete(self, rows: list[int]) -> None:
        """Delete all rows of a person, none or more: the last rows move to their places."""
        self.people -= bool(rows)
        for row in sorted(rows, reverse=True):
            last = self.count - 1
            if row != last:
                self.following[self.ring(last)[-1]] = row
                for array in self._flat():
                    array[row] = array[last]
                self.blocks[row // BLOCK][:, row % BLOCK] = self.blocks[last // BLOCK][:, last % BLOCK]
                if self.coded:
                    self.codes[row // BLOCK][row % BLOCK] = self.codes[last // BLOCK][last % BLOCK]
            self.count = last
        if len(self.owners) > self.count + self.count // 4 + _AT_ONCE:
            self._resize(self.count, _ROOM)

    def _flat(self) -> list[NDArray[Any]]:
        return [self.owners, self.following, *([self.halves] if self._halved else [])]

    def _append_some(self, owners: NDArray[np.int64], templates: NDArray[np.float32], part: slice) -> slice:
        """Add what the current block has room for; returns what is left."""
        block, place = divmod(self.count, BLOCK)
        end = min(part.stop, part.start + BLOCK - place)
        some = templates[part.start : end]
        inside = slice(place, place + len(some))
        self.owners[self.count : self.count + len(some)] = owners[part.start : end]
        self.vectors[block][:, inside] = some.T
        lengths = np.sqrt(np.einsum("ij,ij->i", some, some, dtype=np.float64))
        if self._halved:
            self.halves[self.count : self.count + len(some)] = np.minimum(lengths, MAX_NORM) ** 2 / -2
            if not self.coded:
                self.blocks[block][-1, inside] = self.halves[self.count : self.count + len(some)]
        self.longest = max(self.longest, float(lengths.max()))
        self.count += len(some)
        return slice(end, part.stop)

    def _encode(self, start: int) -> None:
        """Make the codes of the rows from one on; all of them anew when one is too large for the unit."""
        if not self.coded:
            return
        parts = self._parts(start)
        greatest = max(float(np.abs(vectors).max()) for vectors, _ in parts)
        if not self.unit or greatest > 127 * self.unit:
            self.unit = max(greatest * _HEADROOM, SMALLEST) / 127
            self.rest = self.length = 0.0
            parts = self._parts(0)
        for vectors, codes in parts:
            codes[:], rest, length = encode(vectors.T, self.unit)
            self.rest, self.length = max(self.rest, rest), max(self.length, length)

    def _parts(self, start: int) -> list[tuple[NDArray[np.float32], NDArray[np.int8]]]:
        """Vectors (d, k) and codes (k, d) of the rows from one on, as many at once as caches hold."""
        found = []
        for number, (vectors, codes) in enumerate(zip(self.used(), self.codes, strict=False)):
            for place in range(max(start - number * BLOCK, 0), vectors.shape[1], _AT_ONCE):
                end = min(place + _AT_ONCE, vectors.shape[1])
                found.append((vectors[:, place:end], codes[place:end]))
        return found

    def _resize(self, rows: int, room: int = 0) -> None:
        """Make room for so many rows, and for one part in `room` more."""
        capacity = -(-(rows + (rows // room + ABREAST if room else 0)) // ABREAST) * ABREAST
        former, self.coded = self.coded, self._encoded and rows >= _FEW
        self.owners = _resized(self.owners, capacity)
        self.following = _resized(self.following, capacity)
        if self._halved:
            self.halves = _resized(self.halves, capacity)
        sizes = [min(BLOCK, capacity - start) for start in range(0, capacity, BLOCK)]
        blocks, codes = self.blocks, self.codes
        self.blocks, self.codes = [], []
        for number, size in enumerate(sizes):
            block = blocks[number] if number < len(blocks) else np.empty((self._size, 0), np.float32)
            if block.shape[1] != size or former != self.coded:
                block = self._block(block[: self._size], number, size)
            self.blocks.append(block)
            if self.coded:
                own = codes[number] if number < len(codes) else np.empty((0, self._size), np.int8)
                self.codes.append(_resized(own, size))
        self.vectors = [block[: self._size] for block in self.blocks]
        if former != self.coded:
            self.unit = 0.0  # all codes are to be made

    def _block(self, vectors: NDArray[np.float32], number: int, size: int) -> NDArray[np.float32]:
        """A block of another size, with what fits in of the vectors (d, n)."""
        kept = min(vectors.shape[1], size)
        if self.coded:
            block = _aligned((size, self._size), vectors.dtype).T
        else:
            block = _aligned((self._size + self._halved, size), vectors.dtype)
            if self._halved:
                block[-1] = self.halves[number * BLOCK : number * BLOCK + size]
        block[: self._size, :kept] = vectors[:, :kept]
        return block


def encode(vectors: NDArray[np.float32], unit: float) -> tuple[NDArray[np.int8], float, float]:
    """Encode vectors (k, d), of components up to 127 units, as integers of 8 bits.

    Returns:
        Codes, int8 (k, d), and, in units, how far a vector is from its code at most and how long one is at most.
    """
    units = vectors * np.float32(1 / unit)
    codes = np.rint(units)
    length = float(np.einsum("ij,ij->i", units, units).max()) ** 0.5
    units -= codes
    rest = float(np.einsum("ij,ij->i", units, units).max()) ** 0.5
    allowance = moved(vectors.shape[1])
    return codes.astype(np.int8), rest * 1.0001 + allowance, length * 1.0001 + allowance


def moved(size: int) -> float:
    """How far rounding to float32 moves a vector, in units of its code, at most; a length by less than 1e-4 of it."""
    return float(3e-5 * size**0.5)


def _resized(array: NDArray[Any], rows: int) -> NDArray[Any]:
    if len(array) == rows:
        return array
    resized = _aligned((rows, *array.shape[1:]), array.dtype)
    resized[: len(array)] = array[:rows]
    return resized


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros, since what is not in use is multiplied too; at the beginning of a line of the caches."""
    room = np.zeros(math.prod(shape) * dtype.itemsize + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + len(room) - _LINE].view(dtype).reshape(shape)
