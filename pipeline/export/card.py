"""The model card of an exported student: README.md with its accuracy, cost, usage and parameters.

The module formats numbers that `evaluate`, `distill` and pipeline.export.measure found. It measures nothing itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.data.prepared import Prepared
from pipeline.evaluation.statistics import estimate, proportion_interval
from pipeline.export.folder import STREAMED_CROP
from pipeline.export.measure import Measured, processor, size_text, verdict
from pipeline.export.reproduce import as_yaml, sections
from pipeline.export.selection import SelectedStudent
from pipeline.models.names import ZOO

TEMPLATES = Environment(loader=PackageLoader("pipeline.export", "."), undefined=StrictUndefined, autoescape=False)


@dataclass(frozen=True)
class OnnxModels:
    """The ONNX models of an export.

    Attributes:
        gap: The largest difference between a logit of model.onnx and of PyTorch.
        measured: The measurements of model.onnx and, if it exists, of model.int8.onnx.
        no_int8: Why there is no model.int8.onnx, or None if there is one.
    """

    gap: float
    measured: dict[str, Measured]
    no_int8: str | None


def card(
    folder: Path,
    selected: SelectedStudent,
    data: Prepared,
    results: dict[str, Any],
    models: OnnxModels,
    parameters: dict[str, Any],
) -> str:
    """Return the model card as Markdown.

    Args:
        folder: The folder of the export, as users will name it.
        selected: The exported student.
        data: The data that it was trained and tested on.
        results: The parsed files of the student's method: "eval" (results/eval) and "cost" (results/cost).
        models: The ONNX models.
        parameters: Sections of params.yaml beside those that "cost" names, by dotted key.
    """
    meta, cost = data.meta, results["cost"]
    tested = results["eval"]["seeds"][str(selected.seed)]
    student = results["eval"]["student"]
    top1 = tested["networks"][student][selected.weights]["top1"]
    all_top1 = [seed["networks"][student][selected.weights]["top1"] for seed in results["eval"]["seeds"].values()]
    low, high = proportion_interval(top1, meta.counts["test"])
    network = cost["networks"][student]
    starts = cost["parameters"].get(f"methods.{selected.method}.after", "").split("/")
    height, width = meta.image_size
    return TEMPLATES.get_template("card.md.j2").render(
        arch=selected.record.arch,
        method=selected.method,
        guides=sorted(tested.get("guides", {})),
        chain=next((chain for chain in ("takd", "dgkd") if chain in starts), None),
        guide_archs={name: guide["arch"] for name, guide in sorted(tested.get("guides", {}).items())},
        parameters=network["parameters"],
        macs=network["macs"],
        models=models.measured,
        size_text=size_text,
        verdict=verdict,
        no_int8=models.no_int8,
        processor=processor(),
        source=meta.source,
        counts=meta.counts,
        shape=f"{width}x{height}x{meta.in_chans}",
        num_classes=meta.num_classes,
        top1=f"{top1:.2f}",
        low=f"{low:.1f}",
        high=f"{high:.1f}",
        all_seeds=format_seeds(all_top1, meta.counts["test"]),
        seconds=f"{cost['seeds'][str(selected.seed)]['seconds']:.1f}",
        equivalents=cost["seeds"][str(selected.seed)]["forward_equivalents"],
        device=cost["environment"]["device"],
        threads=cost["environment"]["threads"],
        weights={"last": "after the last epoch", "best": "of the best epoch on validation"}[selected.weights],
        seed=selected.seed,
        zoo=selected.record.arch in ZOO,
        folder=folder.as_posix(),
        in_chans=meta.in_chans,
        height=height,
        width=width,
        mean=meta.mean,
        std=meta.std,
        crop=1 if meta.root is None else STREAMED_CROP,
        gap=f"{models.gap:.0e}",
        settings=as_yaml(sections({**parameters, **cost["parameters"]})),
    )


def format_seeds(top1: list[float], n_images: int) -> str:
    """Return the accuracy over all seeds (percent) as "mean ± sd", or without sd for a single seed."""
    accuracy = estimate(top1, proportion_interval(top1[0], n_images))
    if accuracy.sd is None:
        return f"{accuracy.mean:.2f} %, n=1 seed"
    return f"{accuracy.mean:.2f} ± {accuracy.sd:.2f} %, n={accuracy.n} seeds"
