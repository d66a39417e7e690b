"""Compare two runs of `bench`."""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import read_file
from edge_oneshot_device.measuring.bench import BenchResult
from edge_oneshot_device.measuring.machine import was_throttled

_MAX_BYTES: Final = 16 << 20
_RESAMPLES: Final = 2000


class Ratio(msgspec.Struct, frozen=True):
    """A figure of two runs compared.

    Attributes:
        what: The name of the figure.
        first, second: The values, in milliseconds or MiB.
        ratio: `second` / `first`: below 1 the second run is faster.
        interval: 95 % confidence interval of the ratio, from the variation within both runs; the variation between
            processes is not in it. None where a run has only one sample of the figure.
    """

    what: str
    first: float
    second: float
    ratio: float
    interval: tuple[float, float] | None


class BenchComparison(msgspec.Struct, frozen=True):
    """The comparison of two runs.

    Attributes:
        comparable: Whether the ratios show the effect of `changes` alone.
        obstacles: Why they do not, one line each.
        changes: What differs and may be what is compared: runtime, threads, variant, versions.
        ratios: The figures that both runs have.
    """

    comparable: bool
    obstacles: list[str]
    changes: list[str]
    ratios: list[Ratio]


def compare(first: Path, second: Path) -> BenchComparison:
    """Compare two files of ``bench --json``.

    Args:
        first: The first file.
        second: The second file.

    Returns:
        The comparison.

    Raises:
        InputError: A file cannot be read, or is not a result of `bench` (``not_a_bench``).
    """
    a, b = _read(first), _read(second)
    obstacles = [
        f"different {name}: {before}, then {after}"
        for name, before, after in (
            ("fingerprint", a.fingerprint[:12], b.fingerprint[:12]),
            ("board", a.board, b.board),
            ("processor", a.machine.processor, b.machine.processor),
            ("number of cores", a.machine.cores, b.machine.cores),
            ("governor", a.after.governor, b.after.governor),
            ("image", a.image, b.image),
            ("disk", a.disk, b.disk),
        )
        if before != after
    ]
    for name, run in (("first", a), ("second", b)):
        if flags := was_throttled(run.before, run.after):
            obstacles.append(f"the {name} run was throttled: {', '.join(flags)}")
    old, new = (
        {"variant": run.variant, "runtime": run.runtime, "threads": str(run.num_threads), **run.machine.versions}
        for run in (a, b)
    )
    changes = [
        f"{name}: {old.get(name, 'absent')}, then {new.get(name, 'absent')}"
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    ]
    ratios = [_ratio(name, getattr(a, name), getattr(b, name)) for name in ("init_ms", "warmup_first_ms")]
    ratios += [_percentile(f"{name}_ms", a.samples_ms, b.samples_ms, q) for name, q in (("median", 50), ("p95", 95))]
    ratios.append(_ratio("peak_rss_mb", a.peak_rss_mb, b.peak_rss_mb))
    others = {stage.name: stage.samples_ms for stage in b.stages}
    ratios += [_percentile(s.name, s.samples_ms, others[s.name], 50) for s in a.stages if s.name in others]
    return BenchComparison(not obstacles, obstacles, changes, ratios)


def _read(path: Path) -> BenchResult:
    try:
        run = msgspec.json.decode(read_file(path, _MAX_BYTES), type=BenchResult)
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path} was not written by bench --json of this version: {error}", reason="not_a_bench"
        ) from error
    if not run.samples_ms or not all(stage.samples_ms for stage in run.stages):
        raise InputError(f"{path} holds no timed runs", reason="not_a_bench")
    return run


def _ratio(what: str, first: float, second: float) -> Ratio:
    return Ratio(what, first, second, second / max(first, 1e-9), None)


def _percentile(what: str, first: list[float], second: list[float], q: int) -> Ratio:
    """The ratio of a percentile. Its interval is a block bootstrap (Künsch 1989), since neighbouring runs correlate."""
    rng = np.random.default_rng(0)
    drawn = [np.percentile(_resample(np.array(runs), rng), q, axis=1) for runs in (first, second)]
    low, high = np.percentile(drawn[1] / np.maximum(drawn[0], 1e-9), (2.5, 97.5))
    a, b = (float(np.percentile(runs, q)) for runs in (first, second))
    return Ratio(what, a, b, b / max(a, 1e-9), (float(low), float(high)))


def _resample(
    runs: "np.ndarray[tuple[int], np.dtype[np.float64]]", rng: np.random.Generator
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """`_RESAMPLES` rows of the length of `runs`, drawn in blocks whose length is about its square root."""
    length = max(1, round(len(runs) ** 0.5))
    starts = rng.integers(0, len(runs) - length + 1, (_RESAMPLES, -(-len(runs) // length)))
    places = (starts[:, :, np.newaxis] + np.arange(length)).reshape(_RESAMPLES, -1)[:, : len(runs)]
    return runs[places]
