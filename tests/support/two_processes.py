"""Run every method on made-up data and save what the students become: `python two_processes.py OUT DTYPE [METHOD...]`.

Started by torchrun it is one rank of several; the global batch is the same either way. The networks normalise by
groups, not by batches: BatchNorm's statistics are a shard's own by construction.
DIE=RANK:BATCHES in the environment: that rank kills itself when it has seen so many batches.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from pipeline.models import families, names


def grouped(width: int, *, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_chans, width, 3, padding=1),
        nn.GroupNorm(2, width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )


def main(out: str, dtype: str, *wanted: str) -> None:
    families.FAMILIES["grouped"] = grouped
    for arch, width in (("tiny_plain2_32", 8), ("tiny_plain2_16", 6), ("tiny_plain2_12", 4)):
        names.ZOO[arch] = ("grouped", (width,))
    from cases import METHODS, start_of
    from workshop import Workshop

    from pipeline.core.checkpoint import Checkpoint
    from pipeline.core.engine import Run
    from pipeline.core.world import Processes

    die_at, seen = os.environ.get("DIE", "-1:0").split(":"), 0

    def batch(run, *arguments):
        nonlocal seen
        seen += 1
        if [str(run.world.rank), str(seen)] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(run, *arguments)

    plain, Run.batch = Run.batch, batch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        for name in wanted or METHODS:
            checkpoint = Checkpoint(Path(out) / "store" / name)
            checkpoint.folder.mkdir(parents=True, exist_ok=True)
            run = workshop.run(
                METHODS[name],
                start_of(name, workshop),
                dtype=getattr(torch, dtype),
                checkpoint=checkpoint,
                minutes=0.0,
            )
            result = run.train()
            if Processes(run.accelerator).rank == 0:
                states = {n: {"last": t.last, "best": t.best} for n, t in result.networks.items()}
                torch.save({"networks": states, "rows": result.rows}, Path(out) / f"{name}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
