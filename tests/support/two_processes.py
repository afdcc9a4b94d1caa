"""Run every method on made-up data and save what the students become: `python two_processes.py OUT DTYPE [METHOD...]`.

Started by torchrun it is one rank of several; the global batch is the same either way. The networks normalise by
groups, not by batches: BatchNorm's statistics are a shard's own by construction. In the environment:
DIE=RANK:BATCHES: that rank kills itself when it has seen so many batches.
LATE=RANK:BATCHES: that rank then sleeps for longer than ranks that learn together would wait for it.
BATCHNORM=1: the networks normalise by batches all the same.
"""

import os
import signal
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
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
        if "BATCHNORM" not in os.environ:
            names.ZOO[arch] = ("grouped", (width,))
    from cases import METHODS, start_of
    from workshop import Workshop

    from pipeline.core.checkpoint import Checkpoint
    from pipeline.core.run import Run
    from pipeline.core.world import Processes

    die_at, late_at = (os.environ.get(name, "-1:0").split(":") for name in ("DIE", "LATE"))
    seen = 0
    patience = timedelta(seconds=4 if "LATE" in os.environ else 60)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)])

    def advance(run, *arguments):
        nonlocal seen
        seen += 1
        here = [os.environ.get("RANK", "0"), str(seen)]
        if here == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if here == late_at:
            time.sleep(3 * patience.total_seconds())
        return plain(run, *arguments)

    plain, Run.advance = Run.advance, advance
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
                accelerator=accelerator,
            )
            result = run.train()
            if Processes(run.accelerator).rank == 0:
                states = {n: {"last": t.last, "best": t.best} for n, t in result.networks.items()}
                torch.save({"networks": states, "rows": result.rows}, Path(out) / f"{name}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
