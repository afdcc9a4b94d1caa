"""Failures of a long run are one-line errors that name the cause and the place, and they lose no checkpoint."""

import errno
import os
import resource
import shutil
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from cases import METHODS, start_of
from run_endings import checkpoint_in
from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.runtime import launch, processes, signals
from pipeline.runtime.signals import Interrupted
from stages.command import command


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("scratch", "network student, term ce, leg 0, epoch 1, step 1"),
        ("kd", "network student, term ce, leg 0, epoch 1, step 1"),
        ("orc", "network student, term group/pivot, leg 0, epoch 1, step 0"),  # the pivot is updated before it teaches
    ],
)
def test_non_finite_loss_is_a_one_line_error_that_names_network_term_and_step(toy, tmp_path, name, where):
    checkpoint = checkpoint_in(tmp_path)
    for _ in range(2):  # the second run resumes from the first one's checkpoint and fails alike
        run = toy.run(METHODS[name], start_of(name, toy), checkpoint=checkpoint, minutes=0.0, lr=1e30)
        with pytest.raises(UserError) as caught:
            run.train()
        assert str(caught.value).startswith(f"the loss is not finite: {where}; lower train.lr, ")
        assert "\n" not in str(caught.value)


def test_full_disk_while_saving_is_reported_and_keeps_the_previous_checkpoint(toy, tmp_path):
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"n": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written \(File too large\); the previous one is complete"):
            checkpoint.save({"n": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load() == {"n": 1}
    assert [file.suffix for file in checkpoint.folder.iterdir()] == [".ckpt"]


def test_full_disk_while_writing_outputs_is_reported_and_keeps_the_checkpoint(tmp_path):
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"n": 1})
    for write in (
        lambda folder: save_file({"w": torch.zeros(10_000)}, folder / "w.safetensors"),
        lambda folder: (folder / "history.csv").write_text("x" * 10_000),
    ):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(UserError, match=r"the outputs of distill-kd could not be written \(.*complete"):
                checkpoint.finish(write)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert checkpoint.load() == {"n": 1} and not checkpoint.finished.exists()
        assert [file.suffix for file in checkpoint.folder.iterdir()] == [".ckpt"]


@pytest.mark.parametrize("how", ["write", "copy"])
def test_full_disk_anywhere_in_a_stage_is_a_one_line_error(tmp_path, monkeypatch, capsys, how):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", target)

    (tmp_path / "outs").mkdir()
    (tmp_path / "outs/network").write_bytes(b"1")

    def main() -> None:
        if how == "copy":
            shutil.copytree(tmp_path / "outs", tmp_path / "models", copy_function=full)
        full("", tmp_path / "models")

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit) as exited:
        command(main)
    assert exited.value.code == 1
    assert capsys.readouterr().err == "error: No space left on device: free space and run the same command again\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("library", ["polars", "safetensors"])
def test_full_disk_that_a_library_in_rust_meets_is_a_one_line_error(monkeypatch, capsys, library):
    def main() -> None:
        if library == "polars":
            pl.DataFrame({"x": range(10_000)}).write_parquet("/dev/full")
        raise SafetensorError("Error while serializing: IoError(Os { message: No space left on device (os error 28) })")

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit) as exited:
        command(main)
    assert exited.value.code == 1
    assert capsys.readouterr().err == "error: No space left on device: free space and run the same command again\n"


@pytest.mark.parametrize(("seconds_per_step", "interval"), [(0.001, 16), (0.5, 4), (2.5, 1)])
def test_ranks_poll_for_a_signal_at_an_interval_bounded_by_time(monkeypatch, seconds_per_step, interval):
    """Launchers kill a process seconds after SIGTERM, but each poll is a collective that waits for all ranks."""
    at = {"step": 0}
    polled = []

    def maximum(*values):
        polled.append(at["step"])
        return values

    monkeypatch.setattr(processes.time, "perf_counter", lambda: seconds_per_step * at["step"])
    any_rank = processes.AnyRank(SimpleNamespace(size=2, max=maximum))
    while at["step"] < 200:
        at["step"] += 1
        any_rank(False)
    assert polled[0] == 1 and {b - a for a, b in pairwise(polled)} == {interval}


@pytest.mark.parametrize(
    ("failures", "root_cause"),
    [
        ({0: (1, 5), 1: (-signal.SIGKILL, 5)}, (1, -signal.SIGKILL)),
        ({0: (-signal.SIGTERM, 4), 1: (1, 5)}, (1, 1)),
        ({0: (Interrupted.exit_code, 4), 1: (1, 5)}, (1, 1)),
        ({0: (2, 6), 1: (1, 5)}, (1, 1)),
        ({0: (Interrupted.exit_code, 5), 1: (Interrupted.exit_code, 5)}, (0, Interrupted.exit_code)),
    ],
)
def test_root_cause_is_the_rank_that_failed_first(failures, root_cause):
    assert launch.root_cause(failures) == root_cause


def test_duplicate_signal_within_seconds_counts_once(monkeypatch):
    """Slurm and torchrun both forward the same signal. A signal that is sent again later kills the process."""
    killed = []
    now = [10.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with signals.SignalHandler() as handler:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert handler.received == signal.SIGTERM
        monkeypatch.setattr(signals.os, "kill", lambda *how: killed.append(how))
        now[0] += 3
        signal.raise_signal(signal.SIGINT)
    assert killed == [(os.getpid(), signal.SIGINT)]


@pytest.mark.parametrize("name", ["scratch", "cooperative"])
def test_signal_after_the_last_step_interrupts_the_run(toy, tmp_path, name):
    """Otherwise the stage would start to train the next seed."""
    checkpoint = checkpoint_in(tmp_path)
    run = toy.run(METHODS[name], start_of(name, toy), checkpoint=checkpoint)
    save = checkpoint.save

    def last(state):
        save(state)
        if run.state.leg == legs:
            os.kill(os.getpid(), signal.SIGTERM)

    legs = toy.run(METHODS[name], start_of(name, toy)).train().history[-1][0] + 1
    checkpoint.save = last
    with pytest.raises(Interrupted, match="stopped by SIGTERM: run the same command again"):
        run.train()
    checkpoint.save = save
    again = toy.run(METHODS[name], start_of(name, toy), checkpoint=checkpoint).train()
    whole = toy.run(METHODS[name], start_of(name, toy)).train()
    assert again.history == whole.history
