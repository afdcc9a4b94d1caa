"""An ONNX model with weights and activations of 8 bits, by ONNX Runtime's static quantization.

The module knows arrays and ONNX models, but neither the data set nor how the student was trained.
"""

import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import first_line, is_disk_full
from pipeline.export.onnx import strip_metadata
from pipeline.export.session import open_session

BATCH_SIZE = 32
FOLDERS = re.compile(r"(?<![\w.])(/[\w.-]+)+/")  # of a path of this machine, which is no reason


def write_int8(file: Path, source: Path, images: np.ndarray) -> str | None:
    """Quantize an ONNX model, if ONNX Runtime can.

    The weights are quantized per channel. The ranges of the activations are those on the given images. On one
    machine, the same model and images give the same file.

    Args:
        file: The file to write. It is absent afterwards if the model cannot be quantized.
        source: The model, which maps `image` to `logits`.
        images: Pixels in [0, 1], [N, C_in, H, W] float32, to calibrate with.

    Returns:
        None, or the reason in one line why the model cannot be quantized.

    Raises:
        OSError: If the disk is full.
        MemoryError: If memory is.
    """
    try:
        with tempfile.TemporaryDirectory() as place, silence():
            quantize(file, prepared(source, Path(place)), images)
            strip_metadata(file)
            strip_domains(file, source)
            check(file, images[:2])
    except Exception as error:  # the quantizer fails in many ways, and the export is complete without its file
        file.unlink(missing_ok=True)
        if is_disk_full(error) or isinstance(error, MemoryError):
            raise  # no property of the network, so the export must not record it
        return FOLDERS.sub("", first_line(error))
    return None


def prepared(source: Path, place: Path) -> Path:
    """Return the model with its shapes inferred and its constants folded, or as it is if that fails.

    Args:
        source: The model.
        place: A folder for the new file.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(str(source), str(place / "prepared.onnx"))
    except Exception:  # only an improvement: the quantizer accepts a model without it
        return source
    return place / "prepared.onnx"


def quantize(file: Path, source: Path, images: np.ndarray) -> None:
    """Write the quantized model.

    Args:
        file: The file to write.
        source: The model.
        images: The images to calibrate with.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    class Images(quantization.CalibrationDataReader):
        """Hands the images to the calibration in batches."""

        def __init__(self) -> None:
            self.batches = (images[k : k + BATCH_SIZE] for k in range(0, len(images), BATCH_SIZE))

        def get_next(self) -> Any:
            """Return the inputs of the next batch, or None after the last."""
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    quantization.quantize_static(
        str(source),
        str(file),
        Images(),
        quant_format=quantization.QuantFormat.QDQ,
        # the quantizer's own default, whose order would change from process to process
        op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        reduce_range=True,  # 7 bits: sums of products of 8 bits saturate on x86 processors without VNNI
    )


def strip_domains(file: Path, source: Path) -> None:
    """Remove the domains of operators that the optimizer imports and no node uses; other runtimes do not know them.

    Args:
        file: The quantized model.
        source: The model that was quantized.
    """
    import onnx

    model = onnx.load(file)
    used = {entry.domain for entry in onnx.load(source).opset_import} | {node.domain for node in model.graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(entry)
    onnx.save(model, file)


def check(file: Path, images: np.ndarray) -> None:
    """Check that a model is quantized and returns finite logits.

    Args:
        file: The model.
        images: A few images.

    Raises:
        ValueError: If it is not quantized, or does not return finite logits.
        DataError: If ONNX Runtime cannot load it.
    """
    import onnx

    if not any(node.op_type == "QuantizeLinear" for node in onnx.load(file).graph.node):
        raise ValueError("it has no layer that can be quantized")
    (logits,) = open_session(file).run(None, {"image": images})
    if not np.isfinite(logits).all():
        raise ValueError("the quantized model does not return finite logits")


@contextmanager
def silence() -> Iterator[None]:
    """Keep the quantizer from printing: it logs to the root logger, warns, and ONNX Runtime writes to the terminal."""
    import onnxruntime

    root = logging.getLogger()
    handlers, root.handlers = root.handlers, list[logging.Handler]([logging.NullHandler()])
    onnxruntime.set_default_logger_severity(4)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers = handlers
        onnxruntime.set_default_logger_severity(2)  # ONNX Runtime's default
