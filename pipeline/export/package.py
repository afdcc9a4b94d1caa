"""The folder of an export: weights for timm, ONNX models with their measurements, a script and a model card."""

import shutil
from pathlib import Path
from typing import Any

from pipeline.data.prepared import Prepared
from pipeline.export.card import OnnxModels, card
from pipeline.export.folder import make_readable, write_folder
from pipeline.export.int8 import write_int8
from pipeline.export.measure import measure
from pipeline.export.onnx import verify, write_onnx
from pipeline.export.selection import SelectedStudent, calibration_images, pixel_batches, reference_outputs
from pipeline.storage.digests import write_digests

SCRIPT = Path(__file__).with_name("predict_script.py")


def write_package(
    folder: Path,
    name: Path,
    selected: SelectedStudent,
    data: Prepared,
    results: dict[str, Any],
    parameters: dict[str, Any],
) -> str:
    """Write all files of an export.

    Args:
        folder: An existing folder.
        name: The folder as users will name it.
        selected: The student.
        data: The data that it was trained and tested on.
        results: The parsed files of the student's method: "eval" (results/eval) and "cost" (results/cost).
        parameters: Sections of params.yaml beside those that "cost" names, by dotted key.

    Returns:
        What was written, in two lines.

    Raises:
        UserError: If model.onnx does not compute what PyTorch does.
    """
    plain, int8 = folder / "model.onnx", folder / "model.int8.onnx"
    write_folder(folder, selected.module, selected.record, data.meta, data.classes)
    write_onnx(plain, selected.module, data.meta.mean, data.meta.std, data.meta.image_size)
    gap = verify(plain, reference_outputs(selected.module, data))
    reason = write_int8(int8, plain, calibration_images(data))
    files = [plain] if reason else [plain, int8]
    models = OnnxModels(gap, measure(files, pixel_batches(data), data.labels("test")), reason)
    shutil.copyfile(SCRIPT, folder / "predict.py")
    (folder / "README.md").write_text(card(name, selected, data, results, models, parameters), "utf-8")
    write_digests(folder, ("config.json", "classes.txt", "model.onnx"))  # what `stages.predict` reads
    make_readable(folder)
    return summary(name, selected, models)


def summary(name: Path, selected: SelectedStudent, models: OnnxModels) -> str:
    """Return what was exported, in two lines.

    Args:
        name: The folder as users name it.
        selected: The student.
        models: Its ONNX models.
    """
    student = f"{selected.record.arch} ({selected.method}, seed {selected.seed})"
    parts = [
        f"{file}: test top-1 {m.top1:.2f} %, {m.size / 1000:,.1f} kB, {m.latency:.3f} ms"
        for file, m in models.measured.items()
    ]
    if models.no_int8 is not None:
        parts.append(f"no model.int8.onnx: {models.no_int8}")
    return f"exported {student} to {name}; ONNX logits within {models.gap:.1e} of PyTorch\n{'; '.join(parts)}"
