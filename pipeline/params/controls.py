"""Rules about the loss weights of methods, and about the controls that methods name."""

from collections.abc import Collection, Iterator
from typing import Any

from pipeline.params.messages import hint, shown
from pipeline.params.schema import FIXED

WEIGHTED = ("kd", "takd", "dgkd", "multiteacher", "orc")  # kinds whose loss weights a control can have
NO_LOSS = "because nothing would be learnt from a loss of 0"


def controlled(values: dict[str, Any], sections: Collection[str]) -> Iterator[str]:
    """Methods that are their own control, or name one twice, and controls with weights that they cannot have.

    A control that is left out is no mistake: the report has no such row.
    sections: the names of all sections of the file, those of entries that are left out included.
    """
    for name, entry in values["methods"].items():
        if name in entry.controls:
            yield f"methods.{name}.against: must be another entry of methods"
        if len(set(entry.controls)) < len(entry.controls):
            yield f"methods.{name}.against: must name each control once, got {shown(entry.against)}"
        yield from weights_of(name, entry, values, sections)


def weights_of(name: str, entry: Any, values: dict[str, Any], sections: Collection[str]) -> Iterator[str]:
    """A control with loss weights that it cannot have. The section of an entry that is left out may remain."""
    of, where = entry.weights_of, f"methods.{name}.weights_of"
    if of is None:
        return
    if of == name:
        yield f"{where}: must be another entry of methods"
    elif not entry.control:
        yield f"{where}: requires methods.{name}.control to be true"
    elif method := values["methods"].get(of):
        if entry.is_ not in ("kd", "multiteacher") and entry.is_ != method.is_:
            yield f"{where}: requires {of} to be of the same kind, {entry.is_}, got {method.is_}"
        elif method.is_ not in WEIGHTED:
            yield f"{where}: must name one of the kinds {', '.join(WEIGHTED)}, got {method.is_}"
    elif of in FIXED:
        yield f"{where}: {of} is not the section of a method"
    elif of not in sections:
        yield f"{where}: there is no section {shown(of)}{hint(of, values['methods'])}"


def weightless(values: dict[str, Any]) -> Iterator[str]:
    """Methods whose loss is constant, because all of its weights are 0."""
    for name, entry in values["methods"].items():
        section = values[name]
        if entry.is_ == "scratch" and section.ce_weight == 0:
            yield f"{name}.ce_weight: must be greater than 0, {NO_LOSS}"
        if entry.is_ in ("kd", "multiteacher") and section.ce_weight == section.kd_weight == 0:
            yield f"{name}.ce_weight: must be greater than 0 if {name}.kd_weight is 0, {NO_LOSS}"
