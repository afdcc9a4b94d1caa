"""What a network's logits on a split say: numpy in, numbers out. No network, no file.

z: [N, C] logits, any float type, computed in float64; y: [N] labels. Fractions are in 0..1, likelihoods in nats.
"""

import numpy as np

BINS = 15


def log_softmax(z: np.ndarray) -> np.ndarray:
    """log of the softmax over classes, [N, C] float64."""
    z = z.astype(np.float64)
    shifted = z - z.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def top_k(z: np.ndarray, y: np.ndarray, k: int) -> float:
    """Fraction of images whose label is among the k largest logits; of equal logits the first class is larger."""
    own = z[np.arange(len(y)), y][:, None]
    earlier = np.arange(z.shape[1])[None, :] < y[:, None]
    ahead = ((z > own) | ((z == own) & earlier)).sum(1)
    return float((ahead < k).mean())


def nll(z: np.ndarray, y: np.ndarray) -> float:
    """Mean of -log softmax(z)[y]."""
    return float(-log_softmax(z)[np.arange(len(y)), y].mean())


def ece(z: np.ndarray, y: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017): sum_b |B_b| / N |accuracy(B_b) - confidence(B_b)|.

    Bins of equal width; a confidence on an edge belongs to the bin below.
    """
    p = np.exp(log_softmax(z))
    confidence, right = p.max(1), z.argmax(1) == y
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def confusion(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[C, C] counts: row the label, column the prediction."""
    n = z.shape[1]
    return np.bincount(y * n + z.argmax(1), minlength=n * n).reshape(n, n)


def per_class(z: np.ndarray, y: np.ndarray) -> list[float | None]:
    """Accuracy on each class's images; None for a class without any."""
    counts = confusion(z, y)
    sizes = counts.sum(1)
    return [float(counts[c, c] / sizes[c]) if sizes[c] else None for c in range(len(sizes))]


def agreement(z: np.ndarray, z_teacher: np.ndarray) -> float:
    """Fraction of images on which two networks predict the same class."""
    return float((z.argmax(1) == z_teacher.argmax(1)).mean())


def false_knowledge(z: np.ndarray, z_guides: list[np.ndarray], y: np.ndarray) -> float:
    """Fraction of images on which a network is wrong with a label that a guide of its is wrong with too."""
    said = z.argmax(1)
    shared = np.zeros(len(y), dtype=bool)
    for z_guide in z_guides:
        shared |= (said != y) & (z_guide.argmax(1) == said)
    return float(shared.mean())


def summary(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """top1, top5 and their errors in percent, nll in nats, ece in 0..1."""
    top1, top5 = 100 * top_k(z, y, 1), 100 * top_k(z, y, min(5, z.shape[1]))
    return {"top1": top1, "top5": top5, "error1": 100 - top1, "error5": 100 - top5, "nll": nll(z, y), "ece": ece(z, y)}
