"""Intervals and tests equal values computed by hand, and verdicts are corrected for multiple comparisons."""

import numpy as np
import pytest
from scipy.stats import t

from pipeline.evaluation.statistics import Comparison, compare, estimate, image_interval, proportion_interval, verdicts


def first_correct(n_correct: int, n: int) -> np.ndarray:
    """[1, n] bool, of which the first n_correct are true."""
    return (np.arange(n) < n_correct)[None]


def test_one_seed_has_the_wilson_interval():
    s = estimate([50.0], proportion_interval(50.0, 100))
    assert (s.low, s.high) == (pytest.approx(40.3832, abs=1e-3), pytest.approx(59.6168, abs=1e-3))
    assert s.sd is None and s.n == 1


def test_the_members_of_a_group_are_not_independent_images():
    """Members that agree on every image tell no more than one of them."""
    right = first_correct(50, 100)[0]
    low, high = image_interval(np.stack([right] * 4).mean(0))
    assert high - low == pytest.approx(100 * 2 * 1.959964 * right.std(ddof=1) / 10, abs=1e-3)
    assert (low, high) == pytest.approx(image_interval(right.astype(float)))
    four = {0: np.stack([right] * 4)}
    other = {0: np.stack([np.roll(right, 5)] * 4)}
    c = compare(four, other, 1.0)
    assert (c.test, c.difference) == ("images", 0) and c.p == pytest.approx(1)
    assert (c.low, c.high) == pytest.approx(image_interval(right.astype(float) - np.roll(right, 5)))


def test_several_seeds_have_students_t_interval():
    s = estimate([90.0, 92.0, 94.0], (0.0, 0.0))
    half = 4.302653 * 2 / 3**0.5  # 97.5 % quantile of t with 2 degrees of freedom
    assert (s.mean, s.sd, s.n) == (92.0, 2.0, 3)
    assert (s.low, s.high) == (pytest.approx(92 - half, abs=1e-4), pytest.approx(92 + half, abs=1e-4))


def test_one_seed_is_compared_by_mcnemars_exact_test():
    a, b = np.zeros((1, 100), dtype=bool), np.zeros((1, 100), dtype=bool)
    a[0, :10], b[0, 10:12] = True, True  # 10 images are correct only in a, 2 only in b
    c = compare({0: a}, {0: b}, 1.0)
    p = 2 * sum(__import__("math").comb(12, k) for k in range(3)) / 2**12
    assert (c.difference, c.p, c.test) == (pytest.approx(8), pytest.approx(p), "McNemar")
    half = 196 * np.std([1] * 10 + [-1] * 2 + [0] * 88, ddof=1) / 10  # percent
    assert (c.low, c.high) == (pytest.approx(8 - half, abs=1e-2), pytest.approx(8 + half, abs=1e-2))
    assert verdicts({"a": c})["a"].verdict == "n=1"


def test_equal_predictions_are_equivalent():
    same = {0: first_correct(50, 100), 1: first_correct(50, 100)}
    found = compare(same, same, 1.0)
    assert (found.p, found.p_equivalent) == (1, 0) and verdicts({"a": found})["a"].verdict == "equivalent"


@pytest.mark.parametrize(("seeds", "images"), [(2, 1), (2, 2), (2, 15), (3, 1), (3, 3), (4, 2)])
def test_counts_of_images_give_wrong_verdicts_in_less_than_5_percent_of_the_families(seeds, images):
    """Nine methods without a true difference, whose accuracies vary by a few images between seeds."""
    draw, families, wrong = np.random.default_rng(0), 400, 0
    for _ in range(families):
        counts = np.rint(draw.normal(500, images / 2**0.5, (10, seeds))).astype(int)
        correct = [{s: first_correct(n, 1000) for s, n in enumerate(of_method)} for of_method in counts]
        found = {str(k): compare(correct[k], correct[0], 1.0) for k in range(1, 10)}
        wrong += any(c.verdict in ("better", "worse") for c in verdicts(found).values())
    assert wrong <= 0.05 * families


