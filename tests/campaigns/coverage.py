"""Whether bounds and intervals hold what they promise: drawn people whose true rates are known, judged by what ships.

    python -m tests.campaigns.coverage --simulations 1000 --people 10,40,400 --out benchmarks/results/coverage.json
    python -m tests.campaigns.coverage --tasks --out benchmarks/results/coverage-tasks.json

People differ: embeddings share a direction of which each person has more or less, which lifts the scores of all
comparisons with them (on both sides of a pair alike); each has a place of their own, which makes some pairs alike; and
images scatter about it, those of some people more than those of others. The truth is counted on a huge independent
sample of such people.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.matching.support import supports
from edge_oneshot_export.judging.bounds import mean_interval
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate_embeddings
from edge_oneshot_export.judging.metrics import crossing, proportion_interval, threshold_at
from edge_oneshot_export.judging.protocols import genuine_and_impostor, one_shot, one_shot_episodes
from edge_oneshot_export.judging.rankings import accuracies, rank
from edge_oneshot_export.judging.sampling import Sample
from edge_oneshot_export.judging.verification import verification_rates

TARGETS = (0.1, 1e-2, 1e-3, 1e-4)
CALIBRATION, VERIFICATION = "calibration far_upper_95", "verification far_upper_95"
EER, TPR = "interval of the EER", "interval of the TPR"
ALL_TASKS, DRAWN_TASKS = "interval of the accuracy on all {}-way tasks", "interval of the accuracy on {}-way episodes"
WAYS = (2, 5, 20)
EPISODES = 2000

_MOST_IMAGES = 10  # of a person, and 2,000 of all, whose pairs are scored one and all
_SIZE = 32
_SHARED = (0.45, 0.2)  # mean and spread over people of what they have of the common direction
_SCATTER = (0.8, 0.25)  # median of the images' scatter, and the spread of its logarithm over people
_EVERYBODY = 20_000
_AT_ONCE = 500
_BINS = 400_000
_POOL = 1000  # of everybody, ranked at a time
_POOL_IMAGES = 3  # of each there

Outcome = tuple[bool, float, float]
"""Whether the truth was held, the truth, and the bound or the interval's width."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often a bound or an interval held the truth.

    Attributes:
        what: One of `CALIBRATION`, `VERIFICATION`, `EER` and `TPR`, or `ALL_TASKS` or `DRAWN_TASKS` for some N.
        people, images: People in each simulation, and images of each.
        rate: The wanted false accept rate; None for the equal error rate and for accuracies.
        simulations: How many there were.
        covered: Share of them that held the truth.
        true_rate: Median of the true rate.
        stated: Median of the bound; of an interval, its median width.
    """

    what: str
    people: int
    images: int
    rate: float | None
    simulations: int
    covered: float
    true_rate: float
    stated: float


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Rates of everybody at thresholds that rise evenly from -1 to 1.

    Attributes:
        far: float64 (t,), false accept rate.
        frr: float64 (t,), false reject rate.
    """

    far: NDArray[np.float64]
    frr: NDArray[np.float64]

    def far_at(self, threshold: float) -> float:
        """False accept rate at a threshold."""
        return float(np.interp(threshold, np.linspace(-1.0, 1.0, len(self.far)), self.far))

    def tpr_at(self, far: float) -> float:
        """True positive rate at a false accept rate."""
        return float(np.interp(far, self.far[::-1], 1.0 - self.frr[::-1]))

    def eer(self) -> float:
        """Equal error rate."""
        return crossing(self.far[::-1], self.frr[::-1])


