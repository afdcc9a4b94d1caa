"""Confidence intervals and significance tests for test accuracies.

The module knows numbers only: no file, no method's name, no network. It imports SciPy, which is slow to import, so
only the stages `report` and `export` use it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import binomtest, t, ttest_rel

SIGNIFICANCE_LEVEL = 0.05


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
        low: Lower end of its 95 % confidence interval, or None for a single seed.
        high: Upper end of its 95 % confidence interval, or None for a single seed.
        p: Two-sided p-value, not corrected for multiple comparisons.
        test: Name of the test, "McNemar" or "paired t".
        verdict: "better", "worse" or "no difference shown"; empty until :func:`holm_verdicts` fills it in.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    test: str
    verdict: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary."""
        return asdict(self)


def estimate(top1: list[float], n_images: int) -> Estimate:
    """Estimate the accuracy of a method from the accuracies of its seeds.

    Several seeds give Student's t interval of the mean. One seed gives the Wilson score interval of a proportion,
    because the only known source of noise is then the finite test split.

    Args:
        top1: Accuracy of each seed, in percent.
        n_images: Number of predictions behind each accuracy.
    """
    if len(top1) > 1:
        mean, sd = float(np.mean(top1)), float(np.std(top1, ddof=1))
        half = float(t.ppf(1 - SIGNIFICANCE_LEVEL / 2, len(top1) - 1)) * sd / len(top1) ** 0.5
        return Estimate(mean, sd, mean - half, mean + half, len(top1))
    n_correct = round(top1[0] / 100 * n_images)
    interval = binomtest(n_correct, n_images).proportion_ci(method="wilson")
    return Estimate(top1[0], None, 100 * interval.low, 100 * interval.high, 1)


def compare(correct: dict[int, np.ndarray], correct_reference: dict[int, np.ndarray]) -> Comparison | None:
    """Compare a method with a reference on the seeds that both have.

    One common seed gives McNemar's exact test on the images that exactly one of the two networks classifies
    correctly. Several common seeds give a paired t-test on their accuracies. The test is paired because networks of
    the same seed share the data, its order and the initial weights.

    Args:
        correct: Maps a seed to whether each prediction is correct, [N] bool.
        correct_reference: The same for the reference.

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
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
        return Comparison(mean, None, None, p, "McNemar")
    sd = float(np.std(differences, ddof=1))
    half = float(t.ppf(1 - SIGNIFICANCE_LEVEL / 2, len(seeds) - 1)) * sd / len(seeds) ** 0.5
    if sd == 0:
        p = 1.0 if mean == 0 else 0.0
    else:
        a, b = (np.array([values[s].mean() for s in seeds]) for values in (correct, correct_reference))
        p = float(ttest_rel(a, b).pvalue)
    return Comparison(mean, mean - half, mean + half, p, "paired t")


def holm_verdicts(comparisons: dict[str, Comparison]) -> dict[str, Comparison]:
    """Fill in the verdicts, with a family-wise error rate of 5 % over all comparisons (Holm, 1979)."""
    verdicts, significant = {}, True
    for k, (name, c) in enumerate(sorted(comparisons.items(), key=lambda item: item[1].p)):
        significant = significant and c.p <= SIGNIFICANCE_LEVEL / (len(comparisons) - k)
        verdicts[name] = ("better" if c.difference > 0 else "worse") if significant else "no difference shown"
    return {name: replace(c, verdict=verdicts[name]) for name, c in comparisons.items()}
