"""A student as a folder that timm loads: model.safetensors and config.json in timm's own form."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from pipeline.core.bundle import Record
from pipeline.data.prepared import Meta

STREAMED_CROP = 0.875  # of the shorter side, what a streamed set is tested on


def write_folder(folder: Path, module: nn.Module, record: Record, meta: Meta, classes: list[str]) -> None:
    """Write model.safetensors, config.json and classes.txt.

    `timm.create_model("local-dir:FOLDER", pretrained=True)` loads it; a network of the zoo needs
    `import pipeline.models.zoo` before.
    """
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(record, meta, classes), indent=2) + "\n")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), "utf-8")


def config(record: Record, meta: Meta, classes: list[str]) -> dict[str, Any]:
    """config.json: architecture, classes, and how an image becomes an input."""
    height, width = meta.image_size
    model_args: dict[str, Any] = {"in_chans": meta.in_chans}
    told = takes_image_size(record)
    if told:
        model_args["img_size"] = [height, width]
    return {
        "architecture": record.arch,
        "num_classes": meta.num_classes,
        "model_args": model_args,
        "pretrained_cfg": {
            "num_classes": meta.num_classes,
            "input_size": [meta.in_chans, height, width],
            "fixed_input_size": told,
            "interpolation": "bilinear",
            "crop_pct": 1.0 if meta.root is None else STREAMED_CROP,
            "crop_mode": "center",
            "mean": meta.mean,
            "std": meta.std,
            "label_names": classes,
        },
    }


def takes_image_size(record: Record) -> bool:
    """Whether the network is told its image size: the zoo's are, and those of timm that must know it."""
    from pipeline.models.names import ZOO

    if record.arch in ZOO:
        return True
    from timm.models import model_entrypoint

    try:
        model_entrypoint(record.arch)(img_size=record.image_size)
    except TypeError:
        return False
    return True
