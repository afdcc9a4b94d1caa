"""Accuracy, size and latency of ONNX models, measured side by side in ONNX Runtime on one thread.

The module knows arrays and ONNX models, but neither the data set nor how the student was trained.
"""

import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from pipeline.evaluation.statistics import proportion_interval
from pipeline.export.session import open_session

WARM_UPS = 5
RUNS = 50  # at least, of each model
SECONDS = 0.5  # at least, of all runs together


@dataclass(frozen=True)
class Measured:
    """A model as an engineer chooses it.

    Attributes:
        top1: Accuracy on the test split, in percent.
        low: Lower end of its 95 % confidence interval, in percent.
        high: Upper end of that interval, in percent.
        size: Size of the file in bytes.
        latency: Median time for one image, in milliseconds.
        classes: The predicted class of each test image, [N] int64.
    """

    top1: float
    low: float
    high: float
    size: int
    latency: float
    classes: np.ndarray


def measure(files: list[Path], batches: Iterable[np.ndarray], labels: np.ndarray) -> dict[str, Measured]:
    """Measure models on a test split.

    Args:
        files: The models, which map `image` to `logits`.
        batches: Pixels in [0, 1], [B, C_in, H, W] float32, of all images.
        labels: The classes of the images, [N] int64.

    Returns:
        Maps the name of each file to its measurements.
    """
    sessions = [open_session(file) for file in files]
    answers: list[list[np.ndarray]] = [[] for _ in files]
    image = np.empty(0)
    for batch in batches:
        image = batch[:1].copy()  # a view would keep the batch in memory
        for session, own in zip(sessions, answers):
            own.append(session.run(None, {"image": batch})[0].argmax(1))
    found = {}
    for file, own, latency in zip(files, answers, latencies(sessions, image)):
        classes = np.concatenate(own)
        top1 = 100 * float((classes == labels).mean())
        low, high = proportion_interval(top1, len(labels))
        found[file.name] = Measured(top1, low, high, file.stat().st_size, latency, classes)
    return found


def latencies(sessions: list, image: np.ndarray) -> list[float]:
    """Return the median latency of each model for one image, in milliseconds.

    The models take turns, so that a change of the processor's speed or load affects all of them.

    Args:
        sessions: The models' sessions on one thread.
        image: One image, [1, C_in, H, W].
    """
    times: list[list[float]] = [[] for _ in sessions]
    rounds, began = 0, time.perf_counter()
    while rounds < WARM_UPS + RUNS or time.perf_counter() - began < SECONDS:
        for session, own in zip(sessions, times):
            start = time.perf_counter()
            session.run(None, {"image": image})
            own.append(time.perf_counter() - start)
        rounds += 1
    return [1000 * median(own[WARM_UPS:]) for own in times]


def processor() -> str:
    """Return the name of this machine's processor, as Linux knows it; else of its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def size_text(size: int) -> str:
    """Return a size in bytes as text: "5,258 bytes (5.3 kB)"."""
    return f"{size:,} bytes ({size / 1000:,.1f} kB)"


def verdict(plain: Measured, int8: Measured) -> str:
    """Return a sentence that compares the quantized model with the plain one, whichever is better.

    Args:
        plain: The model in float32.
        int8: The quantized model.
    """
    n = len(plain.classes)
    more = round((int8.top1 - plain.top1) / 100 * n)
    accuracy = f"{abs(more)} {'more' if more > 0 else 'fewer'}" if more else "as many"
    same = int((plain.classes == int8.classes).sum())
    latency = ratio(plain.latency / int8.latency, "faster", "slower", "as fast")
    size = ratio(plain.size / int8.size, "smaller", "larger", "as large")
    return (
        f"Compared with `model.onnx`, `model.int8.onnx` classifies {accuracy} of the {n} test images correctly, "
        f"is {latency} and its file is {size}; the two predict the same class for {same} images."
    )


def ratio(factor: float, gain: str, loss: str, equal: str) -> str:
    """Return a ratio in words, such as "1.4 times slower".

    Args:
        factor: How many times better.
        gain: The comparative if it exceeds 1.
        loss: The comparative if it is below 1.
        equal: The words if it rounds to 1.0.
    """
    rounded = f"{max(factor, 1 / factor):.1f}"
    if rounded == "1.0":
        return equal
    return f"{rounded} times {gain if factor > 1 else loss}"
