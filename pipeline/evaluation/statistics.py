"""Confidence intervals and significance tests for test accuracies.

The module knows numbers only: no file, no method's name, no network. It imports SciPy, which is slow to import, so
only the stages `report` and `export` use it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from scipy.stats import binomtest, norm, t, ttest_rel

SIGNIFICANCE_LEVEL = 0.05
K = TypeVar("K")  # what names a comparison


@dataclass(frozen=True)
class Estimate:
    """A mean accuracy with its 95 % confidence interval.

    Attributes:
        mean: Mean accuracy over seeds, in percent.
        sd: Sample standard deviation over seeds in percentage points, or None for a single seed.
        low: Lower end of the interval, in percent.
        high: Upper end of the interval, in percent.
        n: Number of seeds.
    """

    mean: float
    sd: float | None
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """The accuracy of one method minus that of another on the same test images.

    Attributes:
        difference: Mean difference over the common seeds, in percentage points.
        low: Lower end of its 95 % confidence interval: over seeds, or for a single seed over test images.
        high: Upper end of that interval.
        p: Two-sided p-value of no difference, not corrected for multiple comparisons.
        p_equivalent: p-value of a difference of `margin` or more in either direction; None for a single seed.
        test: Name of the test: "paired t", or for one seed "McNemar", or for one seed of a group "images" (normal).
        verdict: "better", "worse", "equivalent", "undecided" or, for a single seed, "n=1"; empty until
            :func:`verdicts` fills it in.
    """

    difference: float
    low: float
    high: float
    p: float
    p_equivalent: float | None
    test: str
    verdict: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary."""
        return asdict(self)


def estimate(top1: list[float], of_one: tuple[float, float]) -> Estimate:
    """Estimate the accuracy of a method from the accuracies of its seeds.

    Several seeds give Student's t interval of the mean. With one seed, the only known source of noise is the finite
    test split.

    Args:
        top1: Accuracy of each seed, in percent.
        of_one: The interval of the first seed over test images, in percent, which is used if there is no other seed.
    """
    if len(top1) == 1:
        return Estimate(top1[0], None, *of_one, 1)
    mean, sd = float(np.mean(top1)), float(np.std(top1, ddof=1))
    half = float(t.ppf(1 - SIGNIFICANCE_LEVEL / 2, len(top1) - 1)) * sd / len(top1) ** 0.5
    return Estimate(mean, sd, mean - half, mean + half, len(top1))


def image_interval(values: np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """Return the normal 95 % interval of a mean over test images, in percent; of one image, all that it could be.

    Args:
        values: A value of each image, [N], at most 1.
        least: The least possible value.
    """
    if len(values) == 1:
        return 100 * least, 100.0
    half = float(norm.ppf(1 - SIGNIFICANCE_LEVEL / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return 100 * (float(values.mean()) - half), 100 * (float(values.mean()) + half)


def proportion_interval(top1: float, n_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy, in percent.

    Args:
        top1: The accuracy, in percent.
        n_images: Number of images.
    """
    interval = binomtest(round(top1 / 100 * n_images), n_images).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


def compare(
    correct: dict[int, np.ndarray], correct_reference: dict[int, np.ndarray], margin: float
) -> Comparison | None:
    """Compare a method with a reference on the seeds that both have.

    One common seed gives McNemar's exact test on the images that exactly one of the two networks classifies
    correctly; it says nothing about other seeds, so it gets no verdict. Several common seeds give a paired t-test on
    their accuracies, and two one-sided t-tests of equivalence (Schuirmann, 1987). The tests are paired because
    networks of the same seed share the data, its order and the initial weights.

    Accuracies are counts of images, so two or three seeds often have equal differences by chance. The standard
    deviation of the differences is therefore at least that of rounding to one prediction, 1 / sqrt(12) of it; without
    this bound, equal differences would be significant whatever their size. Methods whose networks are right on the
    same images in every seed are equivalent.

    Args:
        correct: Maps a seed to whether each network classifies each image correctly, [networks, N] bool: a student, or
            the members of a group.
        correct_reference: The same for the reference.
        margin: Differences below it, in percentage points, count as equivalent.

    Returns:
        The comparison without a verdict, or None if the two have no seed in common.
    """
    seeds = sorted(correct.keys() & correct_reference.keys())
    if not seeds:
        return None
    differences = [100 * (float(correct[s].mean()) - float(correct_reference[s].mean())) for s in seeds]
    mean = float(np.mean(differences))
    if len(seeds) == 1:
        a, b = correct[seeds[0]], correct_reference[seeds[0]]
        interval = image_interval(a.mean(0) - b.mean(0), least=-1.0)
        if len(a) > 1:  # the members of a group answer the same images
            p = 2 * float(norm.sf(abs(mean) / max((interval[1] - interval[0]) / 2 / float(norm.ppf(0.975)), 1e-12)))
            return Comparison(mean, *interval, p, None, "images")
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
        return Comparison(mean, *interval, p, None, "McNemar")
    if all((correct[s] == correct_reference[s]).all() for s in seeds):
        return Comparison(0.0, 0.0, 0.0, 1.0, 0.0, "paired t")
    sd, least = float(np.std(differences, ddof=1)), 100 / correct[seeds[0]].size / 12**0.5
    error, freedom = max(sd, least) / len(seeds) ** 0.5, len(seeds) - 1
    half = float(t.ppf(1 - SIGNIFICANCE_LEVEL / 2, freedom)) * error
    p_equivalent = float(t.sf((margin - abs(mean)) / error, freedom))
    if sd < least:
        p = 2 * float(t.sf(abs(mean) / error, freedom))
    else:
        a, b = (np.array([values[s].mean() for s in seeds]) for values in (correct, correct_reference))
        p = float(ttest_rel(a, b).pvalue)
    return Comparison(mean, mean - half, mean + half, p, p_equivalent, "paired t")


def verdicts(comparisons: dict[K, Comparison]) -> dict[K, Comparison]:
    """Fill in the verdicts of a family of comparisons.

    A "better" or "worse" is wrong in at most 5 % of the families, and so is an "equivalent" (both by
    Holm's correction, 1979). Without the correction, "equivalent" means that the 95 % interval lies within the margin.
    """
    different = holm({name: c.p for name, c in comparisons.items() if c.p_equivalent is not None}, SIGNIFICANCE_LEVEL)
    p_equivalent = {name: c.p_equivalent for name, c in comparisons.items() if c.p_equivalent is not None}
    equivalent = holm(p_equivalent, SIGNIFICANCE_LEVEL / 2)

    def verdict(name: K, c: Comparison) -> str:
        if c.p_equivalent is None:
            return "n=1"
        if name in different:
            return "better" if c.difference > 0 else "worse"
        return "equivalent" if name in equivalent else "undecided"

    return {name: replace(c, verdict=verdict(name, c)) for name, c in comparisons.items()}


def holm(p_values: dict[K, float], level: float) -> set[K]:
    """Return the names whose hypothesis is rejected, with a family-wise error rate of `level` (Holm, 1979)."""
    rejected: set[K] = set()
    for k, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p > level / (len(p_values) - k):
            break
        rejected.add(name)
    return rejected
