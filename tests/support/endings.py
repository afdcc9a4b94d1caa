"""How runs end: alike, or by a kill at a chosen update."""

from pathlib import Path

from workshop import same

from pipeline.core.checkpoint import Checkpoint
from pipeline.core.run import Run


class Killed(BaseException):
    """Stands for SIGKILL at a chosen update: nothing after it runs, and no handler is asked."""


def ends_alike(one, other):
    assert one.networks.keys() == other.networks.keys()
    for name in one.networks:
        assert same(one.networks[name].last, other.networks[name].last), name
        assert same(one.networks[name].best, other.networks[name].best), name
        assert one.networks[name].validation == other.networks[name].validation
    assert one.rows == other.rows
    assert (one.steps, one.images) == (other.steps, other.images)


def killed_at(run: Run, update: int) -> bool:
    """Run until just after that update; whether it got so far."""
    done = 0
    original = run.update

    def dying(*arguments):
        nonlocal done
        original(*arguments)
        done += 1
        if done == update:
            raise Killed

    run.update = dying
    try:
        run.train()
    except Killed:
        return True
    return False


def quiet_checkpoint(folder: Path) -> Checkpoint:
    """For a run that is killed over and over."""
    return Checkpoint(folder / "run" / "key", say=lambda line: None)


def checkpoint_in(folder: Path, say=lambda line: None) -> Checkpoint:
    """Of a run of kd that has begun."""
    checkpoint = Checkpoint(folder / "distill-kd" / "key", say=say)
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    return checkpoint
