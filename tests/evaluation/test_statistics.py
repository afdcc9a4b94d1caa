"""Intervals and tests equal values computed by hand, and verdicts are corrected for multiple comparisons."""

import numpy as np
import pytest

from pipeline.evaluation.statistics import Comparison, compare, estimate, holm_verdicts


def first_correct(n_correct: int, n: int) -> np.ndarray:
    """[n] bool, of which the first n_correct are true."""
    return np.arange(n) < n_correct


def test_one_seed_has_the_wilson_interval():
    s = estimate([50.0], 100)
    assert (s.low, s.high) == (pytest.approx(40.3832, abs=1e-3), pytest.approx(59.6168, abs=1e-3))
    assert s.sd is None and s.n == 1


def test_several_seeds_have_students_t_interval():
    s = estimate([90.0, 92.0, 94.0], 100)
    half = 4.302653 * 2 / 3**0.5  # 97.5 % quantile of t with 2 degrees of freedom
    assert (s.mean, s.sd, s.n) == (92.0, 2.0, 3)
    assert (s.low, s.high) == (pytest.approx(92 - half, abs=1e-4), pytest.approx(92 + half, abs=1e-4))


def test_one_seed_is_compared_by_mcnemars_exact_test():
    a, b = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    a[:10], b[10:12] = True, True  # 10 images are correct only in a, 2 only in b
    c = compare({0: a}, {0: b})
    p = 2 * sum(__import__("math").comb(12, k) for k in range(3)) / 2**12
    assert (c.difference, c.p, c.test) == (pytest.approx(8), pytest.approx(p), "McNemar")


def test_equal_predictions_are_no_difference():
    same = first_correct(50, 100)
    assert holm_verdicts({"a": compare({0: same}, {0: same})})["a"].verdict == "no difference shown"
    assert compare({0: same, 1: same}, {0: same, 1: same}).p == 1


def test_several_seeds_are_compared_by_a_paired_t_test():
    a = {s: first_correct(r, 100) for s, r in enumerate((92, 94, 96))}
    b = {s: first_correct(r, 100) for s, r in enumerate((90, 91, 92))}
    c = compare(a, b)  # differences 2, 3, 4: mean 3, sd 1
    assert (c.difference, c.test) == (pytest.approx(3), "paired t")
    half = 4.302653 / 3**0.5
    assert (c.low, c.high) == (pytest.approx(3 - half, abs=1e-4), pytest.approx(3 + half, abs=1e-4))


def test_only_common_seeds_are_compared():
    assert compare({0: first_correct(1, 4)}, {1: first_correct(1, 4)}) is None
    assert compare({0: first_correct(1, 4), 1: first_correct(2, 4)}, {1: first_correct(1, 4)}).test == "McNemar"


def test_holms_correction_requires_smaller_p_values_of_more_comparisons():
    def at(p):
        return Comparison(1.0, None, None, p, "McNemar")

    assert holm_verdicts({"a": at(0.04)})["a"].verdict == "better"
    verdicts = holm_verdicts({"a": at(0.04), "b": at(0.01), "c": at(0.03)})
    assert [verdicts[k].verdict for k in "abc"] == ["no difference shown", "better", "no difference shown"]
