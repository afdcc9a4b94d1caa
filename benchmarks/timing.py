"""Medians of interleaved runs: on a shared machine only ratios within one process mean anything."""

import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def interleaved(works: dict[str, Work], repeats: int) -> dict[str, float]:
    """Median seconds of each, each run once before it counts and then in turn."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}
