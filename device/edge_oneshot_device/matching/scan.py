"""Scans: an upper bound of every template's score, from one product of the probe with all templates.

Few templates are multiplied in float32. Of many, numkong (from the extra ``search``) multiplies 8-bit codes, a quarter
of the memory; without it the float32 scan is used at any size.
"""

import math
import operator
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_oneshot_device.matching.rows import MIN_MAGNITUDE, Layout, Rows, rounding_error

# Rows that numkong multiplies at once: its kernel makes 4 x 4 products, but two read a large memory in better order.
_COLUMNS_CACHED: Final = 4
_COLUMNS: Final = 2

REMOVED: Final = -(2**31)
"""Lower than any product of codes."""


class UpperBounds(NamedTuple):
    """For each row an upper bound, but for rounding, of its template's ranking value.

    The ranking value is the product of template and probe; for the Euclidean metric minus half the template's squared
    norm. The bound of a row is ``scale * (values[row] + slack)``.

    Attributes:
        values: float32 or int32 (n,); the search overwrites them.
        removed: A value lower than any other, for rows that need not be looked at again.
        scale: What 1 of a value stands for.
        slack: Upper bound of the quantization error of a value.
    """

    values: NDArray[Any]
    removed: float
    scale: float = 1.0
    slack: float = 0.0


class _CodeProducts:
    """Products of the probe's code with all codes, by numkong.

    A few consecutive codes count as one long row of a matrix. The probe's code is repeated on the diagonal of as many
    long columns, so that one long row gives the product of each of its codes.

    Attributes:
        products: int32 (capacity,).
    """

    def __init__(self, rows: Rows, columns: int, size: int, block: int) -> None:
        # imported here, because a small gallery does not need it
        self._numkong: Any = import_module("numkong")
        self._codes = list(rows.codes)
        matrix = np.zeros((columns, columns * size), np.int8)
        self._matrix = matrix
        self._diagonal = as_strided(matrix, (columns, size), (columns * size + size, 1))
        products = self._numkong.zeros((len(rows.owners) // columns, columns), dtype="int32")
        self.products = np.asarray(products).reshape(-1)
        self._parts = []
        for number, codes in enumerate(rows.codes):
            start = number * block // columns
            long_rows = codes.reshape(-1, columns * size)
            self._parts.append((long_rows, products[start : start + len(long_rows)]))

    def belong_to(self, rows: Rows) -> bool:
        """Whether the codes of these rows are still the same arrays."""
        return len(self._codes) == len(rows.codes) and all(map(operator.is_, self._codes, rows.codes))

    def multiply(self, code: NDArray[np.float32]) -> None:
        """Fill `products` for all rows, used or not."""
        self._diagonal[:] = code
        packed = self._numkong.dots_pack(self._matrix, dtype="int8")
        for long_rows, products in self._parts:
            self._numkong.dots_packed(long_rows, packed, out=products)


class Scan:
    """Scans rows for `search.Index`.

    Args:
        size: d, length of a template.
        euclidean: Whether half of each template's squared norm is subtracted.
        layout: As of the rows.
    """

    def __init__(self, size: int, *, euclidean: bool, layout: Layout) -> None:
        self._size = size
        self._euclidean = euclidean
        self._layout = layout
        self._block = layout.block
        self._rows = Rows(size, euclidean=euclidean, layout=layout)
        self._extended = np.ones(size + euclidean, np.float32)  # the probe, and a 1 for the blocks' last row
        self._front = self._extended[:size]
        self._all = self._values = np.empty(0, np.float32)
        self._products: _CodeProducts | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory for the products of all rows, and for what is computed from them."""
        return (4 if self._layout.min_quantized is None else 8) * len(self._rows.owners)

    def prepare(self, rows: Rows) -> None:
        """Allocate what a scan of these rows needs; to be called after each change of them."""
        self._rows = rows
        if len(self._all) != len(rows.owners):
            self._all = np.empty(len(rows.owners), np.float32)
        self._values = self._all[: rows.count]
        if self._products is not None and not self._products.belong_to(rows):
            self._products = None

    def float_products(self, probe: NDArray[np.float32]) -> NDArray[np.float32]:
        """Ranking values of all rows, exact but for rounding: float32 (n,), to be overwritten by the caller."""
        blocks, values = self._rows.blocks, self._all
        if self._euclidean:
            self._front[:] = probe
            probe = self._extended
        # unused rows too, because only a contiguous matrix is multiplied at once
        if len(blocks) == 1:
            probe.dot(blocks[0], values)
        else:
            for number, block in enumerate(blocks):
                start = number * self._block
                probe.dot(block, values[start : start + block.shape[1]])
        return self._values

    def quantized_bounds(self, probe: NDArray[np.float32]) -> UpperBounds:
        """Upper bounds of all rows from their codes."""
        # A template is s(q + r) of a code q and a residual r, the probe t(p + o). Their product is
        # st(qp + rp + (q + r)o); by Cauchy and Schwarz rp is at most |r||p|, and (q + r)o at most |q + r||o|.
        rows, products = self._rows, self._products
        if products is None:
            columns = _COLUMNS_CACHED if len(rows.owners) <= self._layout.cached else _COLUMNS
            products = self._products = _CodeProducts(rows, columns, self._size, self._block)
        magnitudes = np.abs(probe)
        largest = max(magnitudes.item(int(magnitudes.argmax())), MIN_MAGNITUDE)
        scaled = probe * np.float32(127.0 / largest)
        code = np.rint(scaled)
        products.multiply(code)
        scaled -= code
        residual_norm = math.sqrt(float(scaled.dot(scaled))) * 1.0001 + rounding_error(self._size)
        code_norm = math.sqrt(float(code.dot(code))) * 1.0001
        slack = rows.max_residual_norm * code_norm + rows.max_scaled_norm * residual_norm
        scale = rows.scale * largest / 127.0
        found = products.products[: rows.count]
        if not self._euclidean:
            return UpperBounds(found, REMOVED, scale, slack)
        values = self._values
        np.copyto(values, found, casting="same_kind")
        values *= np.float32(scale)
        values += rows.half_norms[: rows.count]
        return UpperBounds(values, -math.inf, slack=slack * scale)
