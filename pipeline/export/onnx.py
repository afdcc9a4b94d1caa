"""A student as ONNX, its preprocessing inside, held against PyTorch on the test split."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.export.session import open_session

TOLERANCE = 1e-4  # of a logit
RELATIVE = 1e-5  # of the largest logit, where logits are above ten
CHUNK = 256


class Normalised(nn.Module):
    """A network that takes pixels in 0..1."""

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.mean, self.std = (nn.Buffer(torch.tensor(v).reshape(1, -1, 1, 1)) for v in (mean, std))

    def forward(self, image: Tensor) -> Tensor:
        return self.network((image - self.mean) / self.std)


def write_onnx(file: Path, network: nn.Module, mean: list[float], std: list[float], size: tuple[int, int]) -> None:
    """image: [batch, D, H, W] float32 in 0..1, D and H and W fixed; logits: [batch, C]."""
    whole = Normalised(network, mean, std).eval()
    example = torch.rand(2, len(mean), *size)
    program = torch.onnx.export(
        whole,
        (example,),
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(file, external_data=False)


def check(file: Path, images: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of a logit from PyTorch's, over all images [N, D, H, W] in 0..1.

    Raises UserError where it is more than TOLERANCE (RELATIVE of the largest logit where that is more), or where a
    prediction is another though its logit was ahead by more than that.
    """
    run = open_session(file)
    z = np.concatenate([run.run(None, {"image": images[k : k + CHUNK]})[0] for k in range(0, len(images), CHUNK)])
    gap, allowed = float(np.abs(z - expected).max()), max(TOLERANCE, RELATIVE * float(np.abs(expected).max()))
    rows = np.arange(len(z))
    ahead = expected.max(1) - expected[rows, z.argmax(1)]
    others = int((ahead > allowed).sum())
    if not gap <= allowed or others:
        raise UserError(
            f"{file.name} differs from PyTorch: logits by {gap:.1e} (allowed {allowed:.0e}), {others} predictions"
        )
    return gap
