"""Exact 1:N search: the best two persons among up to millions of templates, without scoring every one.

A scan gives for each template an upper bound of its score. Two persons are scored; whoever has no template whose bound
reaches the lower of these two scores fits worse than both, and the others are scored as well, by `matching`. So the
answer is that of scoring everybody, however rough the bounds are. docs/matching.md has the proof and the speed.

Few templates are scanned in float32. For many, the extra ``search`` brings numkong, whose product of integers of 8 bits
reads a quarter of the memory; without it the float scan does them all.
"""

import math
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.matching.decision import MAX_TEMPLATES, best_two, join, scores
from edge_oneshot_device.matching.rows import BLOCK, LONGEST, SMALLEST, Rows, moved

_INSTALLED: Final = find_spec("numkong") is not None
_FEW: Final = 12_000  # templates, below which the float scan is as fast
# Templates that numkong multiplies abreast. It makes 4 x 4 results at a time, but two read memory in better order.
_CACHED: Final = 4
_FAR: Final = 2
_IN_CACHE: Final = 1 << 15  # templates, up to which four are faster
_TAKEN: Final = -math.inf
_MANY: Final = 64  # candidates, above which a better bound is sought first


class Match(NamedTuple):
    """A person, and how well the probe fits their templates."""

    person: int
    score: float


