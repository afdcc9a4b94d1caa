"""Rules about the section `data`: settings that its source does not have, and files that it names."""

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pipeline.params.messages import shown

COLUMNS = {"image_column": ("parquet",), "label_column": ("parquet", "table")}  # key -> the sources that read it


def sources(values: dict[str, Any], *, files: bool) -> Iterator[str]:
    """Mistakes in the section `data`.  files: whether the files that it names must exist."""
    yield from columns(values)
    yield from streaming(values)
    yield from noise(values, files=files)


def columns(values: dict[str, Any]) -> Iterator[str]:
    """Names of columns that the source does not read."""
    data = values["data"]
    for key, readers in COLUMNS.items():
        if getattr(data, key) is not None and data.source not in readers:
            yield f"data.{key}: must be auto unless data.source is {' or '.join(readers)}, got {data.source}"


def streaming(values: dict[str, Any]) -> Iterator[str]:
    """Settings that streamed images do not support."""
    data, train = values["data"], values["train"]
    if data.storage == "stream" and data.source not in ("folder", "imagenet"):
        yield f"data.storage: stream requires data.source to be folder or imagenet, got {data.source}"
    if data.storage == "stream" and data.source == "folder" and data.image_size is None:
        yield "data.image_size: required for a streamed folder, got auto"
    streams = data.storage == "stream" or (data.source == "imagenet" and data.storage is None)
    if streams and train.pad is not None:
        yield f"train.pad: must be auto for streamed images, which get a crop of random size, got {train.pad}"
    has_manifest = data.source == "imagenet" or (data.source == "folder" and data.storage == "stream")
    if has_manifest and data.on_error == "skip":
        yield (
            "data.on_error: must be fail for images that a manifest lists; "
            "`python -m stages.manifest --skip` leaves out those that are unreadable"
        )


def noise(values: dict[str, Any], *, files: bool) -> Iterator[str]:
    """A confusion file on which the pipeline would not depend, or that does not exist."""
    data = values["data"]
    if not isinstance(data.label_noise, str):
        return
    path = PurePosixPath(data.label_noise)
    if path.is_absolute() or ".." in path.parts:
        yield (
            "data.label_noise: must be a path relative to data.root that stays below it, because the pipeline depends "
            f"on that folder, got {shown(data.label_noise)}"
        )
    elif files and not os.path.isfile(file := os.path.join(data.root, path)):
        yield f"data.label_noise: the file {shown(file)} does not exist; write a path relative to data.root"
