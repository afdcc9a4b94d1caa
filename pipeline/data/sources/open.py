"""Which source is meant."""

from typing import Any

from pipeline.data.source import Source


def open_source(data: Any) -> Source:
    """The source that section `data` of params.yaml names."""
    from pipeline.data.sources.digits import Digits

    return Digits()
