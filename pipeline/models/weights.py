"""Weights in files: read without executing anything, and loaded only if every tensor fits.

A file may come from anywhere, so it is not trusted: PyTorch files are read with `weights_only`, and a tensor that a
network could not compute with is refused.
"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import DataError, first_line
from pipeline.models.names import ZOO
from pipeline.models.published import is_counter, match, note, shown

WRAPPERS = ("state_dict", "model", "module", "model_state_dict")  # keys under which files store a state dict
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def load_weights(network: nn.Module, file: Path, arch: str, *, new_head: bool = False) -> str | None:
    """Load the weights in `file` into `network`.

    arch: what messages call the network.  new_head: a head for another number of classes keeps its initial weights.

    Every name and every shape must match, so that no weight silently keeps its random initial value. All numbers must
    be finite. Only for the networks of the zoo, names may be those of another code base, if the file lists the same
    layers in the same order: `pipeline.models.published.match` says what is compared and what cannot be.

    Returns None if all names match, otherwise one line that tells the user how the tensors were mapped, or that the
    head is new. Raises DataError if the file does not fit.
    """
    loaded, expected = read_weights(file), network.state_dict()
    head = other_head(network, loaded) if new_head else {}
    loaded |= head
    for name, value in expected.items():
        if name in loaded:
            check_tensor(f"{file}: {name}", loaded[name], value, arch)
    said = f"{file}: its head is for other classes and is replaced by a new one, which is trained" if head else None
    if loaded.keys() != expected.keys():
        names = foreign_names(file, loaded, expected, arch)
        for ours, theirs in names.items():
            check_tensor(f"{file}: {shown(theirs)}", loaded[theirs], expected[ours], arch)
        said = note(file, names, expected)
        # a name without a counterpart can only be a counter of batches, whose value is 0 before any training
        loaded = {k: loaded[names[k]] if k in names else torch.zeros_like(v) for k, v in expected.items()}
    network.load_state_dict(loaded)
    return said


def other_head(network: nn.Module, loaded: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's own tensors of its head, if those of a file are for another number of classes; else nothing.

    The head is the network's last linear layer.
    """
    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        return {}
    name, module = linear[-1]
    own = {f"{name}.{key}": value for key, value in module.state_dict().items()}
    found = {key: loaded[key].shape for key in own if key in loaded}
    fits = found.keys() == own.keys() and all(found[key][1:] == value.shape[1:] for key, value in own.items())
    return own if fits and any(found[key] != value.shape for key, value in own.items()) else {}


def foreign_names(file: Path, loaded: dict[str, Tensor], expected: dict[str, Tensor], arch: str) -> dict[str, str]:
    """Map the names in a network's state dict to those in a file with other names. Arguments as in `match`.

    Raises DataError if the file clearly holds another network, or if a tensor does not fit.
    """
    missing = [name for name in expected if name not in loaded]
    unexpected = [shown(name) for name in loaded if name not in expected]
    message = (
        f"{file} does not hold the weights of {arch}: "
        f"{len(missing)} tensors are missing ({', '.join(missing[:3]) or '-'}), "
        f"{len(unexpected)} are unexpected ({', '.join(unexpected[:3]) or '-'})"
    )
    if arch not in ZOO or sum(not is_counter(k) for k in loaded) != sum(not is_counter(k) for k in expected):
        raise DataError(message)
    if file.suffix == ".safetensors":
        raise DataError(
            f"{message}. Names of another code base need a torch file: safetensors keeps no order of layers"
        )
    for name, value in loaded.items():
        check_dense(f"{file}: {shown(name)}", value)
    return match(file, loaded, expected, arch)


def check_tensor(where: str, found: Tensor, expected: Tensor, arch: str) -> None:
    """Raise DataError, which begins with `where`, unless a tensor can take the place of another."""
    check_dense(where, found)
    if found.shape != expected.shape:
        raise DataError(f"{where} has shape {tuple(found.shape)}, but {arch} needs {tuple(expected.shape)}")
    fits = found.dtype in FLOATS if expected.is_floating_point() else found.dtype == expected.dtype
    if not fits:
        raise DataError(f"{where} has type {found.dtype}, but {arch} needs {expected.dtype}")
    if expected.is_floating_point() and not bool(torch.isfinite(found.to(expected.dtype)).all()):
        raise DataError(f"{where} holds numbers that are not finite")


def check_dense(where: str, found: Tensor) -> None:
    """Raise DataError, which begins with `where`, unless a tensor is dense. Others may have no shape."""
    if found.layout != torch.strided or found.is_meta or found.is_quantized or found.is_nested:
        raise DataError(f"{where} is a sparse, quantised, nested or empty (meta) tensor: a dense one is needed")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the state dict in a safetensors or PyTorch file.

    A state dict nested under one of `WRAPPERS` is unwrapped, and DDP's prefix `module.` is removed from the names.
    Raises DataError if the file is missing, unreadable or holds anything but tensors by name.
    """
    if not file.is_file():
        raise DataError(f"the file of weights {file} does not exist")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            with torch.serialization.safe_globals([Namespace]):  # RepDistiller stores its options beside the weights
                state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{file} cannot be read as weights: {first_line(error)}") from None
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise DataError(f"{file} does not hold a state dict: expected a mapping from names to tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
