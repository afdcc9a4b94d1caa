"""Compare the results of runs, and kill a run at a chosen update."""

from pathlib import Path

from toy_run import same

from pipeline.storage.checkpoints import Checkpoint
from pipeline.training.run import Run


class Killed(BaseException):
    """Simulates SIGKILL: derives from BaseException, so no handler of the training loop catches it."""


def ends_alike(one, other):
    """Assert that two results are bitwise equal: weights, validation metrics, history, steps, images and cost."""
    assert one.networks.keys() == other.networks.keys()
    for name in one.networks:
        assert same(one.networks[name].last, other.networks[name].last), name
        assert same(one.networks[name].best, other.networks[name].best), name
        assert one.networks[name].validation == other.networks[name].validation
    assert one.history == other.history
    assert (one.steps, one.images, one.passes) == (other.steps, other.images, other.passes)


def killed_at(run: Run, update: int) -> bool:
    """Train until just after the given update. Returns False if the run completed before."""
    done = 0
    original = run.loop.update

    def dying(*arguments):
        nonlocal done
        original(*arguments)
        done += 1
        if done == update:
            raise Killed

    run.loop.update = dying
    try:
        run.train()
    except Killed:
        return True
    return False


def quiet_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint that logs nothing, for a run that is killed repeatedly."""
    return Checkpoint(folder / "run" / "key", log=lambda line: None)


def checkpoint_in(folder: Path, log=lambda line: None) -> Checkpoint:
    """The checkpoint of a run of kd whose folder exists."""
    checkpoint = Checkpoint(folder / "distill-kd" / "key", log=log)
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    return checkpoint
