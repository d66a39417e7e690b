"""Exact 1:N search: the best two persons among up to millions of templates, without scoring every one.

A scan gives an upper bound of every template's score. Scoring the persons with the highest bounds first, two candidates
give a pruning bound: the lower of their two scores. A person none of whose templates can reach it scores less than both
and is pruned; all others are scored exactly. So the answer is that of an exhaustive comparison, however loose the
bounds are. docs/explanation/matching.md has the proof.
"""

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Metric, Rule
from edge_oneshot_device.matching.decision import best_two, join, scores
from edge_oneshot_device.matching.rows import MAX_NORM, Layout, Rows
from edge_oneshot_device.matching.scan import REMOVED, Scan, UpperBounds
from edge_oneshot_device.matching.thresholds import MAX_TEMPLATES

_SINGLE_CANDIDATES: Final = 12  # persons that are scored one by one before the rest are scored together
_MANY_CANDIDATES: Final = 64  # rows above which the pruning bound is tightened first

_new = tuple.__new__  # makes a Match in half the time


class Match(NamedTuple):
    """A person, and the score of the probe against their templates."""

    person: int
    score: float


class Index:
    """Templates in memory with an exact search for the best two persons; for one thread at a time.

    Args:
        size: d, length of an embedding.
        metric: How embeddings are compared, see `decision.scores`.
        rule: How the scores of a person's templates are joined, see `decision.join`.
        layout: How templates lie in memory and when 8-bit codes are scanned.
    """

    def __init__(self, size: int, metric: Metric, rule: Rule, layout: Layout | None = None) -> None:
        self._size = size
        self._shape = (size,)
        self._metric = metric
        self._rule = rule
        self._euclidean = metric == "euclidean"
        self._layout = Layout() if layout is None else layout
        self._block = self._layout.block
        self._rows = self._empty_rows()
        self._scan = Scan(size, euclidean=self._euclidean, layout=self._layout)
        self._vectors = np.empty((size, 0), np.float32)
        self._one_block = False  # whether a search begins with `_search_one_block`
        self._rounding = 4.0 * (size + 16) * 2**-23

    def __len__(self) -> int:
        """Number of templates."""
        return self._rows.count

    @property
    def people(self) -> int:
        """Number of persons."""
        return self._rows.people

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the templates take, with what a search needs for each."""
        return self._rows.nbytes + self._scan.nbytes

    def load(self, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
        """Replace all templates; after an error the index is empty.

        Args:
            batches: Each the person of each template, int64 (n,), and the templates, float32 (n, d), in any order.

        Raises:
            MachineError: Reason ``not_finite``: a template holds NaN or infinity.
            ValueError: A person has more than `MAX_TEMPLATES`.
        """
        self._rows = self._empty_rows()
        self._prepare()
        rows = self._empty_rows()
        for owners, templates in batches:
            rows.append_unlinked(owners, templates)
        rows.link()
        self._rows = rows
        self._prepare()

    def put(self, person: int, templates: NDArray[np.float32]) -> None:
        """Insert a person, or replace the person's templates.

        Args:
            person: Any 64-bit integer.
            templates: float32 (k, d), 1 <= k <= `MAX_TEMPLATES`.

        Raises:
            MachineError: Reason ``not_finite``: a template holds NaN or infinity. Nothing was changed.
        """
        if not 1 <= len(templates) <= MAX_TEMPLATES:
            raise ValueError(f"{len(templates)} templates of a person: 1 to {MAX_TEMPLATES} are possible")
        former = self._rows.rows_of(person)
        self._rows.append(person, templates)
        self._rows.delete(former)
        self._prepare()

    def remove(self, person: int) -> None:
        """Remove a person and all of their templates; a person who is not in the index is ignored."""
        self._rows.delete(self._rows.rows_of(person))
        self._prepare()

    def templates_of(self, person: int) -> NDArray[np.float32]:
        """The templates of a person, float32 (k, d), in any order; k is 0 when the person is not in the index."""
        rows = self._rows.rows_of(person)
        return self._rows.gather(rows) if rows else np.empty((0, self._size), np.float32)

    def everything(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A copy of all templates, for what compares everybody with everybody.

        Returns:
            The person of each template, int64 (n,), in ascending order, and the templates, float32 (n, d).
        """
        rows = self._rows
        order = np.argsort(rows.owners[: rows.count], kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(rows.count)
        templates = np.empty((rows.count, self._size), np.float32)
        start = 0
        for vectors in rows.used():
            templates[places[start : start + vectors.shape[1]]] = vectors.T
            start += vectors.shape[1]
        return rows.owners[order], templates

    def search(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two persons, in descending order of the score; equal scores in ascending order of the number.

        Args:
            probe: float32 (d,), whose squared norm is finite in float32, as `Encoder` makes sure.

        Returns:
            Two matches, or as many as there are persons.

        Raises:
            MachineError: Reason ``not_finite``, as `decision.scores` raises it.
        """
        if probe.shape != self._shape:
            raise ValueError(f"a probe of shape {probe.shape}: expected {self._shape}")
        if self._one_block:
            found = self._search_one_block(probe)
            if found:
                return found
        rows = self._rows
        if not rows.count:
            return ()
        wide = probe.astype(np.float64)  # in which no square overflows
        squared_norm = float(wide.dot(wide))
        if not (squared_norm < MAX_NORM**2 and rows.max_norm < MAX_NORM):
            return self._score_all(probe)
        if rows.quantized:
            bounds = self._scan.quantized_bounds(probe)
        else:
            bounds = UpperBounds(self._scan.float_products(probe), -math.inf)
        return self._rank(probe, bounds, squared_norm)

    def _empty_rows(self) -> Rows:
        return Rows(self._size, euclidean=self._euclidean, layout=self._layout)

    def _prepare(self) -> None:
        """Update what a search relies on; to be called after each change of the rows."""
        rows = self._rows
        self._scan.prepare(rows)
        self._one_block = (
            not rows.quantized
            and self._rule == "best"
            and rows.people > 2
            and rows.count <= self._block
            and rows.max_norm < MAX_NORM
        )
        if self._one_block:
            self._vectors = rows.vectors[0]

    def _search_one_block(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two when their lead exceeds what rounding can change; otherwise an empty tuple."""
        values, rows = self._scan.float_products(probe), self._rows
        first, others, high = self._pop_best(values)
        second, more, low = self._pop_best(values)
        third = values.item(int(values.argmax()))
        if not self._euclidean:
            if not (1.0 >= high > low > third and low > -1.0):
                return ()
        else:
            value, other = high, low
            high, low = self._euclidean_score(probe, first, others), self._euclidean_score(probe, second, more)
            # the probe's norm is at most a template's norm plus the distance to it
            slack = self._rounding_slack(2.0 * rows.max_norm - high)
            if not (high > low and value - other > slack and other - third > slack):
                return ()
        owner = rows.owners.item
        return _new(Match, (owner(first), high)), _new(Match, (owner(second), low))

    def _pop_best(self, values: NDArray[np.float32]) -> tuple[int, list[int], float]:
        """The row with the highest value, the other rows of its person, and the value; these rows are removed."""
        row = int(values.argmax())
        value = values.item(row)
        values[row] = -math.inf
        if self._rows.next_rows.item(row) == row:
            return row, [], value
        others = self._rows.rows_of_owner(row)[1:]
        values[others] = -math.inf
        return row, others, value

    def _euclidean_score(self, probe: NDArray[np.float32], row: int, others: list[int]) -> float:
        """The best score of a person's rows, computed from the differences of the components."""
        difference = self._vectors[:, row] - probe
        square = difference.dot(difference)
        for other in others:
            difference = self._vectors[:, other] - probe
            square = min(square, difference.dot(difference))
        return -float(np.float32(math.sqrt(square)))

    def _rank(self, probe: NDArray[np.float32], bounds: UpperBounds, squared_norm: float) -> tuple[Match, ...]:
        """The best two persons by branch and bound; the bounds' values are overwritten."""
        rows, values, removed = self._rows, bounds.values, bounds.removed
        slack = self._rounding_slack(rows.max_norm + math.sqrt(squared_norm))
        next_row, owner = rows.next_rows.item, rows.owners.item
        best: list[tuple[float, int]] = []
        pruning_bound = -math.inf
        for _ in range(_SINGLE_CANDIDATES):
            row = int(values.argmax())
            value = values.item(row)
            if value < pruning_bound or value == removed:
                return tuple([Match(person, -score) for score, person in best])
            if next_row(row) == row:
                score = self._score_row(probe, row)
                values[row] = removed
            else:
                same = rows.rows_of_owner(row)
                score = self._join([self._score_row(probe, own) for own in same])
                values[same] = removed
            best.append((-score, owner(row)))
            if len(best) > 1:
                best.sort()
                del best[2:]
                pruning_bound = self._pruning_bound(bounds, -best[1][0], squared_norm, slack)
        found = tuple([Match(person, -score) for score, person in best])
        return self._rank_candidates(probe, bounds, squared_norm, slack, found)

    def _rank_candidates(
        self,
        probe: NDArray[np.float32],
        bounds: UpperBounds,
        squared_norm: float,
        slack: float,
        found: tuple[Match, ...],
    ) -> tuple[Match, ...]:
        """The best two of those found so far and of all candidates that their pruning bound leaves, scored together."""
        values = bounds.values
        candidates = _at_least(self._pruning_bound(bounds, found[1].score, squared_norm, slack), values)
        if len(candidates) > _MANY_CANDIDATES:
            top = candidates[np.argpartition(values[candidates], -_MANY_CANDIDATES)[-_MANY_CANDIDATES:]]
            found = self._score(probe, self._by_person(top), found)
            candidates = _at_least(self._pruning_bound(bounds, found[1].score, squared_norm, slack), values)
        if len(candidates) > max(_MANY_CANDIDATES, self._rows.count // 64):
            return self._score_all(probe)
        return self._score(probe, self._by_person(candidates), found) if len(candidates) else found

    def _rounding_slack(self, norms: float) -> float:
        """How far rounding of d products and their sum can move two ranking values and two scores apart.

        Args:
            norms: At least the sum of the norms of template and probe.
        """
        return self._rounding * norms * norms + 1e-28 * (1.0 + norms)

    def _pruning_bound(self, bounds: UpperBounds, score: float, squared_norm: float, slack: float) -> float:
        """The lowest value in `bounds` of a template that can reach a score."""
        if self._euclidean:
            least = (squared_norm - score**2) / 2 - slack
        else:
            # `decision.scores` clips to -1..1, so that any product may have the score -1
            least = score - slack if score - slack > -1.0 else -math.inf
        return least / bounds.scale - bounds.slack

    def _by_person(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """All rows of each person that one of these rows belongs to."""
        people: dict[int, list[int]] = {}
        for row in rows.tolist():
            if (owner := self._rows.owners.item(row)) not in people:
                people[owner] = self._rows.rows_of_owner(row)
        return list(people.values())

    def _score_row(self, probe: NDArray[np.float32], row: int) -> float:
        """The score of one template, as `decision.scores` computes it, but faster."""
        template = self._rows.vectors[row // self._block][:, row % self._block]
        if self._euclidean:
            difference = template - probe
            return -float(np.float32(math.sqrt(difference.dot(difference))))
        return min(max(float(template.dot(probe)), -1.0), 1.0)

    def _join(self, own: list[float]) -> float:
        """A person's score from the scores of their templates, as `decision.join` computes it."""
        return max(own) if self._rule == "best" else float(np.float32(sum(own) / len(own)))

    def _score(
        self, probe: NDArray[np.float32], people_rows: list[list[int]], found: tuple[Match, ...]
    ) -> tuple[Match, ...]:
        """The best two of the persons whose rows are given and of those found so far."""
        rows = [row for own in people_rows for row in own]
        template_scores = scores(probe, self._rows.gather(rows), self._metric).tolist()
        people: dict[int, float] = dict(found)
        start = 0
        for own in people_rows:
            people[self._rows.owners.item(own[0])] = self._join(template_scores[start : start + len(own)])
            start += len(own)
        best = sorted(people.items(), key=lambda item: (-item[1], item[0]))[:2]
        return tuple(Match(*item) for item in best)

    def _score_all(self, probe: NDArray[np.float32]) -> tuple[Match, ...]:
        """The best two by exhaustive comparison."""
        template_scores = [scores(probe, vectors.T, self._metric) for vectors in self._rows.used()]
        people, places = np.unique(self._rows.owners[: self._rows.count], return_inverse=True)
        joined = join(np.concatenate(template_scores), places, len(people), self._rule)
        return tuple(Match(int(people[place]), float(joined[place])) for place in best_two(joined))


def _at_least(pruning_bound: float, values: NDArray[Any]) -> NDArray[np.int64]:
    """The candidates: rows whose value reaches the pruning bound and that were not removed."""
    if values.dtype == np.int32:
        return np.flatnonzero(values >= max(math.floor(max(pruning_bound, REMOVED)), REMOVED + 1))
    # one step lower, so that rounding to float32 does not raise the bound
    return np.flatnonzero(values >= np.nextafter(np.float32(pruning_bound), np.float32(-np.inf)))
