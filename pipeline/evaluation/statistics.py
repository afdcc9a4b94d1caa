"""Whether a difference is more than noise. Imports scipy, so only `report` may."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest, t, ttest_rel

LEVEL = 0.05


@dataclass(frozen=True)
class Spread:
    """A mean in percent with what is known of its noise: over seeds, or for one seed over the test images."""

    mean: float
    sd: float | None
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A method against another on the same test images. difference in percentage points, p before Holm's step."""

    difference: float
    low: float | None
    high: float | None
    p: float
    test: str
    verdict: str = ""

    def plain(self) -> dict:
        return asdict(self)


def spread(top1: list[float], n_images: int) -> Spread:
    """Several seeds: mean, standard deviation and Student's 95 % interval of the mean.

    One seed: Wilson's 95 % interval of a proportion of n_images test images.
    """
    if len(top1) > 1:
        mean, sd = float(np.mean(top1)), float(np.std(top1, ddof=1))
        half = float(t.ppf(1 - LEVEL / 2, len(top1) - 1)) * sd / len(top1) ** 0.5
        return Spread(mean, sd, mean - half, mean + half, len(top1))
    right = round(top1[0] / 100 * n_images)
    interval = binomtest(right, n_images).proportion_ci(method="wilson")
    return Spread(top1[0], None, 100 * interval.low, 100 * interval.high, 1)


def compare(right: dict[int, np.ndarray], right_other: dict[int, np.ndarray]) -> Comparison | None:
    """Two methods, by which test images each seed's network gets right: seed -> [N] bool.

    One common seed: McNemar's exact test on the images that only one of them gets right.  Several: a paired t-test
    on the accuracies of the common seeds, which share data, order and initial weights.  None without common seeds.
    """
    seeds = sorted(right.keys() & right_other.keys())
    if not seeds:
        return None
    differences = [100 * (float(right[s].mean()) - float(right_other[s].mean())) for s in seeds]
    mean = float(np.mean(differences))
    if len(seeds) == 1:
        mine, other = right[seeds[0]], right_other[seeds[0]]
        only, only_other = int((mine & ~other).sum()), int((other & ~mine).sum())
        p = float(binomtest(only, only + only_other).pvalue) if only + only_other else 1.0
        return Comparison(mean, None, None, p, "McNemar")
    sd = float(np.std(differences, ddof=1))
    half = float(t.ppf(1 - LEVEL / 2, len(seeds) - 1)) * sd / len(seeds) ** 0.5
    if sd == 0:
        p = 1.0 if mean == 0 else 0.0
    else:
        mine, other = (np.array([r[s].mean() for s in seeds]) for r in (right, right_other))
        p = float(ttest_rel(mine, other).pvalue)
    return Comparison(mean, mean - half, mean + half, p, "paired t")


def judged(comparisons: dict[str, Comparison]) -> dict[str, Comparison]:
    """Verdicts at 5 % for all comparisons together, by Holm's procedure."""
    verdicts, holds = {}, True
    for k, (name, c) in enumerate(sorted(comparisons.items(), key=lambda item: item[1].p)):
        holds = holds and c.p <= LEVEL / (len(comparisons) - k)
        verdicts[name] = ("better" if c.difference > 0 else "worse") if holds else "no difference shown"
    return {name: Comparison(**{**asdict(c), "verdict": verdicts[name]}) for name, c in comparisons.items()}
