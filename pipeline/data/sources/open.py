"""Which source is meant."""

from pathlib import Path
from typing import Any

from pipeline.data.source import Source


def open_source(data: Any, workers: int = 0) -> Source:
    """The source that section `data` of params.yaml names. workers: threads that decode images."""
    root = Path(data.root)
    if data.source == "digits":
        from pipeline.data.sources.digits import Digits

        return Digits()
    if data.source == "folder":
        from pipeline.data.sources.folder import Folder

        return Folder(root, on_error=data.on_error, workers=workers)
    if data.source == "parquet":
        from pipeline.data.sources.parquet import Parquet

        return Parquet(
            root,
            on_error=data.on_error,
            workers=workers,
            image_column=data.image_column,
            label_column=data.label_column,
        )
    from pipeline.data.sources.vision import Vision

    return Vision(data.source, root)
