"""Stratified, seeded selection of images that is the same on every machine."""

import numpy as np

from pipeline.core.randomness import hash64


def stratified(labels: np.ndarray, n: int, *counters: int | str) -> np.ndarray:
    """Select n rows in which every class has the same share as in all rows.

    labels: [N].  counters: integers and words that, together with the label, seed the draw.
    Returns [n] rows, ascending. Shares are rounded by the largest remainder method, so that exactly n are selected.
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
