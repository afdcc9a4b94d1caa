"""The errors of a student equal those counted by loops, the worst first."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation import metrics
from pipeline.evaluation.page import errors

N, C = 300, 30
CLASSES = [f"class {c}" for c in range(C)]


@pytest.fixture
def case():
    draw = np.random.default_rng(0)
    z, y = draw.normal(size=(N, C)), draw.integers(1, C, size=N)  # class 0 has no image
    z[np.arange(N), y] += draw.random(N) * 4
    return z, y


def test_the_worst_classes_come_first_with_their_counts(case):
    z, y = case
    table = errors.class_table(z, y, CLASSES)
    assert table.title == "Accuracy by class, the 20 lowest of 29" and len(table.rows) == 20
    accuracies = {CLASSES[c]: v for c, v in enumerate(metrics.per_class(z, y)) if v is not None}
    shown = [float(row[1]) for row in table.rows]
    assert shown == sorted(shown) and shown == [round(100 * v, 1) for v in sorted(accuracies.values())[:20]]
    for name, _, right, size in table.rows:
        assert int(right) / int(size) == pytest.approx(accuracies[name])
        assert int(size) == sum(CLASSES[label] == name for label in y)


def test_the_most_frequent_confusions_come_first(case):
    z, y = case
    counts = metrics.confusion(z, y)
    np.fill_diagonal(counts, 0)
    table = errors.confusion_table(z, y, CLASSES)
    assert [int(row[1]) for row in table.rows] == sorted(counts.ravel(), reverse=True)[:10]
    label, prediction = table.rows[0][0].split(" -> ")
    assert counts[CLASSES.index(label), CLASSES.index(prediction)] == counts.max()


def test_a_student_without_errors_has_no_confusions():
    z, y = np.eye(3), np.arange(3)
    assert errors.confusion_table(z, y, CLASSES[:3]).rows == []
    assert errors.mistakes(z, y, CLASSES[:3], np.zeros((3, 4, 4, 1), np.uint8)) == []


def test_the_most_confident_mistakes_come_first(case):
    z, y = case
    images = np.arange(N, dtype=np.uint8)[:, None, None, None].repeat(5, 1).repeat(7, 2).repeat(3, 3)
    found = errors.mistakes(z, y, CLASSES, images)
    p = np.exp(metrics.log_softmax(z))
    wrong = sorted((k for k in range(N) if p[k].argmax() != y[k]), key=lambda k: -p[k].max())
    assert [m.index for m in found] == wrong[:24]
    for m in found:
        assert m.label == CLASSES[y[m.index]] and m.prediction == CLASSES[p[m.index].argmax()]
        assert (pixels(m.picture) == images[m.index]).all()


def test_long_names_are_cut_beside_others():
    z, y, classes = np.eye(2)[[1, 1]], np.array([0, 1]), ["x" * 41, "y" * 40]
    cut = "x" * 39 + "…"
    assert errors.confusion_table(z, y, classes).rows == [(f"{cut} -> {classes[1]}", "1")]
    (mistake,) = errors.mistakes(z, y, classes, np.zeros((2, 4, 4, 3), np.uint8))
    assert (mistake.label, mistake.prediction) == (cut, classes[1])


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.mark.parametrize(("channels", "mode"), [(1, (50, 96)), (2, (50, 96)), (3, (50, 96, 3)), (4, (50, 96, 3))])
def test_pictures_are_small_and_have_one_or_three_channels(channels, mode):
    assert pixels(errors.data_uri(np.zeros((200, 384, channels), np.uint8))).shape == mode
