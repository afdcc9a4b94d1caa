"""A student as a folder that timm loads: model.safetensors and config.json, as on the Hugging Face Hub.

The module knows timm's configuration format, but neither the method that trained the student nor its accuracy.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from pipeline.data.class_names import write_class_names
from pipeline.data.prepared import Meta
from pipeline.models.names import ZOO
from pipeline.storage.bundle import Record
from pipeline.storage.documents import write_plain_json

STREAMED_CROP = 0.875  # the crop_pct with which streamed images are tested


def write_folder(folder: Path, module: nn.Module, record: Record, meta: Meta, classes: list[str]) -> None:
    """Write model.safetensors, config.json and classes.txt.

    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads the folder. If the architecture is one of our own
    zoo, ``import pipeline.models.zoo`` has to come first, because the import registers it with timm.

    Args:
        folder: An existing folder.
        module: The student.
        record: The student's entry in networks.json.
        meta: The description of the data that it was trained on.
        classes: The class names, in the order of the logits.
    """
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / "model.safetensors")
    write_plain_json(folder / "config.json", config(record, meta, classes))
    write_class_names(folder / "classes.txt", classes)


def config(record: Record, meta: Meta, classes: list[str]) -> dict[str, Any]:
    """Return the content of config.json: the architecture, the classes and the preprocessing, in timm's format."""
    height, width = meta.image_size
    model_args: dict[str, Any] = {"in_chans": meta.in_chans}
    fixed_size = accepts_image_size(record)
    if fixed_size:
        model_args["img_size"] = [height, width]
    return {
        "architecture": record.arch,
        "num_classes": meta.num_classes,
        "model_args": model_args,
        "pretrained_cfg": {
            "num_classes": meta.num_classes,
            "input_size": [meta.in_chans, height, width],
            "fixed_input_size": fixed_size,
            "interpolation": "bilinear",
            "crop_pct": 1.0 if meta.root is None else STREAMED_CROP,
            "crop_mode": "center",
            "mean": meta.mean,
            "std": meta.std,
            "label_names": classes,
        },
    }


def accepts_image_size(record: Record) -> bool:
    """Return whether the architecture takes ``img_size``, as all of our zoo and timm's vision transformers do."""
    if record.arch in ZOO:
        return True
    from timm.models import model_entrypoint

    try:
        model_entrypoint(record.arch)(img_size=record.image_size)
    except TypeError:
        return False
    return True


def make_readable(folder: Path) -> None:
    """Let everyone read a folder and its files, and only their owner write them; safetensors hides its file."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
