"""The model card: what the exported student is, how good, what it cost, and how to make it again."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.data.prepared import Prepared
from pipeline.evaluation.statistics import spread
from pipeline.export.choice import Chosen
from pipeline.export.folder import STREAMED_CROP
from pipeline.models.names import ZOO

TEMPLATES = Environment(loader=PackageLoader("pipeline.export", "."), undefined=StrictUndefined, autoescape=False)


def card(folder: Path, chosen: Chosen, data: Prepared, results: dict[str, Any], gap: float) -> str:
    """README.md of the export. results: the parsed files of eval and cost."""
    meta, cost = data.meta, results["cost"]
    own = results["eval"]["seeds"][str(chosen.seed)]
    student = results["eval"]["student"]
    top1 = own["networks"][student][chosen.weights]["top1"]
    everyone = [seed["networks"][student][chosen.weights]["top1"] for seed in results["eval"]["seeds"].values()]
    interval = spread([top1], meta.counts["test"])
    network = cost["networks"][student]
    height, width = meta.image_size
    return TEMPLATES.get_template("card.md.j2").render(
        arch=chosen.record.arch,
        method=chosen.method,
        guides=sorted(own.get("guides", {})),
        parameters=network["parameters"],
        macs=network["macs"],
        latency=network["latency_ms"],
        source=meta.source,
        counts=meta.counts,
        shape=f"{width}x{height}x{meta.in_chans}",
        num_classes=meta.num_classes,
        top1=f"{top1:.2f}",
        low=f"{interval.low:.1f}",
        high=f"{interval.high:.1f}",
        over_seeds=over_seeds(everyone, meta.counts["test"]),
        seconds=f"{cost['seeds'][str(chosen.seed)]['seconds']:.1f}",
        equivalents=cost["seeds"][str(chosen.seed)]["forward_equivalents_per_step"],
        device=cost["environment"]["device"],
        threads=cost["environment"]["threads"],
        weights=chosen.weights,
        seed=chosen.seed,
        zoo=chosen.record.arch in ZOO,
        folder=folder.as_posix(),
        in_chans=meta.in_chans,
        height=height,
        width=width,
        mean=meta.mean,
        std=meta.std,
        crop=1 if meta.root is None else STREAMED_CROP,
        gap=f"{gap:.0e}",
        settings=json.dumps(cost["parameters"], indent=2, default=str),
    )


def over_seeds(top1: list[float], n_images: int) -> str:
    s = spread(top1, n_images)
    return f"{s.mean:.2f} %, n=1 seed" if s.sd is None else f"{s.mean:.2f} ± {s.sd:.2f} %, n={s.n} seeds"
