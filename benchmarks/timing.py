"""Medians of interleaved runs: on a shared machine only ratios within one process mean anything."""

import statistics
import time
from collections.abc import Callable

import torch

Work = Callable[[], object]


class Clock:
    """What a step costs. A GPU is given many steps before it is waited for, as training does.

    repeats: how often each work is timed, in turn with the others; the median counts.
    """

    def __init__(self, device: torch.device, repeats: int):
        self.on_gpu = device.type == "cuda"
        self.repeats, self.steps = repeats, 50 if self.on_gpu else 1

    def __call__(self, works: dict[str, Work]) -> dict[str, float]:
        """Median seconds of each, each run once before it counts."""
        for work in works.values():
            self.once(work)
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(self.repeats):
            for name, work in works.items():
                seconds[name].append(self.once(work))
        return {name: statistics.median(values) for name, values in seconds.items()}

    def once(self, work: Work) -> float:
        begun = time.perf_counter()
        for _ in range(self.steps):
            work()
        if self.on_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / self.steps


def captured(step: Work) -> Work:
    """A step on resident tensors as one CUDA graph: what a GPU needs for it where nothing waits for Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a capture wants everything to have run before, on a stream of its own
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
