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


def teacher_rows(labels: np.ndarray, share: float, seed: int) -> np.ndarray | None:
    """The training images of teacher and assistants, which do not depend on the seed of a run.

    labels: [N], of all training images.  share: `data.teacher_share`.  seed: `data.seed`.
    Returns round(share N) rows, at least one, ascending and stratified by class; None for all images.
    """
    return None if share == 1 else stratified(labels, max(1, round(share * len(labels))), seed, "teacher_share")
