"""What a stage trains: the method by the name of its file, and the networks that it starts from."""

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.interface import Method, Network
from pipeline.errors import ParamsError
from pipeline.storage.bundle import Bundle


def create_method(kind: str, section: Any) -> Method:
    """The METHOD of pipeline/methods/KIND.py, with the parameters of a section of params.yaml.

    Raises ParamsError if the section's schema and the method's dataclass do not have the same keys: a parameter that
    one of them lacks would be ignored silently. Keys that a stage reads for itself (`Section.stage_keys`) do not count.
    """
    cls = import_module(f"pipeline.methods.{kind}").METHOD
    own = {field.name for field in fields(cls)}
    declared = set(type(section).model_fields) - type(section).stage_keys
    if own != declared:
        unequal = ", ".join(sorted(own ^ declared))
        raise ParamsError(
            f"pipeline/methods/{kind}.py: {cls.__name__} and its section in pipeline/params/schema.py must have the "
            f"same keys; only one of them has: {unequal}"
        )
    return cls(**{name: plain(getattr(section, name)) for name in own})


def plain(value: Any) -> Any:
    """A nested section as a mapping; anything else as it is."""
    return value.model_dump() if hasattr(value, "model_dump") else value


def initial_networks(bundle: Path | None) -> dict[str, Network]:
    """The networks of a bundle by name, with their last weights, or to be trained where they have none."""
    if bundle is None:
        return {}
    read = Bundle.read(bundle)
    return {
        name: Network(
            record.arch,
            weights=read.file(name, "weights") if record.weights else None,
            learns=record.weights is None,
            sees=read.sees(name),
        )
        for name, record in read.networks.items()
    }


def learning_from(networks: Mapping[str, Network], rows: np.ndarray | None) -> dict[str, Network]:
    """The networks of a run, of which those that learn do so on these training images.

    rows: [N], ascending; None: all images, also for a network that was trained on some of them before (ORC's pivot).
    """
    return {name: replace(network, sees=rows) if network.learns else network for name, network in networks.items()}