def test_differences_that_are_equal_in_all_seeds_are_not_certain():
    a = {s: first_correct(r, 997) for s, r in enumerate((930, 917))}
    b = {s: first_correct(r, 997) for s, r in enumerate((927, 914))}
    c = compare(a, b, 1.0)
    assert c.difference == pytest.approx(300 / 997)
    assert c.high - c.low == pytest.approx(2 * 12.7062 * 100 / 997 / 24**0.5, abs=1e-4)  # t with 1 degree of freedom
    assert c.p == pytest.approx(2 * t.sf(3 * 24**0.5, 1))


def test_one_test_image_could_be_anything():
    one = first_correct(1, 1)
    c = compare({0: one}, {0: ~one}, 1.0)
    assert (c.difference, c.low, c.high) == (100, -100, 100)
    assert image_interval(one[0].astype(float)) == (0, 100)


def test_several_seeds_are_compared_by_a_paired_t_test():
    a = {s: first_correct(r, 100) for s, r in enumerate((92, 94, 96))}
    b = {s: first_correct(r, 100) for s, r in enumerate((90, 91, 92))}
    c = compare(a, b, 1.0)  # differences 2, 3, 4: mean 3, sd 1
    assert (c.difference, c.test) == (pytest.approx(3), "paired t")
    half = 4.302653 / 3**0.5
    assert (c.low, c.high) == (pytest.approx(3 - half, abs=1e-4), pytest.approx(3 + half, abs=1e-4))


def test_only_common_seeds_are_compared():
    assert compare({0: first_correct(1, 4)}, {1: first_correct(1, 4)}, 1.0) is None
    assert compare({0: first_correct(1, 4), 1: first_correct(2, 4)}, {1: first_correct(1, 4)}, 1.0).test == "McNemar"


def test_holms_correction_requires_smaller_p_values_of_more_comparisons():
    def at(p):
        return Comparison(1.0, 0.1, 1.9, p, 1.0, "paired t")

    assert verdicts({"a": at(0.04)})["a"].verdict == "better"
    found = verdicts({"a": at(0.04), "b": at(0.01), "c": at(0.03)})
    assert [found[k].verdict for k in "abc"] == ["undecided", "better", "undecided"]


def test_equivalent_means_that_the_interval_lies_within_the_margin():
    a = {s: first_correct(r, 1000) for s, r in enumerate((900, 910, 905))}
    b = {s: first_correct(r, 1000) for s, r in enumerate((898, 909, 904))}
    for margin in np.linspace(0.05, 1.0, 20):
        c = compare(a, b, margin)
        within = -margin <= c.low and c.high <= margin
        assert verdicts({"a": c})["a"].verdict == ("equivalent" if within else "undecided")


@pytest.mark.parametrize("truth", [0.0, 0.4, 1.0, 2.0])
def test_wrong_verdicts_are_rarer_than_5_percent_of_the_families(truth):
    """Families of ten comparisons with a known difference, five seeds each."""
    draw, families, wrong = np.random.default_rng(0), 2000, {"different": 0, "equivalent": 0}
    for _ in range(families):
        found = {}
        for k in range(10):
            d = draw.normal(truth, 0.8, 5)
            error = d.std(ddof=1) / 5**0.5
            p = 2 * t.sf(abs(d.mean()) / error, 4)
            found[str(k)] = Comparison(d.mean(), 0.0, 0.0, p, t.sf((1.0 - abs(d.mean())) / error, 4), "paired t")
        said = [c.verdict for c in verdicts(found).values()]
        wrong["different"] += "worse" in said or (truth == 0 and "better" in said)
        wrong["equivalent"] += truth >= 1 and "equivalent" in said
    assert max(wrong.values()) <= 0.05 * families, wrong
