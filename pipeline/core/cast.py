"""Who takes part in a run: the method by its file's name, and the networks that it starts from."""

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.core.bundle import Bundle
from pipeline.core.vocabulary import Method, Network


def method_of(kind: str, section: Any) -> Method:
    """The METHOD of pipeline/methods/KIND.py, with its parameters from a section of params.yaml."""
    cls = import_module(f"pipeline.methods.{kind}").METHOD
    return cls(**{field.name: plain(getattr(section, field.name)) for field in fields(cls)})


def plain(value: Any) -> Any:
    """A nested section as the mapping that it is."""
    return value.model_dump() if hasattr(value, "model_dump") else value


def bundle_of(after: str, seed: int) -> Path | None:
    """The bundle that a run starts from; None for a run from nothing. Members are trained for every seed."""
    path = Path(after)
    if path.parts[0] == "data":
        return None
    return path / f"seed-{seed}" if path == Path("models/members") else path


def start_of(bundle: Path | None) -> dict[str, Network]:
    """The networks of a bundle, by name; none for a run from nothing."""
    return Bundle.read(bundle).start() if bundle else {}
