"""A student as an ONNX model that contains its normalization, and its verification against PyTorch.

The module knows arrays and networks, but neither the data set nor how the student was trained.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.export.session import open_session

TOLERANCE = 1e-4  # absolute, of a logit
RELATIVE_TOLERANCE = 1e-5  # of the largest logit; exceeds TOLERANCE where logits exceed 10


class NormalizedInput(nn.Module):
    """A network behind the normalization of its input: maps pixels in [0, 1], [B, C_in, H, W], to logits [B, C].

    Args:
        network: The network, which takes normalized images.
        mean: Mean of the pixels, one value per channel.
        std: Standard deviation of the pixels, one value per channel.
    """

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.mean, self.std = (nn.Buffer(torch.tensor(v).reshape(1, -1, 1, 1)) for v in (mean, std))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of pixels in [0, 1]."""
        return self.network((image - self.mean) / self.std)


def write_onnx(file: Path, network: nn.Module, mean: list[float], std: list[float], size: tuple[int, int]) -> None:
    """Export a network with its normalization to one ONNX file.

    The model maps `image`, [B, C_in, H, W] float32 in [0, 1], to `logits`, [B, C] float32. Only B is dynamic.

    Args:
        file: The file to write.
        network: The network, which takes normalized images.
        mean: Mean of the pixels, one value per channel.
        std: Standard deviation of the pixels, one value per channel.
        size: Height and width of the images, in pixels.
    """
    model = NormalizedInput(network, mean, std).eval()
    example = torch.rand(2, len(mean), *size)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(file, external_data=False)
    strip_metadata(file)


def strip_metadata(file: Path) -> None:
    """Remove the exporter's notes from an ONNX model: paths of this machine and stack traces, which nobody runs.

    The same network then gives the same file on every machine with the same versions.
    """
    import onnx

    def strip(graph: onnx.GraphProto) -> None:
        for value in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.ClearField("metadata_props")
            value.ClearField("doc_string")
        for node in graph.node:
            for attribute in node.attribute:
                for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    strip(inner)

    model = onnx.load(file)
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    strip(model.graph)
    onnx.save(model, file)


def verify(file: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Verify that an ONNX model computes the logits that PyTorch does.

    Args:
        file: The ONNX model.
        batches: Pixels in [0, 1], [B, C_in, H, W] float32, and PyTorch's logits on them, [B, C] float32.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        UserError: If that difference exceeds the tolerance, which is the larger of TOLERANCE and RELATIVE_TOLERANCE
            times the largest logit, or if a predicted class differs although PyTorch's logits of the two classes are
            further apart than the tolerance.
    """
    session = open_session(file)
    pairs = [(session.run(None, {"image": images})[0], logits) for images, logits in batches]
    z, expected = (np.concatenate(part) for part in zip(*pairs))
    gap = float(np.abs(z - expected).max())
    tolerance = max(TOLERANCE, RELATIVE_TOLERANCE * float(np.abs(expected).max()))
    margin = expected.max(1) - expected[np.arange(len(z)), z.argmax(1)]
    changed = int((margin > tolerance).sum())
    if not gap <= tolerance or changed:  # written so that NaN fails
        raise UserError(
            f"{file.name} differs from PyTorch: logits by up to {gap:.1e} (tolerance {tolerance:.0e}), "
            f"{changed} of {len(z)} predictions"
        )
    return gap
