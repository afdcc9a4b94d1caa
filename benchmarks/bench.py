"""What the measurements share: the data, the settings, and a row of the table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import field
from benchmarks.ours import CLASSES, Ours, network, views
from benchmarks.peers import Peer
from benchmarks.timing import Clock
from pipeline.core.interface import Method, Network
from pipeline.storage.logit_cache import LogitCache

IMAGES = {"cpu": 8 * field.BATCH, "cuda": 200 * field.BATCH}
MEAN, STD = (0.507, 0.487, 0.441), (0.268, 0.257, 0.276)


@dataclass(frozen=True)
class Line:
    """One row of the table. value: the ratio; goal: its bound, as text, or "-" without a goal."""

    work: str
    over: str
    value: float
    goal: str


class Bench:
    """The data and settings that all cases share."""

    def __init__(self, folder: Path, *, repeats: int, compile: bool, device: torch.device, peers: Sequence[Peer] = ()):
        n = IMAGES[device.type]
        draw = np.random.default_rng(0)
        images, labels = draw.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), draw.integers(0, CLASSES, n)
        self.folder, self.compile, self.device, self.peers = folder, compile, device, peers
        self.graphs = compile and device.type == "cuda"
        self.pictures = field.Pictures(images, labels, MEAN, STD)
        self.views = views(images, labels, device)
        self.time = Clock(device, repeats)

    def data(self) -> Iterator[tuple[Tensor, Tensor]]:
        return field.batches(self.pictures, self.device)

    def resident(self) -> tuple[Tensor, Tensor]:
        """A batch that already is on the device."""
        index = torch.arange(field.BATCH, device=self.device)
        return self.views.plain(index), self.views.labels[index]

    def ours(self, arch: str) -> nn.Module:
        return network(arch).to(self.device, memory_format=torch.channels_last)

    def theirs(self, arch: str) -> nn.Module:
        return field.as_written(network(arch)).to(self.device)

    def engine(self, method: Method, networks: Mapping[str, Network], cache: LogitCache | None = None) -> Ours:
        """This project's training loop. On a GPU the networks are compiled with --compile."""
        return Ours(method, networks, self.views, cache=cache, compile=self.graphs)

    def goal(self, on_cpu: str) -> str:
        """The goal of a row on a CPU. A GPU has no such goal."""
        return on_cpu if self.device.type == "cpu" else "-"

    def cache(self, name: str) -> LogitCache:
        return LogitCache(self.folder / "logits" / name, kind="fp32", gib=1.0, key={})
