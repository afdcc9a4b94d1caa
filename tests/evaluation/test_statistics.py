"""Intervals and comparisons equal numbers worked by hand; a verdict needs more than noise."""

import numpy as np
import pytest

from pipeline.evaluation.statistics import compare, judged, spread


def bits(right: int, n: int) -> np.ndarray:
    return np.arange(n) < right


def test_one_seed_has_wilsons_interval():
    s = spread([50.0], 100)
    assert (s.low, s.high) == (pytest.approx(40.3832, abs=1e-3), pytest.approx(59.6168, abs=1e-3))
    assert s.sd is None and s.n == 1


def test_several_seeds_have_students_interval():
    s = spread([90.0, 92.0, 94.0], 100)
    half = 4.302653 * 2 / 3**0.5  # t of 2 degrees of freedom at 97.5 %
    assert (s.mean, s.sd, s.n) == (92.0, 2.0, 3)
    assert (s.low, s.high) == (pytest.approx(92 - half, abs=1e-4), pytest.approx(92 + half, abs=1e-4))


def test_one_seed_is_compared_by_mcnemars_exact_test():
    mine, other = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    mine[:10], other[10:12] = True, True  # 10 images only mine gets right, 2 only the other
    c = compare({0: mine}, {0: other})
    p = 2 * sum(__import__("math").comb(12, k) for k in range(3)) / 2**12
    assert (c.difference, c.p, c.test) == (pytest.approx(8), pytest.approx(p), "McNemar")


def test_equal_predictions_are_no_difference():
    same = bits(50, 100)
    assert judged({"a": compare({0: same}, {0: same})})["a"].verdict == "no difference shown"
    assert compare({0: same, 1: same}, {0: same, 1: same}).p == 1


def test_several_seeds_are_compared_in_pairs():
    mine = {s: bits(r, 100) for s, r in enumerate((92, 94, 96))}
    other = {s: bits(r, 100) for s, r in enumerate((90, 91, 92))}
    c = compare(mine, other)  # differences 2, 3, 4: mean 3, sd 1
    assert (c.difference, c.test) == (pytest.approx(3), "paired t")
    half = 4.302653 / 3**0.5
    assert (c.low, c.high) == (pytest.approx(3 - half, abs=1e-4), pytest.approx(3 + half, abs=1e-4))


def test_only_common_seeds_are_compared():
    assert compare({0: bits(1, 4)}, {1: bits(1, 4)}) is None
    assert compare({0: bits(1, 4), 1: bits(2, 4)}, {1: bits(1, 4)}).test == "McNemar"


def test_holms_correction_asks_more_of_many_comparisons():
    def at(p):
        from pipeline.evaluation.statistics import Comparison

        return Comparison(1.0, None, None, p, "McNemar")

    assert judged({"a": at(0.04)})["a"].verdict == "better"
    verdicts = judged({"a": at(0.04), "b": at(0.01), "c": at(0.03)})
    assert [verdicts[k].verdict for k in "abc"] == ["no difference shown", "better", "no difference shown"]
