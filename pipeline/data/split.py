"""Choosing images: stratified, seeded, and the same on every machine."""

import numpy as np

from pipeline.core.counters import hash64


def stratified(labels: np.ndarray, n: int, *counters: int | str) -> np.ndarray:
    """n rows in which every class has its share of all rows; ascending.

    Shares are rounded by largest remainder, so that exactly n come out.  counters: what the draw is a function of.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = n * sizes / len(labels)
    quota = np.floor(exact).astype(int)
    rest = np.argsort(quota - exact, kind="stable")[: n - quota.sum()]
    quota[rest] += 1
    chosen = []
    for label, size in zip(classes, quota):
        rows = np.flatnonzero(labels == label)
        draw = np.random.default_rng(hash64(*counters, int(label)))
        chosen.append(draw.permutation(rows)[:size])
    return np.sort(np.concatenate(chosen))
