"""Weights that were published for other code: their tensors are mapped to those of the zoo by order and shape.

RepDistiller (Tian et al. 2020) and mdistiller (Zhao et al. 2022) name layers differently, but declare them in the order
of the zoo, except where `BRANCHES` says otherwise. `match` describes what is compared, and what cannot be.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from pipeline.errors import DataError
from pipeline.models.names import ZOO

COUNTER = "num_batches_tracked"  # of BatchNorm. Old files lack it. It has no effect while momentum is a number.

# Family -> the order in which the other code declares the branches of a block, where it is not the zoo's
BRANCHES = {"shufflenetv2": ("left", "right")}


def match(file: Path, loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor], arch: str) -> dict[str, str]:
    """Map the names in a network's state dict to those in a file that names its layers differently.

    loaded: the tensors of `file`, in its order, as many as are expected; counters may be absent.  expected: the
    network's state dict.  arch: a key of `ZOO`; no other network is mapped, because only the order of these is known.
    Returns our name -> the name in the file, without the counters that the file lacks.

    Tensor i of the file is tensor i of the network only if

    - both have the same shape and the same last part of their names (weight, bias, running_mean, running_var),
    - the layers agree: tensors share a layer in the file if and only if they share one in the network. Shapes and last
      parts thus make a convolution a convolution, BatchNorm BatchNorm, and a linear layer a linear layer,
    - a name that the network also has is mapped to itself,
    - numbered neighbours (`layer1.0`, `layer1.1`) follow each other in the order of their numbers, as in a file that
      PyTorch wrote, and not one that was sorted or put together otherwise.

    Raises DataError, which names the first tensor on both sides, if one of these fails.

    Limits: the file holds tensors, not the computation. If it lists two layers of equal shape in an order other than
    the zoo's, and their names carry no numbers, they are exchanged without notice. Strides, padding, activations,
    pooling and BatchNorm's epsilon cannot be compared. What was verified are RepDistiller's networks: equal logits,
    except where `note` says otherwise. A network of any other origin has to be evaluated before it is trusted.
    """
    theirs = [name for name in loaded if not is_counter(name)]
    check_numbers(file, theirs, arch)
    modules: dict[str, str] = {}
    ours: Sequence[str] = ()
    failed: int | None = None
    for ours in orders([name for name in expected if not is_counter(name)], ZOO[arch][0]):
        modules, failed = pair(theirs, ours, loaded, expected)
        if failed is None:
            break
    if failed is not None:
        raise refusal(file, loaded, theirs[failed], arch, f"{ours[failed]} of {tuple(expected[ours[failed]].shape)}")
    names = dict(zip(ours, theirs))
    for name in filter(is_counter, loaded):
        counter = f"{modules.get(name.rpartition('.')[0])}.{COUNTER}"
        if counter not in expected:
            raise refusal(file, loaded, name, arch, f"no {COUNTER} in that layer")
        names[counter] = name
    return names


def is_counter(name: str) -> bool:
    """Whether a tensor counts the batches of a BatchNorm layer."""
    return name.rpartition(".")[2] == COUNTER


def orders(names: list[str], family: str) -> list[list[str]]:
    """The orders in which a file may list a network's tensors: the network's own and, if it differs, the published.

    names: of the network, where the first part is the block and the second may be the branch.
    """
    if family not in BRANCHES:
        return [names]
    branches = BRANCHES[family]
    blocks = list(dict.fromkeys(name.split(".")[0] for name in names))

    def place(name: str) -> tuple[int, int]:
        block, part = name.split(".")[:2]
        return blocks.index(block), branches.index(part) if part in branches else -1

    return [names, sorted(names, key=place)]


def pair(
    theirs: Sequence[str], ours: Sequence[str], loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, str], int | None]:
    """Pair the tensors of a file with those of a network, in their orders.

    Returns the layers, by their names in the file, and the index of the first tensor that does not fit, or None.
    """
    modules: dict[str, str] = {}
    back: dict[str, str] = {}
    for i, (their, our) in enumerate(zip(theirs, ours)):
        their_module, _, their_kind = their.rpartition(".")
        our_module, _, our_kind = our.rpartition(".")
        fits = (
            their_kind == our_kind
            and loaded[their].shape == expected[our].shape
            and modules.setdefault(their_module, our_module) == our_module
            and back.setdefault(our_module, their_module) == their_module
            and (their == our or their not in expected)
        )
        if not fits:
            return modules, i
    return modules, None


def check_numbers(file: Path, names: Sequence[str], arch: str) -> None:
    """Raise DataError unless neighbouring layers that differ in a final number come in the order of these numbers."""
    last: dict[tuple[str, str], int] = {}
    for name in names:
        path = ""
        for part in name.split(".")[:-1]:
            number = re.search(r"[0-9]{1,9}\Z", part)
            if number:
                key = path, part[: number.start()]
                if int(number[0]) < last.get(key, 0):
                    raise DataError(
                        f"{file} names its layers differently from {arch}, and {shown(name)} comes after layers with "
                        "higher numbers: they cannot be mapped by order"
                    )
                last[key] = int(number[0])
            path += f"{part}."


def refusal(file: Path, loaded: Mapping[str, Tensor], name: str, arch: str, expects: str) -> DataError:
    """The error for the first tensor that does not fit.  name: in the file.  expects: what should be in its place."""
    place, shape = list(loaded).index(name) + 1, tuple(loaded[name].shape)
    return DataError(f"{file}: tensor {place} is {shown(name)} of {shape}, but {arch} expects {expects}")


def shown(name: str) -> str:
    """A name from a file as it may stand in a message: ASCII only, without line breaks."""
    return ascii(name)[1:-1]


def note(file: Path, names: Mapping[str, str], expected: Mapping[str, Tensor]) -> str:
    """The line that tells the user what `match` did.  names: its result.  expected: the state dict of the network."""
    parts = []
    if any(ours != theirs for ours, theirs in names.items()):
        parts.append(f"the names are those of another code base; {len(names)} tensors were mapped by order and shape")
    if lacking := len(expected) - len(names):
        parts.append(f"{lacking} tensors {COUNTER} are absent and start at 0")
    return f"{file}: {'; '.join(parts)}"