class _Scan:
    """What numkong multiplies codes with: several of them abreast make a row.

    The code of the probe lies on the diagonal of as many columns, so that one row gives one product with each.
    """

    def __init__(self, abreast: int, size: int) -> None:
        # here, since a small gallery has no use for it
        self.numkong: Any = import_module("numkong")
        self.abreast = abreast
        self.columns = np.zeros((abreast, abreast * size), np.int8)
        self.diagonal = as_strided(self.columns, (abreast, size), (abreast * size + size, 1))
        self.products = self.numkong.zeros((BLOCK // abreast, abreast), dtype="int32")
        self.flat = np.asarray(self.products).reshape(-1)


class Index:
    """Templates in memory, to be searched. To be used by one thread.

    Args:
        size: d, length of an embedding.
        metric: How embeddings are compared, see `decision.scores`.
        rule: How the scores of a person's templates are joined, see `decision.join`.
    """

    def __init__(self, size: int, metric: Metric, rule: Rule) -> None:
        self._size = size
        self._metric = metric
        self._rule = rule
        self._encoded = _INSTALLED
        self._rows = Rows(size, encoded=self._encoded)
        self._keys = np.empty(0, np.float32)
        self._scans: dict[int, _Scan] = {}

    def __len__(self) -> int:
        """How many templates there are."""
        return self._rows.count

    @property
    def people(self) -> int:
        """How many persons there are."""
        return self._rows.people

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the templates take, with what a search adds to each."""
        return self._rows.nbytes + 4 * len(self._rows.owners)

    def load(self, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
        """Replace everything; after an error nobody is there.

        Args:
            batches: Each the person of each template, int64 (n,), and the templates, float32 (n, d), in any order.

        Raises:
            MachineError: Reason ``not_finite``: a template is no finite number.
            ValueError: A person has more than `MAX_TEMPLATES`.
        """
        self._rows = Rows(self._size, encoded=self._encoded)
        rows = Rows(self._size, encoded=self._encoded)
        for owners, templates in batches:
            rows.append_loose(owners, templates)
        rows.tie()
        self._rows = rows

    def put(self, person: int, templates: NDArray[np.float32]) -> None:
        """Insert a person, or put these in the place of the former templates.

        Args:
            person: Any 64-bit integer.
            templates: float32 (k, d), 1 <= k <= `MAX_TEMPLATES`.

        Raises:
            MachineError: Reason ``not_finite``: a template is no finite number. Nothing was changed.
        """
        if not 1 <= len(templates) <= MAX_TEMPLATES:
            raise ValueError(f"{len(templates)} templates of a person: 1 to {MAX_TEMPLATES} are possible")
        former = self._rows.of(person)
        self._rows.append(person, templates)
        self._rows.delete(former)

    def remove(self, person: int) -> None:
        """Remove a person and all of their templates; nothing happens when they are not there."""
        self._rows.delete(self._rows.of(person))

    def templates_of(self, person: int) -> NDArray[np.float32]:
        """The templates of a person, float32 (k, d), in any order; none when they are not there."""
        rows = self._rows.of(person)
        return self._rows.gather(rows) if rows else np.empty((0, self._size), np.float32)

    def search(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two persons, the better one first; of equal ones the one with the lower number.

        Args:
            probe: float32 (d,).

        Returns:
            Two, or as many as there are.

        Raises:
            MachineError: Reason ``not_finite``, as `decision.scores` raises it.
        """
        if probe.shape != (self._size,):
            raise ValueError(f"a probe of shape {probe.shape}: expected ({self._size},)")
        rows = self._rows
        if not rows.count:
            return ()
        wide = probe.astype(np.float64)  # where no square is too large
        square = float(wide.dot(wide))
        if not (square < LONGEST**2 and rows.longest < LONGEST):
            return self._score_all(probe)
        if len(self._keys) != len(rows.owners):
            self._keys = np.empty(len(rows.owners), np.float32)
        keys = self._keys[: rows.count]
        width = 0.0
        if self._encoded and rows.count >= _FEW:
            width = self._scan_codes(probe, keys)
        else:
            self._scan_floats(probe, keys)
            if self._metric == "cosine" and self._rule == "best":
                found = self._two_of_products(keys)
                if found:
                    return found
                self._scan_floats(probe, keys)
        return self._select(probe, keys, square, width)

    # A scan fills keys (n,) with at least, but for rounding, the product of template and probe; for the euclidean
    # metric half the square of the template is subtracted.

    def _scan_floats(self, probe: NDArray[np.float32], keys: NDArray[np.float32]) -> None:
        for start, vectors in self._rows.used_vectors:
            np.matmul(probe, vectors, out=keys[start : start + vectors.shape[1]])
        if self._metric == "euclidean":
            np.subtract(keys, self._rows.halves[: len(keys)], out=keys)

    def _scan_codes(self, probe: NDArray[np.float32], keys: NDArray[np.float32]) -> float:
        """Returns how much more than the product keys are at most, for a row of scale 1."""
        # A template is s(q + r), of integers q and a rest r, the probe t(p + o). Their product is
        # st(qp + rp + (q + r)o); by Cauchy and Schwarz rp is at most |r||p|, and (q + r)o at most |q + r||o|.
        greatest = max(float(np.abs(probe).max()), SMALLEST)
        units = probe * np.float32(127.0 / greatest)
        codes = np.rint(units)
        units -= codes
        rest = math.sqrt(float(units.dot(units))) * 1.0001 + moved(self._size)
        bound = np.float32(self._rows.rest * math.sqrt(float(codes.dot(codes))) + self._rows.length * rest)
        abreast = _CACHED if self._rows.count <= _IN_CACHE else _FAR
        if abreast not in self._scans:
            self._scans[abreast] = _Scan(abreast, self._size)
        scan = self._scans[abreast]
        scan.diagonal[:] = codes
        packed = scan.numkong.dots_pack(scan.columns, dtype="int8")
        for start, block in self._rows.used_codes:
            rows = -(-len(block) // scan.abreast)
            several = self._rows.codes[start // BLOCK][: rows * scan.abreast].reshape(rows, -1)
            scan.numkong.dots_packed(several, packed, out=scan.products[:rows])
            own = keys[start : start + len(block)]
            own[:] = scan.flat[: len(own)]
            own += bound
            own *= self._rows.scales[start : start + len(own)]
            own *= np.float32(greatest / 127.0)
            if self._metric == "euclidean":
                own -= self._rows.halves[start : start + len(own)]
        return 2.0 * float(bound) * greatest / 127.0

    def _two_of_products(self, keys: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two where products are scores and nobody is tied, otherwise none; the keys are used up."""
        if self._rows.people < 3:
            return ()
        (first, high), (second, low), (_, third) = self._take(keys), self._take(keys), self._take(keys)
        if not 1.0 >= high > low > third:
            return ()
        owners = self._rows.owners
        return Match(owners.item(first[0]), high), Match(owners.item(second[0]), low)

    def _select(
        self, probe: NDArray[np.float32], keys: NDArray[np.float32], square: float, width: float
    ) -> tuple[Match, ...]:
        """The best two by the keys, which are used up."""
        taken = [self._take(keys) for _ in range(min(self._rows.people, 2))]
        rings = [rows for rows, _ in taken]
        if len(rings) < self._rows.people and self._rule == "best":
            # before anybody is scored: the least that these two can have
            product = min(key - width * self._rows.scales.item(rows[0]) for rows, key in taken)
            more = self._at_least(self._least_key(product, square), keys)
            if len(more) <= _MANY:
                return self._score(probe, rings + self._rings(more))
        found = self._score(probe, rings)
        if len(found) == self._rows.people:
            return found
        more = self._at_least(self._least_key(self._product(found[1].score, square), square), keys)
        if not len(more):
            return found
        if len(more) > _MANY:
            some = more[np.argpartition(keys[more], -_MANY)[-_MANY:]]
            found = self._score(probe, self._rings(some), found)
            least = self._least_key(self._product(found[1].score, square), square)
            more = more[keys[more].astype(np.float64) >= least]
        if len(more) > max(_MANY, self._rows.count // 64):
            return self._score_all(probe)
        return self._score(probe, self._rings(more), found)

    def _take(self, keys: NDArray[np.float32]) -> tuple[list[int], float]:
        """Rows of the person with the greatest key, and that key; theirs become the lowest."""
        best = int(keys.argmax())
        greatest = keys.item(best)
        rows = self._rows.ring(best)
        for row in rows:
            keys[row] = _TAKEN
        return rows, greatest

    def _product(self, score: float, square: float) -> float:
        """The product, less half the square where keys are, that a template of this score has."""
        return score if self._metric == "cosine" else (square - score**2) / 2

    def _least_key(self, product: float, square: float) -> float:
        """The least key of a template that fits as well as one of this product."""
        reach = self._rows.longest + math.sqrt(square)
        # rounding to float32 of d products and their sum, in two keys and in two scores
        slack = 4.0 * (self._size + 16) * 2**-23 * reach**2 + 1e-28 * (1.0 + reach)
        if self._metric == "cosine":
            # `decision.scores` makes lower scores -1 and higher ones 1
            product = -math.inf if product - slack <= -1.0 else min(product, 1.0)
        return product - slack

    @staticmethod
    def _at_least(least: float, keys: NDArray[np.float32]) -> NDArray[np.int64]:
        """Rows with such a key, mostly none."""
        if keys.item(int(keys.argmax())) < least:
            return np.empty(0, np.int64)
        # one step lower, lest rounding to float32 raises it
        return np.flatnonzero(keys >= np.nextafter(np.float32(least), np.float32(-np.inf)))

    def _rings(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """All rows of each person of these rows."""
        rings: dict[int, list[int]] = {}
        for row in rows.tolist():
            if (owner := self._rows.owners.item(row)) not in rings:
                rings[owner] = self._rows.ring(row)
        return list(rings.values())

    def _score(
        self, probe: NDArray[np.float32], rings: list[list[int]], found: tuple[Match, ...] = ()
    ) -> tuple[Match, ...]:
        """The best two among the persons of these rows and those found so far."""
        rows = [row for ring in rings for row in ring]
        template_scores = scores(probe, self._rows.gather(rows), self._metric).tolist()
        people: dict[int, float] = dict(found)
        start = 0
        for ring in rings:
            own = template_scores[start : start + len(ring)]
            start += len(ring)
            # as `decision.join` does it
            joined = max(own) if self._rule == "best" else float(np.float32(sum(own) / len(own)))
            people[self._rows.owners.item(ring[0])] = joined
        best = sorted(people.items(), key=lambda item: (-item[1], item[0]))[:2]
        return tuple(Match(*item) for item in best)

    def _score_all(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        every = [scores(probe, vectors.T, self._metric) for _, vectors in self._rows.used_vectors]
        people, places = np.unique(self._rows.owners[: self._rows.count], return_inverse=True)
        joined = join(np.concatenate(every), places, len(people), self._rule)
        return tuple(Match(int(people[place]), float(joined[place])) for place in best_two(joined))
