"""What goes wrong in a long run is one line that says what and where, and loses nothing."""

import errno
import os
import resource
import shutil
import signal
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from endings import checkpoint_in
from safetensors.torch import save_file

from pipeline.core import interrupt, launch
from pipeline.core.interrupt import Interrupted
from pipeline.errors import UserError
from stages.command import command


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("scratch", "network student, term ce, leg 0, epoch 1, step 1"),
        ("kd", "network student, term ce, leg 0, epoch 1, step 1"),
        ("orc", "network student, term group/pivot, leg 0, epoch 1, step 0"),  # the pivot was updated before it taught
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_is_located(workshop, tmp_path, name, where):
    checkpoint = checkpoint_in(tmp_path)
    for _ in range(2):  # the second life goes on from what the first one saved, to the same end
        run = workshop.run(METHODS[name], start_of(name, workshop), checkpoint=checkpoint, minutes=0.0, lr=1e30)
        with pytest.raises(UserError) as said:
            run.train()
        assert str(said.value).startswith(f"the loss is not finite: {where} (train.lr is 1e+30")
        assert "\n" not in str(said.value)


def test_out_of_memory_names_the_batch_and_the_networks(workshop):
    run = workshop.run(METHODS["kd"], workshop.start)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    run.update = full
    with pytest.raises(UserError, match=r"train\.batch_size is 8, and the networks student, teacher are resident"):
        run.train()


def test_a_full_disk_is_said_and_the_checkpoint_before_is_whole(workshop, tmp_path):
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"n": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written \(File too large\); the one before it is whole"):
            checkpoint.save({"n": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load() == {"n": 1}
    assert [file.suffix for file in checkpoint.folder.iterdir()] == [".ckpt"]


def test_a_full_disk_at_the_end_is_said_and_the_checkpoint_is_whole(tmp_path):
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"n": 1})
    for write in (
        lambda folder: save_file({"w": torch.zeros(10_000)}, folder / "w.safetensors"),
        lambda folder: (folder / "history.csv").write_text("x" * 10_000),
    ):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(UserError, match=r"what distill-kd has learnt could not be written \(.*whole"):
                checkpoint.finish(write)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert checkpoint.load() == {"n": 1} and not checkpoint.finished.exists()
        assert [file.suffix for file in checkpoint.folder.iterdir()] == [".ckpt"]


@pytest.mark.parametrize("how", ["write", "copy"])
def test_a_full_disk_is_one_line_wherever_it_is_met(tmp_path, monkeypatch, capsys, how):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", target)

    (tmp_path / "outs").mkdir()
    (tmp_path / "outs/network").write_bytes(b"1")

    def main() -> None:
        if how == "copy":
            shutil.copytree(tmp_path / "outs", tmp_path / "models", copy_function=full)
        full("", tmp_path / "models")

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        command(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: No space left on device: make room and run the same command again\n"


@pytest.mark.parametrize(("pace", "between"), [(0.001, 16), (0.5, 4), (2.5, 1)])
def test_processes_are_asked_in_time_for_a_signal_and_not_too_often(monkeypatch, pace, between):
    """Launchers give a process seconds after SIGTERM; and asking makes all wait for the slowest."""
    at = {"step": 0}
    asked = []

    def largest(*values):
        asked.append(at["step"])
        return values

    monkeypatch.setattr(interrupt.time, "perf_counter", lambda: pace * at["step"])
    asking = interrupt.Asking(SimpleNamespace(size=2, largest=largest))
    while at["step"] < 200:
        at["step"] += 1
        asking(False)
    assert asked[0] == 1 and {b - a for a, b in pairwise(asked)} == {between}


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ({0: (1, 5), 1: (-signal.SIGKILL, 5)}, (1, -signal.SIGKILL)),
        ({0: (-signal.SIGTERM, 4), 1: (1, 5)}, (1, 1)),
        ({0: (Interrupted.exit_code, 4), 1: (1, 5)}, (1, 1)),
        ({0: (2, 6), 1: (1, 5)}, (1, 1)),
        ({0: (Interrupted.exit_code, 5), 1: (Interrupted.exit_code, 5)}, (0, Interrupted.exit_code)),
    ],
)
def test_of_processes_that_end_the_one_is_told_that_ended_the_others(failures, told):
    assert launch.told_by(failures) == told


def test_a_signal_that_comes_twice_at_once_is_one(monkeypatch):
    """Slurm tells every process, and so does torchrun; whoever asks again later means it."""
    killed = []
    now = [10.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    with interrupt.Interruption() as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.asked == signal.SIGTERM
        monkeypatch.setattr(interrupt.os, "kill", lambda *how: killed.append(how))
        now[0] += 3
        signal.raise_signal(signal.SIGINT)
    assert killed == [(os.getpid(), signal.SIGINT)]


@pytest.mark.parametrize("name", ["scratch", "cooperative"])
def test_a_signal_after_the_last_step_stops_the_run_too(workshop, tmp_path, name):
    """Else the next seed would begin."""
    checkpoint = checkpoint_in(tmp_path)
    run = workshop.run(METHODS[name], start_of(name, workshop), checkpoint=checkpoint)
    save = checkpoint.save

    def last(state):
        save(state)
        if run.at.leg == legs:
            os.kill(os.getpid(), signal.SIGTERM)

    legs = workshop.run(METHODS[name], start_of(name, workshop)).train().rows[-1][0] + 1
    checkpoint.save = last
    with pytest.raises(Interrupted, match="stopped by SIGTERM: run the same command again"):
        run.train()
    checkpoint.save = save
    again = workshop.run(METHODS[name], start_of(name, workshop), checkpoint=checkpoint).train()
    whole = workshop.run(METHODS[name], start_of(name, workshop)).train()
    assert again.rows == whole.rows
