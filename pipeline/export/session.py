"""ONNX Runtime sessions on one CPU thread.

The module knows nothing about the model that it opens.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import DataError


def open_session(file: Path) -> Any:
    """Return an onnxruntime.InferenceSession for an ONNX model.

    Raises:
        DataError: If ONNX Runtime cannot load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions for an invalid file share no base class below Exception
        raise DataError(f"{file} is not a valid ONNX model: {str(error).splitlines()[0][:200]}") from None
