"""What a student gets wrong: accuracy by class, frequent confusions, and the wrongly classified test images.

The module turns logits, labels and images into tables and pictures for the page. It reads no file. Class names are
untrusted: the template escapes them.
"""

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from pipeline.errors import DataError
from pipeline.evaluation import metrics
from pipeline.evaluation.table import Table

MOST_CLASSES, MOST_CONFUSIONS, MOST_IMAGES = 20, 10, 24
LONGEST = 40  # characters of a class name beside another one
PIXELS = 96  # largest height and width of a picture on the page


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified test image.

    Attributes:
        index: The row of the image in the test split.
        label: The name of its class, cut to LONGEST characters.
        prediction: The name of the predicted class, cut as well.
        confidence: The probability of the prediction, in [0, 1].
        picture: The image as a data URI.
    """

    index: int
    label: str
    prediction: str
    confidence: float
    picture: str


def class_table(z: np.ndarray, y: np.ndarray, classes: list[str]) -> Table:
    """Return the accuracy by class, the lowest first, without classes that have no test image.

    Args:
        z: The logits on the test split, [N, C].
        y: The labels, [N].
        classes: The names of the C classes.
    """
    sizes = np.bincount(y, minlength=len(classes))
    right = np.bincount(y[z.argmax(1) == y], minlength=len(classes))
    present = np.flatnonzero(sizes)
    worst = present[np.argsort(right[present] / sizes[present], kind="stable")][:MOST_CLASSES]
    rows = [(classes[c], f"{100 * right[c] / sizes[c]:.1f}", f"{right[c]}", f"{sizes[c]}") for c in worst]
    which = f"the {len(worst)} lowest of {len(present)}" if len(present) > len(worst) else "lowest first"
    return Table(f"Accuracy by class, {which}", ("class", "accuracy (%)", "correct", "images"), rows)


def confusion_table(z: np.ndarray, y: np.ndarray, classes: list[str]) -> Table:
    """Return the most frequent pairs of a label and a wrong prediction.

    Args:
        z: The logits on the test split, [N, C].
        y: The labels, [N].
        classes: The names of the C classes.
    """
    prediction = z.argmax(1)
    wrong = prediction != y
    pairs, counts = np.unique(np.stack([y[wrong], prediction[wrong]], 1), axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MOST_CONFUSIONS]
    rows = [(f"{short(classes[pairs[k, 0]])} -> {short(classes[pairs[k, 1]])}", f"{counts[k]}") for k in most]
    return Table("Most frequent confusions", ("label -> prediction", "images"), rows)


def mistakes(z: np.ndarray, y: np.ndarray, classes: list[str], images: np.ndarray) -> list[Mistake]:
    """Return the wrongly classified images with the highest confidence, the most confident first.

    Args:
        z: The logits on the test split, [N, C].
        y: The labels, [N].
        classes: The names of the C classes.
        images: The test images, [N, H, W, C_in] uint8, of which only those that are shown are read.

    Raises:
        DataError: If the images are not as many as the labels.
    """
    if len(images) != len(y):
        raise DataError(
            f"data/prepared has {len(images)} test images, but results/predictions is of {len(y)}: run `dvc repro`"
        )
    prediction, confidence = z.argmax(1), np.exp(metrics.log_softmax(z).max(1))
    wrong = np.flatnonzero(prediction != y)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_IMAGES]
    return [
        Mistake(int(k), short(classes[y[k]]), short(classes[prediction[k]]), float(confidence[k]), data_uri(images[k]))
        for k in shown
    ]


def short(name: str) -> str:
    """Return the name of a class, cut to LONGEST characters."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def data_uri(image: np.ndarray) -> str:
    """Return an image as the data URI of a PNG file of at most PIXELS x PIXELS.

    Args:
        image: The pixels, [H, W, C_in] uint8. Of two channels the first is shown, of four the first three.
    """
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] < 3 else image[..., :3]))
    picture.thumbnail((PIXELS, PIXELS))
    out = BytesIO()
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
