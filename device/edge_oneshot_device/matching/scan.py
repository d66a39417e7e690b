"""Scans: the product of a probe with every template, or what it is at most.

Few templates are multiplied in float32. For many, the extra ``search`` brings numkong, whose product of integers of 8
bits reads a quarter of the memory; without it the float scan does them all.
"""

import math
import operator
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_oneshot_device.matching.rows import BLOCK, SMALLEST, Rows, moved

# Templates that numkong multiplies abreast. It makes 4 x 4 results at a time, but two read memory in better order.
_CACHED: Final = 4
_FAR: Final = 2
_IN_CACHE: Final = 1 << 15  # templates, up to which four are faster
TAKEN: Final = -(2**31)
"""Lower than any product of codes."""


class Keys(NamedTuple):
    """What a scan found: for each row at least, but for rounding, what the person could be ranked by.

    That is the product of template and probe; for the euclidean metric less half the square of the template.

    Attributes:
        values: float32 or int32 (n,), to be used up.
        taken: A value lower than any, for rows that are done with.
        unit: What 1 of a value stands for.
        excess: How much too low a value may be, in units.
    """

    values: NDArray[Any]
    taken: float
    unit: float = 1.0
    excess: float = 0.0


class _Products:
    """What numkong multiplies codes with: several of them abreast make a row.

    The code of the probe lies on the diagonal of as many columns, so that one row gives one product with each.

    Attributes:
        of_all: int32 (n,), of each code with the probe's.
    """

    def __init__(self, rows: Rows, abreast: int, size: int) -> None:
        # here, since a small gallery has no use for it
        self._numkong: Any = import_module("numkong")
        self._codes = list(rows.codes)
        columns = np.zeros((abreast, abreast * size), np.int8)
        self._columns = columns
        self._diagonal = as_strided(columns, (abreast, size), (abreast * size + size, 1))
        products = self._numkong.zeros((len(rows.owners) // abreast, abreast), dtype="int32")
        self.of_all = np.asarray(products).reshape(-1)
        self._parts = []
        for number, codes in enumerate(rows.codes):
            start = number * BLOCK // abreast
            several = codes.reshape(-1, abreast * size)
            self._parts.append((several, products[start : start + len(several)]))

    def are_of(self, rows: Rows) -> bool:
        """Whether the codes of these rows are still where they were."""
        return len(self._codes) == len(rows.codes) and all(map(operator.is_, self._codes, rows.codes))

    def multiply(self, codes: NDArray[np.float32]) -> None:
        """Fill `of_all`, used rows or not."""
        self._diagonal[:] = codes
        packed = self._numkong.dots_pack(self._columns, dtype="int8")
        for several, products in self._parts:
            self._numkong.dots_packed(several, packed, out=products)


class Scan:
    """Scans rows, for `search.Index`.

    Args:
        size: d, length of a template.
        halved: Whether half of the square of each template is subtracted.
        encoded: Whether there are codes once there are many rows.
    """

    def __init__(self, size: int, *, halved: bool, encoded: bool) -> None:
        self._size = size
        self._halved = halved
        self._encoded = encoded
        self._rows = Rows(size, halved=halved, encoded=encoded)
        self._probe = np.ones(size + halved, np.float32)
        self._front = self._probe[:size]
        self._all = self._values = np.empty(0, np.float32)
        self._products: _Products | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory for the products of each row, and what is made of them."""
        return (8 if self._encoded else 4) * len(self._rows.owners)

    def prepare(self, rows: Rows) -> None:
        """Make room, after each change of the rows."""
        self._rows = rows
        if len(self._all) != len(rows.owners):
            self._all = np.empty(len(rows.owners), np.float32)
        self._values = self._all[: rows.count]
        if self._products is not None and not self._products.are_of(rows):
            self._products = None

    def floats(self, probe: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keys of all rows, float32 (n,), to be used up."""
        blocks, values = self._rows.blocks, self._all
        if self._halved:
            self._front[:] = probe
            probe = self._probe
        # rows that are not in use too: only what lies in one piece is multiplied at once
        if len(blocks) == 1:
            probe.dot(blocks[0], values)
        else:
            for number, block in enumerate(blocks):
                probe.dot(block, values[number * BLOCK : number * BLOCK + block.shape[1]])
        return self._values

    def codes(self, probe: NDArray[np.float32]) -> Keys:
        """Keys of all rows by their codes."""
        # A template is s(q + r), of integers q and a rest r, the probe t(p + o). Their product is
        # st(qp + rp + (q + r)o); by Cauchy and Schwarz rp is at most |r||p|, and (q + r)o at most |q + r||o|.
        rows, products = self._rows, self._products
        if products is None:
            abreast = _CACHED if len(rows.owners) <= _IN_CACHE else _FAR
            products = self._products = _Products(rows, abreast, self._size)
        sizes = np.abs(probe)
        greatest = max(sizes.item(int(sizes.argmax())), SMALLEST)
        units = probe * np.float32(127.0 / greatest)
        codes = np.rint(units)
        products.multiply(codes)
        units -= codes
        rest = math.sqrt(float(units.dot(units))) * 1.0001 + moved(self._size)
        excess = rows.rest * math.sqrt(float(codes.dot(codes))) * 1.0001 + rows.length * rest
        unit = rows.unit * greatest / 127.0
        found = products.of_all[: rows.count]
        if not self._halved:
            return Keys(found, TAKEN, unit, excess)
        values = self._values
        np.copyto(values, found, casting="same_kind")
        values *= np.float32(unit)
        values += rows.halves[: rows.count]
        return Keys(values, -math.inf, excess=excess * unit)
