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
from pipeline.training.stage import Participants


def distillation(name: str, kind: str, section: Any, *, student: str, after: str, bundle: Path | None) -> Participants:
    """What a seed of an entry of `methods` trains.

    name: of the entry.  kind: its file in pipeline/methods.  section: its parameters.  student: the architecture.
    after: where the entry starts from.  bundle: the networks there that the seed starts from, or None.
    """
    method, start = create_method(kind, section), initial_networks(bundle)
    networks = method.networks(student, start)
    trained = "student" if "student" in networks else None
    if trained:  # data.teacher_share limits teacher and assistants only; members of a group keep their own images
        networks = learning_from(networks, None)
    used = {network.weights for network in networks.values() if network.weights}
    about = {
        "method": name,
        "is": kind,
        "student": trained,
        "members": [] if trained else [key for key, network in networks.items() if network.learns],
        "guides": [key for key, network in networks.items() if not network.learns],
        "teachers": [key for key, network in start.items() if network.weights in used] if trained else [],
        "after": after if bundle else None,
    }
    return Participants(method, networks, about, student_arch=student)


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
            options=record.options,
            copies=record.copies,
        )
        for name, record in read.networks.items()
    }


def learning_from(networks: Mapping[str, Network], rows: np.ndarray | None) -> dict[str, Network]:
    """The networks of a run, of which those that learn do so on these training images.

    rows: [N], ascending; None: all images, also for a network that was trained on some of them before (ORC's pivot).
    """
    return {name: replace(network, sees=rows) if network.learns else network for name, network in networks.items()}
