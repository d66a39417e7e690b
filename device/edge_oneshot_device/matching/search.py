"""Exact 1:N search: the best two persons among up to millions of templates, without scoring every one.

A scan gives for each template an upper bound of its score. Two persons are scored; whoever has no template whose bound
reaches the lower of these two scores fits worse than both, and the others are scored as well, by `matching`. So the
answer is that of scoring everybody, however rough the bounds are. docs/explanation/matching.md has the proof.
"""

import math
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.matching.decision import best_two, join, scores
from edge_oneshot_device.matching.rows import BLOCK, MAX_NORM, Rows
from edge_oneshot_device.matching.scan import TAKEN, Keys, Scan
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

_INSTALLED: Final = find_spec("numkong") is not None
_ONE_BY_ONE: Final = 12  # persons that are scored before the others are looked at together
_MANY: Final = 64  # candidates, above which a better bound is sought first

_new = tuple.__new__  # of a Match, in half the time


class Match(NamedTuple):
    """A person, and how well the probe fits their templates."""

    person: int
    score: float


class Index:
    """Templates in memory, to be searched. To be used by one thread.

    Args:
        size: d, length of an embedding.
        metric: How embeddings are compared, see `decision.scores`.
        rule: How the scores of a person's templates are joined, see `decision.join`.
    """

    def __init__(self, size: int, metric: Metric, rule: Rule) -> None:
        self._size = size
        self._shape = (size,)
        self._metric = metric
        self._rule = rule
        self._halved = metric == "euclidean"
        self._encoded = _INSTALLED
        self._rows = Rows(size, halved=self._halved, encoded=self._encoded)
        self._scan = Scan(size, halved=self._halved, encoded=self._encoded)
        self._vectors = np.empty((size, 0), np.float32)
        self._quick = False
        self._rounding = 4.0 * (size + 16) * 2**-23

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
        return self._rows.nbytes + self._scan.nbytes

    def load(self, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
        """Replace everything; after an error nobody is there.

        Args:
            batches: Each the person of each template, int64 (n,), and the templates, float32 (n, d), in any order.

        Raises:
            MachineError: Reason ``not_finite``: a template is no finite number.
            ValueError: A person has more than `MAX_TEMPLATES`.
        """
        self._rows = Rows(self._size, halved=self._halved, encoded=self._encoded)
        self._prepare()
        rows = Rows(self._size, halved=self._halved, encoded=self._encoded)
        for owners, templates in batches:
            rows.append_loose(owners, templates)
        rows.tie()
        self._rows = rows
        self._prepare()

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
        self._prepare()

    def remove(self, person: int) -> None:
        """Remove a person and all of their templates; nothing happens when they are not there."""
        self._rows.delete(self._rows.of(person))
        self._prepare()

    def templates_of(self, person: int) -> NDArray[np.float32]:
        """The templates of a person, float32 (k, d), in any order; none when they are not there."""
        rows = self._rows.of(person)
        return self._rows.gather(rows) if rows else np.empty((0, self._size), np.float32)

    def search(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two persons, the better one first; of equal ones the one with the lower number.

        Args:
            probe: float32 (d,), of a length whose square float32 can hold, as `Encoder` makes sure.

        Returns:
            Two, or as many as there are.

        Raises:
            MachineError: Reason ``not_finite``, as `decision.scores` raises it.
        """
        if probe.shape != self._shape:
            raise ValueError(f"a probe of shape {probe.shape}: expected {self._shape}")
        if self._quick:
            found = self._two_of_floats(probe)
            if found:
                return found
        rows = self._rows
        if not rows.count:
            return ()
        wide = probe.astype(np.float64)  # where no square is too large
        square = float(wide.dot(wide))
        if not (square < MAX_NORM**2 and rows.longest < MAX_NORM):
            return self._score_all(probe)
        keys = self._scan.codes(probe) if rows.coded else Keys(self._scan.floats(probe), -math.inf)
        return self._select(probe, keys, square)

    def _prepare(self) -> None:
        """See to what a search relies on, after each change of the rows."""
        rows = self._rows
        self._scan.prepare(rows)
        self._quick = (
            not rows.coded
            and self._rule == "best"
            and rows.people > 2
            and rows.count <= BLOCK
            and rows.longest < MAX_NORM
        )
        if self._quick:
            self._vectors = rows.vectors[0]

    def _two_of_floats(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two where nobody comes near them, otherwise none."""
        values, rows = self._scan.floats(probe), self._rows
        first, others, high = self._take(values)
        second, more, low = self._take(values)
        third = values.item(int(values.argmax()))
        if not self._halved:
            if not (1.0 >= high > low > third and low > -1.0):
                return ()
        else:
            key, other = high, low
            high, low = self._nearest(probe, first, others), self._nearest(probe, second, more)
            # the probe is no longer than a template and what lies between
            slack = self._slack(2.0 * rows.longest - high)
            if not (high > low and key - other > slack and other - third > slack):
                return ()
        owner = rows.owners.item
        return _new(Match, (owner(first), high)), _new(Match, (owner(second), low))

    def _take(self, values: NDArray[np.float32]) -> tuple[int, list[int], float]:
        """The row with the greatest key, the others of its person, and that key; these become the lowest."""
        row = int(values.argmax())
        key = values.item(row)
        values[row] = -math.inf
        if self._rows.following.item(row) == row:
            return row, [], key
        others = self._rows.ring(row)[1:]
        values[others] = -math.inf
        return row, others, key

    def _nearest(self, probe: NDArray[np.float32], row: int, others: list[int]) -> float:
        """The best score of a person's rows, for the euclidean metric."""
        apart = self._vectors[:, row] - probe
        square = apart.dot(apart)
        for other in others:
            apart = self._vectors[:, other] - probe
            square = min(square, apart.dot(apart))
        return -float(np.float32(math.sqrt(square)))

    def _select(self, probe: NDArray[np.float32], keys: Keys, square: float) -> tuple[Match, ...]:
        """The best two by the keys, which are used up."""
        rows, values, taken = self._rows, keys.values, keys.taken
        slack = self._slack(rows.longest + math.sqrt(square))
        following, owner = rows.following.item, rows.owners.item
        found: list[tuple[float, int]] = []
        least = -math.inf
        for _ in range(_ONE_BY_ONE):
            row = int(values.argmax())
            key = values.item(row)
            if key < least or key == taken:
                return tuple([Match(person, -score) for score, person in found])
            if following(row) == row:
                score = self._score_one(probe, row)
                values[row] = taken
            else:
                ring = rows.ring(row)
                score = self._join([self._score_one(probe, own) for own in ring])
                values[ring] = taken
            found.append((-score, owner(row)))
            if len(found) > 1:
                found.sort()
                del found[2:]
                least = self._least(keys, -found[1][0], square, slack)
        return self._select_many(probe, keys, square, slack, tuple([Match(person, -score) for score, person in found]))

    def _select_many(
        self, probe: NDArray[np.float32], keys: Keys, square: float, slack: float, found: tuple[Match, ...]
    ) -> tuple[Match, ...]:
        """The best two by the keys and of those found so far."""
        more = self._at_least(self._least(keys, found[1].score, square, slack), keys.values)
        if len(more) > _MANY:
            some = more[np.argpartition(keys.values[more], -_MANY)[-_MANY:]]
            found = self._score(probe, self._rings(some), found)
            more = self._at_least(self._least(keys, found[1].score, square, slack), keys.values)
        if len(more) > max(_MANY, self._rows.count // 64):
            return self._score_all(probe)
        return self._score(probe, self._rings(more), found) if len(more) else found

    def _slack(self, reach: float) -> float:
        """How much two keys and two scores may differ by rounding of d products and their sums."""
        return self._rounding * reach * reach + 1e-28 * (1.0 + reach)

    def _least(self, keys: Keys, score: float, square: float, slack: float) -> float:
        """The least key of a template that fits as well as this score."""
        if self._halved:
            least = (square - score**2) / 2 - slack
        else:
            # `decision.scores` makes lower scores -1 and higher ones 1
            least = score - slack if score - slack > -1.0 else -math.inf
        return least / keys.unit - keys.excess

    @staticmethod
    def _at_least(least: float, values: NDArray[Any]) -> NDArray[np.int64]:
        """Rows with such a key."""
        if values.dtype == np.int32:
            return np.flatnonzero(values >= max(math.floor(max(least, TAKEN)), TAKEN + 1))
        # one step lower, lest rounding to float32 raises it
        return np.flatnonzero(values >= np.nextafter(np.float32(least), np.float32(-np.inf)))

    def _rings(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """All rows of each person of these rows."""
        rings: dict[int, list[int]] = {}
        for row in rows.tolist():
            if (owner := self._rows.owners.item(row)) not in rings:
                rings[owner] = self._rows.ring(row)
        return list(rings.values())

    def _score_one(self, probe: NDArray[np.float32], row: int) -> float:
        """The score of one template, as `decision.scores` has it, but faster."""
        template = self._rows.vectors[row // BLOCK][:, row % BLOCK]
        if self._halved:
            apart = template - probe
            return -float(np.float32(math.sqrt(apart.dot(apart))))
        return min(max(float(template.dot(probe)), -1.0), 1.0)

    def _join(self, own: list[float]) -> float:
        """As `decision.join` does it."""
        return max(own) if self._rule == "best" else float(np.float32(sum(own) / len(own)))

    def _score(self, probe: NDArray[np.float32], rings: list[list[int]], found: tuple[Match, ...]) -> tuple[Match, ...]:
        """The best two among the persons of these rows and those found so far."""
        rows = [row for ring in rings for row in ring]
        template_scores = scores(probe, self._rows.gather(rows), self._metric).tolist()
        people: dict[int, float] = dict(found)
        start = 0
        for ring in rings:
            people[self._rows.owners.item(ring[0])] = self._join(template_scores[start : start + len(ring)])
            start += len(ring)
        best = sorted(people.items(), key=lambda item: (-item[1], item[0]))[:2]
        return tuple(Match(*item) for item in best)

    def _score_all(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        every = [scores(probe, vectors.T, self._metric) for vectors in self._rows.used()]
        people, places = np.unique(self._rows.owners[: self._rows.count], return_inverse=True)
        joined = join(np.concatenate(every), places, len(people), self._rule)
        return tuple(Match(int(people[place]), float(joined[place])) for place in best_two(joined))