def draw(people: int, images: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Embeddings of unit length of people who differ, float32 (people, images, size)."""
    shared = _SHARED[0] + _SHARED[1] * rng.standard_normal((people, 1, 1))
    scatter = _SCATTER[0] * np.exp(_SCATTER[1] * rng.standard_normal((people, 1, 1)))
    own = rng.standard_normal((people, 1, _SIZE))
    own = (own + scatter * rng.standard_normal((people, images, _SIZE))) / np.sqrt(_SIZE)
    drawn = np.concatenate([np.broadcast_to(shared, (people, images, 1)), own], axis=2)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    return np.asarray(drawn, dtype=np.float32)


def truth(seed: int, people: int = _EVERYBODY) -> Truth:
    """The rates of everybody, from one image of each with each other's, and all pairs of a person's images."""
    drawn = draw(people, _MOST_IMAGES, np.random.default_rng(seed))
    one, other = np.triu_indices(_MOST_IMAGES, 1)
    impostor = np.zeros(_BINS + 1, dtype=np.int64)
    genuine = np.zeros(_BINS + 1, dtype=np.int64)
    for start in range(0, people, _AT_ONCE):
        some = drawn[start : start + _AT_ONCE]
        alike = some[:, 0] @ drawn[start:, 0].T
        impostor += _counted(alike[np.triu_indices(len(some), 1, alike.shape[1])])
        genuine += _counted(np.einsum("pid,pid->pi", some[:, one], some[:, other]).ravel())
    far, tpr = (counts[::-1].cumsum()[::-1] / counts.sum() for counts in (impostor, genuine))
    return Truth(far, 1.0 - tpr)


def simulate(
    people: int, simulations: int, seed: int, everybody: Truth, progress: Callable[[], None] = lambda: None
) -> list[Coverage]:
    """Calibrate and verify on fresh people again and again.

    Args:
        people: In each simulation.
        simulations: How many.
        seed: Draws the people.
        everybody: What is true of them.
        progress: Called after each simulation.
    """
    found: dict[tuple[str, float | None], list[Outcome]] = {}

    def keep(what: str, rate: float | None, holds: bool, true: float, stated: float) -> None:
        found.setdefault((what, rate), []).append((holds, true, stated))

    images = _images(people)
    labels = np.repeat(np.arange(people), images)
    for number in range(simulations):
        embeddings = draw(people, images, np.random.default_rng((seed, people, number))).reshape(len(labels), -1)
        settings = CalibrationSettings("drawn people", counts=(1,), seed=number)
        # with one template a person every rule is the same
        calibration, _ = calibrate_embeddings(
            embeddings, Sample.whole(labels), "cosine", variant="none", settings=settings
        )
        for point in calibration.points:
            if point.target_far in TARGETS:
                far = everybody.far_at(point.threshold)
                keep(CALIBRATION, point.target_far, far <= point.far_upper_95, far, point.far_upper_95)
        pairs = genuine_and_impostor(embeddings, labels, "cosine", seed=number)
        rates = verification_rates(pairs, labels, seed=number)
        for name, bound in rates.far_upper_95.items():
            if bound is not None:
                far = everybody.far_at(threshold_at(pairs.impostor, float(name)))
                keep(VERIFICATION, float(name), far <= bound, far, bound)
        for name, (low, high) in rates.intervals.items():
            rate = None if name == "eer" else float(name)
            if rate is None or supports(people, rate):
                true = everybody.eer() if rate is None else everybody.tpr_at(rate)
                keep(EER if rate is None else TPR, rate, low <= true <= high, true, high - low)
        progress()
    return _summarised(found, people, simulations)


def true_accuracies(seed: int, people: int = _EVERYBODY) -> dict[int, float]:
    """Accuracy of everybody on N-way tasks, for each of `WAYS`."""
    embeddings = draw(people, _POOL_IMAGES, np.random.default_rng(seed)).reshape(people * _POOL_IMAGES, -1)
    labels = np.repeat(np.arange(people), _POOL_IMAGES)
    rankings = rank(embeddings, labels, "cosine", seed=seed, groups=labels // _POOL)
    return {ways: accuracies(rankings, ways, ways)[0].share for ways in WAYS}


def simulate_tasks(
    people: int, simulations: int, seed: int, everybody: dict[int, float], progress: Callable[[], None] = lambda: None
) -> list[Coverage]:
    """Judge one-shot accuracy on fresh people again and again, arguments as `simulate` takes them."""
    found: dict[tuple[str, float | None], list[Outcome]] = {}
    labels = np.repeat(np.arange(people), _images(people))
    for number in range(simulations):
        rng = np.random.default_rng((seed, people, number))
        embeddings = draw(people, _images(people), rng).reshape(len(labels), -1)
        rankings = rank(embeddings, labels, "cosine", seed=number)
        for ways, true in everybody.items():
            if ways > people:
                continue
            episodes = one_shot_episodes(labels, ways, EPISODES, number)
            solved = one_shot(embeddings, episodes, "cosine").astype(np.float64)
            for what, (low, high) in (
                (ALL_TASKS, accuracies(rankings, ways, ways)[0].interval),
                (DRAWN_TASKS, mean_interval(solved, labels[episodes.query])),
            ):
                found.setdefault((what.format(ways), None), []).append((low <= true <= high, true, high - low))
        progress()
    return _summarised(found, people, simulations)


def table(results: Sequence[Coverage]) -> Table:
    """The results for a terminal."""
    drawn = Table("what", "people", "rate", "simulations", "held the truth", "median truth", "median bound or width")
    for one in results:
        low, high = proportion_interval(round(one.covered * one.simulations), one.simulations)
        drawn.add_row(
            one.what,
            str(one.people),
            "" if one.rate is None else f"{one.rate:g}",
            f"{one.simulations:,}",
            f"{one.covered:.1%} ({low:.1%} to {high:.1%})",
            f"{one.true_rate:.3g}",
            f"{one.stated:.3g}",
        )
    return drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; returns its exit code."""
    parser = argparse.ArgumentParser(description="Coverage of bounds and intervals on drawn people with known rates.")
    parser.add_argument("--simulations", type=int, default=1000, metavar="N", help="for each number of people (1000)")
    parser.add_argument("--people", type=_numbers, default=(10, 40, 400), metavar="N,...", help="(10,40,400)")
    parser.add_argument("--seed", type=int, default=0, help="of the people (0)")
    parser.add_argument("--tasks", action="store_true", help="one-shot accuracy instead of verification")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the results as JSON")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and not arguments.out.parent.is_dir():
        parser.error(f"{arguments.out.parent} is no folder; make it first")
    started = time.monotonic()
    console = Console(stderr=True)
    results: list[Coverage] = []
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task("counting everybody", total=None)
        # people of the simulations have a seed of three parts
        run = _campaign(arguments.seed, tasks=arguments.tasks)
        bar.remove_task(task)
        for people in arguments.people:
            task = bar.add_task(f"{people} people", total=arguments.simulations)
            results += run(people, arguments.simulations, lambda task=task: bar.advance(task))
    Console().print(table(results))
    if arguments.out is not None:
        whole = {
            "command": f"python -m tests.campaigns.coverage --simulations {arguments.simulations}"
            f" --people {','.join(map(str, arguments.people))} --seed {arguments.seed}" + " --tasks" * arguments.tasks,
            "seconds": round(time.monotonic() - started),
            "results": [asdict(one) for one in results],
        }
        write_atomically(arguments.out, json.dumps(whole, indent=1).encode() + b"\n")
    return 0


def _campaign(seed: int, *, tasks: bool) -> Callable[[int, int, Callable[[], None]], list[Coverage]]:
    """What simulates so many people so often, the truth counted already."""
    if tasks:
        accuracy = true_accuracies(seed)
        return lambda people, simulations, progress: simulate_tasks(people, simulations, seed, accuracy, progress)
    everybody = truth(seed)
    return lambda people, simulations, progress: simulate(people, simulations, seed, everybody, progress)


def _images(people: int) -> int:
    return min(_MOST_IMAGES, 2000 // people)


def _summarised(found: dict[tuple[str, float | None], list[Outcome]], people: int, simulations: int) -> list[Coverage]:
    results = []
    for (what, rate), outcomes in found.items():
        held, true, stated = np.array(outcomes).T
        middle = [float(np.median(values)) for values in (true, stated)]
        results.append(Coverage(what, people, _images(people), rate, simulations, float(held.mean()), *middle))
    return results


def _counted(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.bincount(((scores + 1.0) * (_BINS / 2)).astype(np.int64), minlength=_BINS + 1)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
