"""Kill a run at random moments, over and over: `python kills.py FOLDER CASE KILLS SEED`.

CASE: a method or a recipe of cases.py.

Every attempt is a process of its own, forked from this one, which has imported everything and computed nothing. It is
killed by SIGKILL after a random time, and the next attempt resumes from the checkpoint until one attempt completes.
Then another run begins, until KILLS attempts were killed. Prints {"kills": ..., "runs": ..., "writing": ...,
"different": ...}: writing counts the kills that left a partially written checkpoint, different the runs whose result
differs from the uninterrupted run.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import skops.io  # noqa: F401  # imports all of scikit-learn
import torch
import torch._dynamo  # optimizer, DDP and augmentation would import these in every attempt, most of its time
import torch.distributed.tensor
import torchvision.transforms.v2  # noqa: F401
from cases import METHODS, OF_KINDS, case, start_of
from toy_run import ToyRuns

from pipeline.storage.checkpoints import Checkpoint

EPOCHS = 6


def attempt(toy: ToyRuns, name: str, store: Path, out: Path, minutes: float) -> None:
    """Train to the end, resuming from a checkpoint if there is one, and save the result to out."""
    checkpoint = Checkpoint(store, log=lambda line: None)
    store.mkdir(parents=True, exist_ok=True)
    method, _, recipe = case(name)
    start = start_of(method, toy)
    run = toy.run(
        {**METHODS, **OF_KINDS}[method], start, checkpoint=checkpoint, minutes=minutes, epochs=EPOCHS, **recipe
    )
    result = run.train()
    networks = {n: {"last": t.last, "best": t.best, **t.validation} for n, t in result.networks.items()}
    torch.save({"networks": networks, "rows": result.history, "passes": result.passes}, out.with_suffix(".tmp"))
    out.with_suffix(".tmp").rename(out)


def fork(*arguments) -> int:
    """Start an attempt in a child process. Returns its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            attempt(*arguments)
            code = 0
        finally:
            os._exit(code)
    return pid


def completed(pid: int) -> bool:
    """Wait for an attempt. Returns False if it was killed by SIGKILL, and raises if it failed by itself."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert os.waitstatus_to_exitcode(status) == 0, f"a run failed with status {status}"
    return True


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def main(folder: str, name: str, wanted: str, seed: str) -> None:
    torch.set_num_threads(1)
    rng = random.Random(f"{name} {seed}")
    root = Path(folder)
    toy = ToyRuns(root, **case(name)[1])
    started = time.perf_counter()
    assert completed(fork(toy, name, root / "whole-store", root / "whole.pt", 10.0))
    seconds = time.perf_counter() - started
    whole = torch.load(root / "whole.pt", weights_only=True)
    kills = runs = writing = different = 0
    while kills < int(wanted):
        out, store = root / f"run-{runs}.pt", root / f"store-{runs}"
        runs += 1
        while True:
            # A checkpoint after every batch or after every epoch: with the former most kills interrupt a write.
            pid = fork(toy, name, store, out, rng.choice((0.0, 10.0)))
            time.sleep(seconds * rng.uniform(0.05, 0.8))
            os.kill(pid, signal.SIGKILL)
            if completed(pid):
                break
            kills += 1
            writing += bool(list(store.glob("*.tmp")))
            for partial in store.glob("*.tmp"):
                partial.unlink()
        different += not same(torch.load(out, weights_only=True), whole)
        shutil.rmtree(store)
    print(json.dumps({"kills": kills, "runs": runs, "writing": writing, "different": different}))


if __name__ == "__main__":
    main(*sys.argv[1:])
