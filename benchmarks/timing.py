"""Median times of interleaved runs: on a shared machine only ratios within one process are meaningful."""

import statistics
import time
from collections.abc import Callable

import torch

Work = Callable[[], object]


class Clock:
    """Measures the seconds of a step. On a GPU many steps are queued before synchronising, as in training.

    repeats: how often each work is timed, interleaved with the others.
    """

    def __init__(self, device: torch.device, repeats: int):
        self.on_gpu = device.type == "cuda"
        self.repeats, self.steps = repeats, 50 if self.on_gpu else 1

    def __call__(self, works: dict[str, Work]) -> dict[str, float]:
        """Median seconds of each work, after one untimed warm-up."""
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
    """A step on resident tensors as one CUDA graph: its time on the GPU without the overhead of Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a capture requires a warm-up on a side stream
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
