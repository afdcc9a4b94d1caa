"""onnxruntime, on one thread."""

from pathlib import Path
from typing import Any

from pipeline.errors import DataError


def open_session(file: Path) -> Any:
    """Raises DataError where the file is no ONNX model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each way in which a file is bad
        raise DataError(f"{file} is no ONNX model: {str(error).splitlines()[0][:200]}") from None
