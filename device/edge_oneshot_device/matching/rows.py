"""Templates as rows in memory, each with its person; rows are added and deleted without copying all the others."""

import math
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

ROW_MULTIPLE: Final = 4
"""The capacity of a block, in rows, is a multiple of this: a quantized scan multiplies up to four rows at once."""

MAX_NORM: Final = 1e18
"""Squared distances between shorter vectors are finite in float32."""

MIN_MAGNITUDE: Final = 1e-30
"""Components below this are quantized to 0, because their scale would be 0 in float32."""

_SPARE_SHARE: Final = 16  # one row in so many is kept free for the next ones
_CACHE_LINE: Final = 64  # bytes
_HEADROOM: Final = 1.05  # of the scale, so that a slightly larger row does not requantize all of them


class Layout(NamedTuple):
    """How templates lie in memory and are scanned; the defaults were measured (docs/experiments/search.md).

    Attributes:
        block: Rows that lie side by side; not a power of two, which caches handle badly as a stride.
        batch: Rows that are copied or quantized at once.
        min_quantized: Rows from which an 8-bit copy is scanned in place of the float32 templates; None: never. Below,
            a float32 product is as fast. The 8-bit product needs numkong, from the extra ``search``.
        cached: Rows up to which the 8-bit scan multiplies four rows at once instead of two.
    """

    block: int = 64_000
    batch: int = 2048
    min_quantized: int | None = 7000 if find_spec("numkong") is not None else None
    cached: int = 1 << 15


