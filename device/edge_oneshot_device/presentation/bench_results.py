"""What `bench` prints: the figures of a run, and of two runs compared."""

from typing import TYPE_CHECKING

from edge_oneshot_device.formatting import align, count

if TYPE_CHECKING:
    from edge_oneshot_device.measuring.bench import BenchResult
    from edge_oneshot_device.measuring.bench_comparison import BenchComparison


def bench_text(result: "BenchResult") -> str:
    """The figures of a run, one line each."""
    from edge_oneshot_device.measuring.machine import was_throttled
    from edge_oneshot_device.measuring.stage_times import PEOPLE

    before, after = result.before, result.after
    rows = [
        ("variant", f"{result.variant} on {result.runtime}, {count(result.num_threads, 'thread')}, {result.board}"),
        (
            "start",
            f"init {result.init_ms:.2f} ms, first {result.warmup_first_ms:.3f}, warm-up {result.warmup_avg_ms:.3f}",
        ),
        (
            "latency",
            f"median {result.median_ms:.3f} ms, p5 {result.p5_ms:.3f}, p95 {result.p95_ms:.3f}, "
            f"p99 {result.p99_ms:.3f}, min {result.min_ms:.3f}, max {result.max_ms:.3f}",
        ),
        ("mean", f"{result.avg_ms:.3f} ms, standard deviation {result.std_ms:.3f}, {count(result.num_runs, 'run')}"),
        ("memory", f"model {result.model_size_mb:.2f} MiB, peak of the process {result.peak_rss_mb:.0f} MiB"),
    ]
    if result.stages:
        rows.append(("stages", ", ".join(f"{stage.name} {stage.median_ms:.3f}" for stage in result.stages)))
        rows.append(("", f"medians in ms, for {result.image}, {PEOPLE} people enrolled, audit trail on {result.disk}"))
    heat = "" if after.temperature_c is None else f", {before.temperature_c} to {after.temperature_c} degrees"
    busy = "" if before.load is None else f", load {before.load} at the start"
    rows.append(("machine", f"{result.machine.cores} cores, governor {after.governor or 'unknown'}{heat}{busy}"))
    if flags := was_throttled(before, after):
        rows.append(
            ("throttled", f"{', '.join(flags)}: cool the machine or use a stronger power supply, then measure again")
        )
    return align(rows)


def comparison_text(comparison: "BenchComparison") -> str:
    """The ratio of each figure, and why the runs cannot be compared, if so."""
    lines = [f"not comparable: {obstacle}" for obstacle in comparison.obstacles]
    lines += [f"changed: {change}" for change in comparison.changes]
    rows = [("", "first", "second", "ratio", "95 % interval")]
    for one in comparison.ratios:
        interval = "" if one.interval is None else f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
        rows.append((one.what, f"{one.first:.3f}", f"{one.second:.3f}", f"{one.ratio:.3f}", interval))
    return "\n".join([*lines, align(rows)])
