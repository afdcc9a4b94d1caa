"""Open the source of images that params.yaml selects."""

from pathlib import Path
from typing import Any

from pipeline.data.source import Defaults, Source


def open_source(data: Any, workers: int = 0) -> Source:
    """Open the source that `data.source` names.

    data: section `data` of params.yaml.  workers: decoding threads; 0: none.
    Raises DataError if the data are missing or malformed.
    """
    root = Path(data.root)
    if data.source == "digits":
        from pipeline.data.sources.digits import Digits

        return Digits()
    if data.source in ("breast_cancer", "wine"):
        from pipeline.data.sources.table import packaged

        return packaged(data.source)
    if data.source == "table":
        from pipeline.data.sources.table import read_folder

        return read_folder(root, data.label_column)
    storage = data.storage or ("stream" if data.source == "imagenet" else "memory")
    if data.source == "imagenet" or storage == "stream":
        from pipeline.data.sources.streamed import Streamed

        if data.source == "imagenet":
            defaults = Defaults(image_size=224, validation=0.02)
            source = Streamed(root, defaults, workers=workers, labelled_test="validation")
        else:
            source = Streamed(root, Defaults(), workers=workers)
        if storage == "memory":
            source.manifest = None
        return source
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