class Rows:
    """Templates and what a search needs of each.

    Rows 0 to count - 1 are in use. The rows of a person form a circular linked list.

    Args:
        size: d, length of a template.
        euclidean: Whether half of each squared norm is kept.
        layout: How they lie in memory.

    Attributes:
        count: Rows in use.
        people: Persons with at least one row.
        owners: int64 (capacity,), the person of each row.
        next_rows: int32 (capacity,), the next row of the same person.
        half_norms: float32 (capacity,), minus half of each squared norm; empty unless `euclidean`.
        quantized: Whether there are so many rows that they have codes.
        blocks: float32 (d, `layout.block`), the last one narrower: templates side by side, which a product reads
            faster, with `half_norms` as one more row. Where codes are multiplied instead: without that row, and each
            template contiguous.
        vectors: The templates in the blocks, used or not.
        codes: int8 (`layout.block`, d) for each block: the quantized templates.
        scale: What 1 in a code stands for: template = scale * (code + residual).
        max_norm: Upper bound of the templates' norms.
        max_residual_norm: Upper bound of the residuals' norms, in units of `scale`.
        max_scaled_norm: Upper bound of the templates' norms, in units of `scale`.
    """

    def __init__(self, size: int, *, euclidean: bool, layout: Layout) -> None:
        self.count = 0
        self.people = 0
        self.owners = np.empty(0, np.int64)
        self.next_rows = np.empty(0, np.int32)
        self.half_norms = np.empty(0, np.float32)
        self.quantized = False
        self.blocks: list[NDArray[np.float32]] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.codes: list[NDArray[np.int8]] = []
        self.scale = 0.0
        self.max_norm = 0.0
        self.max_residual_norm = 0.0
        self.max_scaled_norm = 0.0
        self._size = size
        self._euclidean = euclidean
        self._layout = layout

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the rows take."""
        arrays: list[NDArray[Any]] = [*self._per_row(), *self.blocks, *self.codes]
        return sum(array.nbytes for array in arrays)

    def used(self) -> list[NDArray[np.float32]]:
        """The templates in use, float32 (d, n) of each block."""
        block = self._layout.block
        # there may be spare capacity for a further block
        return [self.vectors[start // block][:, : self.count - start] for start in range(0, self.count, block)]

    def gather(self, rows: list[int]) -> NDArray[np.float32]:
        """Templates of k rows, float32 (k, d)."""
        block = self._layout.block
        return np.stack([self.vectors[row // block][:, row % block] for row in rows])

    def rows_of_owner(self, row: int) -> list[int]:
        """All rows of the person that a row belongs to, beginning with this row."""
        rows = [row]
        following = self.next_rows.item(row)
        while following != row:
            rows.append(following)
            following = self.next_rows.item(following)
        return rows

    def rows_of(self, person: int) -> list[int]:
        """All rows of a person in ascending order; found by a scan of `owners`."""
        return [int(row) for row in np.flatnonzero(self.owners[: self.count] == person)]

    def append(self, person: int, templates: NDArray[np.float32]) -> None:
        """Add the rows of a person who has none.

        Args:
            person: Any 64-bit integer.
            templates: float32 (k, d).

        Raises:
            MachineError: Reason ``not_finite``: a template holds NaN or infinity. Nothing was changed.
        """
        start = self.count
        self.append_unlinked(np.full(len(templates), person, np.int64), templates)
        self.next_rows[start : self.count] = np.roll(np.arange(start, self.count), -1)
        self.people += 1
        self._quantize(start)

    def append_unlinked(self, owners: NDArray[np.int64], templates: NDArray[np.float32]) -> None:
        """Add rows in any order; `link` has to be called before any other method.

        Args:
            owners: int64 (n,), the person of each row.
            templates: float32 (n, d).

        Raises:
            MachineError: Reason ``not_finite``: a template holds NaN or infinity. Nothing was changed.
        """
        if templates.shape != (len(owners), self._size):
            raise ValueError(f"templates of shape {templates.shape}: expected ({len(owners)}, {self._size})")
        if not np.isfinite(templates).all():
            message = "a template holds NaN or infinity: the model or its runtime is at fault"
            raise MachineError(message, reason="not_finite")
        if self.count + len(owners) > len(self.owners):
            self._resize(self.count + len(owners), _SPARE_SHARE)
        batch = self._layout.batch
        for start in range(0, len(owners), batch):
            part = slice(start, start + batch)
            while len(owners[part]):
                part = self._fill_block(owners, templates, part)

    def link(self) -> None:
        """Link the rows of each person anew, and release the spare capacity.

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
        self.next_rows[order[:-1]] = order[1:]
        self.next_rows[order[starts + counts - 1]] = order[starts]
        self.people = len(starts)
        self._quantize(0)

    def delete(self, rows: list[int]) -> None:
        """Delete all rows of one person; the last rows move into their places. An empty list changes nothing."""
        self.people -= bool(rows)
        block = self._layout.block
        for row in sorted(rows, reverse=True):
            last = self.count - 1
            if row != last:
                self.next_rows[self.rows_of_owner(last)[-1]] = row
                for array in self._per_row():
                    array[row] = array[last]
                self.blocks[row // block][:, row % block] = self.blocks[last // block][:, last % block]
                if self.quantized:
                    self.codes[row // block][row % block] = self.codes[last // block][last % block]
            self.count = last
        if len(self.owners) > self.count + self.count // 4 + self._layout.batch:
            self._resize(self.count, _SPARE_SHARE)

    def _per_row(self) -> list[NDArray[Any]]:
        return [self.owners, self.next_rows, *([self.half_norms] if self._euclidean else [])]

    def _fill_block(self, owners: NDArray[np.int64], templates: NDArray[np.float32], part: slice) -> slice:
        """Add the rows of `part` that the current block has room for, and return the others."""
        block, place = divmod(self.count, self._layout.block)
        end = min(part.stop, part.start + self._layout.block - place)
        added = templates[part.start : end]
        inside = slice(place, place + len(added))
        self.owners[self.count : self.count + len(added)] = owners[part.start : end]
        self.vectors[block][:, inside] = added.T
        norms = np.sqrt(np.einsum("ij,ij->i", added, added, dtype=np.float64))
        if self._euclidean:
            self.half_norms[self.count : self.count + len(added)] = np.minimum(norms, MAX_NORM) ** 2 / -2
            if not self.quantized:
                self.blocks[block][-1, inside] = self.half_norms[self.count : self.count + len(added)]
        self.max_norm = max(self.max_norm, float(norms.max()))
        self.count += len(added)
        return slice(end, part.stop)

    def _quantize(self, start: int) -> None:
        """Quantize the rows from `start` on; all rows anew when one exceeds the range of the scale."""
        if not self.quantized:
            return
        parts = self._parts(start)
        largest = max(float(np.abs(vectors).max()) for vectors, _ in parts)
        if not self.scale or largest > 127 * self.scale:
            self.scale = max(largest * _HEADROOM, MIN_MAGNITUDE) / 127
            self.max_residual_norm = self.max_scaled_norm = 0.0
            parts = self._parts(0)
        for vectors, codes in parts:
            codes[:], residual_norm, scaled_norm = quantize_rows(vectors.T, self.scale)
            self.max_residual_norm = max(self.max_residual_norm, residual_norm)
            self.max_scaled_norm = max(self.max_scaled_norm, scaled_norm)

    def _parts(self, start: int) -> list[tuple[NDArray[np.float32], NDArray[np.int8]]]:
        """Vectors (d, k) and codes (k, d) of the rows from `start` on, in batches that fit the caches."""
        found, batch = [], self._layout.batch
        for number, (vectors, codes) in enumerate(zip(self.used(), self.codes, strict=False)):
            for place in range(max(start - number * self._layout.block, 0), vectors.shape[1], batch):
                end = min(place + batch, vectors.shape[1])
                found.append((vectors[:, place:end], codes[place:end]))
        return found

    def _resize(self, rows: int, spare_share: int = 0) -> None:
        """Set the capacity to so many rows, and one row in `spare_share` more."""
        spare = rows // spare_share + ROW_MULTIPLE if spare_share else 0
        capacity = -(-(rows + spare) // ROW_MULTIPLE) * ROW_MULTIPLE
        least = self._layout.min_quantized
        former, self.quantized = self.quantized, least is not None and rows >= least
        self.owners = _resized(self.owners, capacity)
        self.next_rows = _resized(self.next_rows, capacity)
        if self._euclidean:
            self.half_norms = _resized(self.half_norms, capacity)
        full = self._layout.block
        sizes = [min(full, capacity - start) for start in range(0, capacity, full)]
        blocks, codes = self.blocks, self.codes
        self.blocks, self.codes = [], []
        for number, size in enumerate(sizes):
            block = blocks[number] if number < len(blocks) else np.empty((self._size, 0), np.float32)
            if block.shape[1] != size or former != self.quantized:
                block = self._block(block[: self._size], number, size)
            self.blocks.append(block)
            if self.quantized:
                own = codes[number] if number < len(codes) else np.empty((0, self._size), np.int8)
                self.codes.append(_resized(own, size))
        self.vectors = [block[: self._size] for block in self.blocks]
        if former != self.quantized:
            self.scale = 0.0  # the next call of `_quantize` makes all codes

    def _block(self, vectors: NDArray[np.float32], number: int, size: int) -> NDArray[np.float32]:
        """A block of another size that holds as many of the vectors (d, n) as it has room for."""
        kept = min(vectors.shape[1], size)
        if self.quantized:
            block = _aligned((size, self._size), vectors.dtype).T
        else:
            block = _aligned((self._size + self._euclidean, size), vectors.dtype)
            if self._euclidean:
                start = number * self._layout.block
                block[-1] = self.half_norms[start : start + size]
        block[: self._size, :kept] = vectors[:, :kept]
        return block


def quantize_rows(vectors: NDArray[np.float32], scale: float) -> tuple[NDArray[np.int8], float, float]:
    """Quantize vectors symmetrically to 8 bits: vector = scale * (code + residual).

    Args:
        vectors: float32 (k, d), with components of at most 127 times the scale.
        scale: What 1 in a code stands for.

    Returns:
        Codes, int8 (k, d); upper bounds of the residuals' norms and of the vectors' norms, both in units of the scale.
    """
    scaled = vectors * np.float32(1 / scale)
    codes = np.rint(scaled)
    norm = float(np.einsum("ij,ij->i", scaled, scaled).max()) ** 0.5
    scaled -= codes
    residual_norm = float(np.einsum("ij,ij->i", scaled, scaled).max()) ** 0.5
    allowance = rounding_error(vectors.shape[1])
    return codes.astype(np.int8), residual_norm * 1.0001 + allowance, norm * 1.0001 + allowance


def rounding_error(size: int) -> float:
    """Upper bound of how far rounding to float32 moves a scaled vector; it changes a norm by less than 1e-4 of it."""
    return float(3e-5 * size**0.5)


def _resized(array: NDArray[Any], rows: int) -> NDArray[Any]:
    if len(array) == rows:
        return array
    resized = _aligned((rows, *array.shape[1:]), array.dtype)
    resized[: len(array)] = array[:rows]
    return resized


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros, because unused rows are multiplied too; aligned to a cache line."""
    buffer = np.zeros(math.prod(shape) * dtype.itemsize + _CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % _CACHE_LINE
    return buffer[start : start + len(buffer) - _CACHE_LINE].view(dtype).reshape(shape)
