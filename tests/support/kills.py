"""Kill a method's run at random moments, over and over: `python kills.py FOLDER METHOD KILLS SEED`.

Each life of the run is a process of its own, forked from this one, which has imported everything and computed nothing.
It dies by SIGKILL after a random time, the next life goes on, until one life ends; then another run begins, until
there were so many kills. Prints {"kills": ..., "runs": ..., "writing": ..., "different": ...}; writing counts deaths
that left a half-written checkpoint.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # what an optimizer and DDP would import in every life
import torch.distributed.tensor
from cases import METHODS, start_of
from workshop import Workshop

from pipeline.core.checkpoint import Checkpoint

EPOCHS = 6


def life(shop: Workshop, name: str, store: Path, out: Path, minutes: float) -> None:
    """Train to the end, in a process of its own."""
    checkpoint = Checkpoint(store, say=lambda line: None)
    store.mkdir(parents=True, exist_ok=True)
    run = shop.run(METHODS[name], start_of(name, shop), checkpoint=checkpoint, minutes=minutes, epochs=EPOCHS)
    result = run.train()
    networks = {n: {"last": t.last, "best": t.best, **t.validation} for n, t in result.networks.items()}
    torch.save({"networks": networks, "rows": result.rows, "passes": result.passes}, out.with_suffix(".tmp"))
    out.with_suffix(".tmp").rename(out)


def fork(*arguments) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            life(*arguments)
            code = 0
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> bool:
    """Whether a life came to its end; raises if it died of itself."""
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
    draw = random.Random(f"{name} {seed}")
    place = Path(folder)
    shop = Workshop(place)
    begun = time.perf_counter()
    assert ended(fork(shop, name, place / "whole-store", place / "whole.pt", 10.0))
    seconds = time.perf_counter() - begun
    whole = torch.load(place / "whole.pt", weights_only=True)
    kills = runs = writing = different = 0
    while kills < int(wanted):
        out, store = place / f"run-{runs}.pt", place / f"store-{runs}"
        runs += 1
        while True:
            # A checkpoint after every batch, or after every epoch: the first dies mostly while writing.
            pid = fork(shop, name, store, out, draw.choice((0.0, 10.0)))
            time.sleep(seconds * draw.uniform(0.05, 0.8))
            os.kill(pid, signal.SIGKILL)
            if ended(pid):
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
