"""Classification metrics of logits: accuracy, likelihood, calibration, confusion and agreement.

The module maps NumPy arrays to numbers. It knows no network, no split, no file and no method.

Conventions: ``z`` are logits of shape [N, C] in any float type, converted to float64; ``y`` are integer labels of
shape [N]. Fractions lie in [0, 1] and likelihoods are in nats.
"""

import numpy as np

BINS = 15


def log_softmax(z: np.ndarray) -> np.ndarray:
    """Return the log-softmax over classes, [N, C] float64."""
    z = z.astype(np.float64)
    shifted = z - z.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def top_k(z: np.ndarray, y: np.ndarray, k: int) -> float:
    """Return the fraction of images whose label is among the k largest logits.

    Ties are broken in favor of the lower class index, as ``argmax`` does.
    """
    label_logit = z[np.arange(len(y)), y][:, None]
    lower_index = np.arange(z.shape[1])[None, :] < y[:, None]
    rank = ((z > label_logit) | ((z == label_logit) & lower_index)).sum(1)
    return float((rank < k).mean())


def nll(z: np.ndarray, y: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    return float(-log_softmax(z)[np.arange(len(y)), y].mean())


def calibration_bins(z: np.ndarray, y: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assign every prediction to one of ``bins`` equal-width confidence bins.

    Bin b covers the confidences in (b / bins, (b + 1) / bins].

    Returns:
        The confidence of each prediction [N] float64, whether it is correct [N] bool, and its bin [N] int.
    """
    p = np.exp(log_softmax(z))
    confidence, correct = p.max(1), z.argmax(1) == y
    return confidence, correct, np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def ece(z: np.ndarray, y: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al., 2017).

    ECE = sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|, over the bins of :func:`calibration_bins`.
    """
    confidence, correct, bin_index = calibration_bins(z, y, bins)
    gap = np.bincount(bin_index, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def reliability_curve(z: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean confidence and the accuracy of every non-empty calibration bin, by increasing confidence."""
    confidence, correct, bin_index = calibration_bins(z, y)
    filled = np.unique(bin_index)
    return (
        [float(confidence[bin_index == b].mean()) for b in filled],
        [float(correct[bin_index == b].mean()) for b in filled],
    )


def bin_counts(z: np.ndarray, y: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the number of predictions in each calibration bin, [bins] int."""
    return np.bincount(calibration_bins(z, y, bins)[2], minlength=bins)


def confusion(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the confusion matrix, [C, C] counts with labels as rows and predictions as columns."""
    n = z.shape[1]
    return np.bincount(y * n + z.argmax(1), minlength=n * n).reshape(n, n)


def per_class(z: np.ndarray, y: np.ndarray) -> list[float | None]:
    """Return the accuracy on the images of each class, or None for a class without images."""
    counts = confusion(z, y)
    sizes = counts.sum(1)
    return [float(counts[c, c] / sizes[c]) if sizes[c] else None for c in range(len(sizes))]


def agreement(z: np.ndarray, z_teacher: np.ndarray) -> float:
    """Return the fraction of images on which both networks predict the same class."""
    return float((z.argmax(1) == z_teacher.argmax(1)).mean())


def false_knowledge(z: np.ndarray, z_guides: list[np.ndarray], y: np.ndarray) -> float:
    """Return the fraction of images that the network and at least one guide give the same wrong class."""
    prediction = z.argmax(1)
    shared = np.zeros(len(y), dtype=bool)
    for z_guide in z_guides:
        shared |= (prediction != y) & (z_guide.argmax(1) == prediction)
    return float(shared.mean())


def summary(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return top1, top5, error1 and error5 in percent, nll in nats and ece in [0, 1]."""
    top1, top5 = 100 * top_k(z, y, 1), 100 * top_k(z, y, min(5, z.shape[1]))
    return {"top1": top1, "top5": top5, "error1": 100 - top1, "error5": 100 - top5, "nll": nll(z, y), "ece": ece(z, y)}
