"""Train every method on synthetic data and save the networks: `python two_processes.py OUT DTYPE [METHOD...]`.

Under torchrun it is one of several ranks; the global batch is the same either way. The networks use GroupNorm, because
BatchNorm computes its statistics on each rank's shard. Environment variables:
DIE=RANK:BATCHES: the rank kills itself at the given batch.
LATE=RANK:BATCHES: the rank sleeps at the given batch, for longer than the timeout of a collective.
NAN=RANK:BATCHES[,...]: the images of the rank's given batch are not numbers.
BATCHNORM=1: the networks use BatchNorm.
EPOCHS=N: the length of a leg.

Where a run diverges, each rank writes the place that it reports, and ends as a stage does: when rank 0 has finished.
"""

import json
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
    from cases import METHODS, OF_KINDS, start_of
    from toy_run import ToyRuns

    from pipeline.errors import Diverged
    from pipeline.runtime.processes import Processes
    from pipeline.storage.checkpoints import Checkpoint
    from pipeline.training.batches import Batches

    die_at, late_at = (os.environ.get(name, "-1:0").split(":") for name in ("DIE", "LATE"))
    not_numbers = [at.split(":") for at in os.environ.get("NAN", "-1:0").split(",")]
    seen = 0
    collective_timeout = timedelta(seconds=4 if "LATE" in os.environ else 60)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(timeout=collective_timeout)])

    def next_batch(batches, *arguments, **named):
        nonlocal seen
        seen += 1
        here = [os.environ.get("RANK", "0"), str(seen)]
        if here == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if here == late_at:
            time.sleep(3 * collective_timeout.total_seconds())
        batch = plain(batches, *arguments, **named)
        return batch._replace(x=batch.x * float("nan")) if here in not_numbers else batch

    plain, Batches.__call__ = Batches.__call__, next_batch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        toy = ToyRuns(Path(folder))
        for name in wanted or METHODS:
            checkpoint = Checkpoint(Path(out) / "store" / name)
            checkpoint.folder.mkdir(parents=True, exist_ok=True)
            run = toy.run(
                {**METHODS, **OF_KINDS}[name],
                start_of(name, toy),
                dtype=getattr(torch, dtype),
                checkpoint=checkpoint,
                minutes=0.0,
                accelerator=accelerator,
                epochs=int(os.environ.get("EPOCHS", "2")),
            )
            processes = Processes(run.accelerator)
            try:
                result = run.train()
            except Diverged as error:
                (Path(out) / f"{name}.diverged-{processes.rank}.json").write_text(json.dumps(error.at))
                processes.on_rank_0(lambda: None)
                continue
            if processes.rank == 0:
                states = {n: {"last": t.last, "best": t.best} for n, t in result.networks.items()}
                saved = {"networks": states, "rows": result.history, "passes": result.passes}
                torch.save(saved, Path(out) / f"{name}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
