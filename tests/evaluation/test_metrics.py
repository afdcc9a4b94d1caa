"""Every metric equals its definition, computed by loops, by scikit-learn and by torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from pipeline.evaluation import metrics

CASES = [(n, c) for n in (1, 7, 200) for c in (2, 10)]


def random_case(n, c, seed=0):
    """Random logits [n, c] and labels [n]."""
    draw = np.random.default_rng(seed)
    return 2 * draw.normal(size=(n, c)), draw.integers(c, size=n)


@pytest.mark.parametrize(("n", "c"), CASES)
def test_metrics_equal_scikit_learn(n, c):
    z, y = random_case(n, c)
    p = np.exp(metrics.log_softmax(z))
    labels = list(range(c))
    assert metrics.top_k(z, y, 1) == pytest.approx(accuracy_score(y, z.argmax(1)))
    assert metrics.nll(z, y) == pytest.approx(log_loss(y, p, labels=labels))
    assert (metrics.confusion(z, y) == confusion_matrix(y, z.argmax(1), labels=labels)).all()
    if c > 5:
        assert metrics.top_k(z, y, 5) == pytest.approx(top_k_accuracy_score(y, z, k=5, labels=labels))
    recalls = recall_score(y, z.argmax(1), labels=labels, average=None, zero_division=np.nan)
    assert [np.nan if v is None else v for v in metrics.per_class(z, y)] == pytest.approx(list(recalls), nan_ok=True)


@pytest.mark.parametrize(("n", "c"), CASES)
def test_ece_equals_a_loop_over_bins(n, c):
    z, y = random_case(n, c)
    p = np.exp(metrics.log_softmax(z))
    total = 0.0
    for b in range(15):
        inside = [k for k in range(n) if b / 15 < p[k].max() <= (b + 1) / 15]
        if inside:
            confidence = np.mean([p[k].max() for k in inside])
            accuracy = np.mean([p[k].argmax() == y[k] for k in inside])
            total += len(inside) / n * abs(accuracy - confidence)
    assert metrics.ece(z, y) == pytest.approx(total)


@pytest.mark.parametrize(("n", "c"), CASES)
def test_the_reliability_curve_has_the_bins_of_ece(n, c):
    z, y = random_case(n, c)
    confidence, correct, bin_index = metrics.calibration_bins(z, y)
    curve = metrics.reliability_curve(z, y)
    weights = [(bin_index == b).mean() for b in np.unique(bin_index)]
    assert metrics.bin_counts(z, y).tolist() == [(bin_index == b).sum() for b in range(metrics.BINS)]
    gaps = [abs(a - b) for a, b in zip(*curve)]
    assert metrics.ece(z, y) == pytest.approx(np.dot(weights, gaps))
    assert confidence.mean() == pytest.approx(np.dot(weights, curve[0]))
    assert correct.mean() == pytest.approx(np.dot(weights, curve[1]))


@pytest.mark.parametrize(("n", "c"), CASES)
def test_metrics_equal_torchmetrics(n, c):
    z, y = random_case(n, c, seed=1)
    p, labels = torch.from_numpy(np.exp(metrics.log_softmax(z))), torch.from_numpy(y)
    reference = multiclass_calibration_error(p, labels, num_classes=c, n_bins=metrics.BINS, norm="l1")
    assert metrics.ece(z, y) == pytest.approx(float(reference), abs=1e-6)
    for k in (k for k in (1, 5) if k < c):
        reference = multiclass_accuracy(p, labels, num_classes=c, top_k=k, average="micro")
        assert metrics.top_k(z, y, k) == pytest.approx(float(reference), abs=1e-6)


def test_certain_predictions_are_calibrated_if_correct():
    y = np.arange(4)
    assert metrics.ece(100 * np.eye(4), y) == pytest.approx(0)
    assert metrics.ece(100 * np.eye(4), (y + 1) % 4) == pytest.approx(1)


def test_large_logits_do_not_overflow():
    assert metrics.nll(np.array([[1e4, -1e4]]), np.array([1])) == pytest.approx(2e4)


def test_false_knowledge_is_a_shared_wrong_label():
    y = np.array([0, 0, 0, 0])
    z = np.eye(3)[[1, 1, 0, 2]]
    guide = np.eye(3)[[1, 2, 1, 0]]
    assert metrics.false_knowledge(z, [guide], y) == 1 / 4
    assert metrics.false_knowledge(z, [guide, np.eye(3)[[0, 1, 0, 0]]], y) == 2 / 4
    assert metrics.agreement(z, guide) == 1 / 4


def test_a_class_without_images_has_no_accuracy():
    assert metrics.per_class(np.eye(3)[:2], np.array([0, 1])) == [1.0, 1.0, None]
