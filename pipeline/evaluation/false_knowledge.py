"""False knowledge that a student takes over from its teachers, on training images, measured against the true labels.

The teachers' answer to an image is the class with the largest mean probability over the networks from which the student
learns: the teacher, the chain of assistants with the teacher, or ORC's pivot as it was before it taught. They err where
their answer is not the true label. Of these errors, `passed_on` is the share on which the student gives the same wrong
class. A student that never saw the teacher does that too, by coincidence or because both learnt the same wrong label;
`passed_on` of plain cross-entropy measures that, on the same images.

The module maps NumPy arrays to numbers. It knows no network, no file and no method. All arrays have shape [N].
"""

import numpy as np

from pipeline.evaluation.metrics import log_softmax


def answers(z: list[np.ndarray]) -> np.ndarray:
    """Return the class with the largest mean probability over networks, [N] int64.

    Args:
        z: The logits of each network, [N, C]. Probabilities are at temperature 1, whatever a method distils at.
    """
    return np.mean([np.exp(log_softmax(of_network)) for of_network in z], axis=0).argmax(1)


def passed_on(student: np.ndarray, teachers: np.ndarray, true: np.ndarray) -> float | None:
    """Return the share of the teachers' errors on which the student gives the same wrong class; None without errors.

    Args:
        student: The classes that the student predicts.
        teachers: The answers of its teachers.
        true: The true labels.
    """
    errors = teachers != true
    return float((student[errors] == teachers[errors]).mean()) if errors.any() else None


def memorised(student: np.ndarray, labels: np.ndarray, true: np.ndarray) -> float | None:
    """Return the share of the wrong labels that the student predicts; None without wrong labels.

    Args:
        student: The classes that the student predicts.
        labels: The labels from which it learnt.
        true: The true labels.
    """
    wrong = labels != true
    return float((student[wrong] == labels[wrong]).mean()) if wrong.any() else None


def describe(
    student: np.ndarray, teachers: np.ndarray | None, labels: np.ndarray, true: np.ndarray
) -> dict[str, float | int | None]:
    """Return the entry `training` of a seed in results/eval/METHOD.json (pipeline.evaluation.records.TrainingErrors).

    Args:
        student: The classes that the student predicts.
        teachers: The answers of its teachers, or None if it has none.
        labels: The labels from which it learnt.
        true: The true labels.
    """
    return {
        "images": len(true),
        "wrong_labels": float((labels != true).mean()),
        "memorised": memorised(student, labels, true),
        "teacher_errors": None if teachers is None else float((teachers != true).mean()),
        "passed_on": None if teachers is None else passed_on(student, teachers, true),
    }
