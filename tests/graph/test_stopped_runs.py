"""Real runs that are stopped or killed and then resumed: in one process, in two processes, and under DVC."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from project import ENVIRONMENT

pytestmark = pytest.mark.slow


def set_new_run(project, epochs: int) -> None:
    """Change params.yaml so that distill@orc has no checkpoint in the store yet."""
    project.set("train.epochs", epochs)  # the existing teachers are reused
    project.stage("check")


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGINT])
def test_interrupted_stage_resumes_to_the_uninterrupted_result(project, how):
    def outputs():
        students = project.folder / "models/students/orc"
        files = [*students.rglob("*.safetensors"), project.folder / "results/train/orc/history.csv"]
        return {f.relative_to(project.folder).as_posix(): f.read_bytes() for f in files}

    set_new_run(project, epochs=12 + how)
    command = [sys.executable, "-u", "-m", "stages.distill", "orc"]
    process = subprocess.Popen(
        command, cwd=project.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    time.sleep(0.05)
    process.send_signal(how)
    out, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    if how != signal.SIGKILL:
        assert f"error: stopped by {how.name}: run the same command again" in stderr and "Traceback" not in stderr
    assert "epoch 12/" not in out
    resumed = project.stage("distill", "orc").stdout
    assert "resuming from checkpoint" in resumed and "epoch 1/" not in resumed
    resumed_outputs = outputs()
    with project.empty_store("distill-orc"):
        project.stage("distill", "orc")
    assert outputs() == resumed_outputs
    project.reset()


def test_user_error_of_two_processes_is_one_line(project):
    project.set("runtime.num_processes", 2)
    prepared = project.folder / "data/prepared"
    prepared.rename(prepared.with_name("hidden"))
    done = project.stage("distill", "kd", ok=False)
    prepared.with_name("hidden").rename(prepared)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: data/prepared/meta.json is missing: run `dvc repro prepare`"]
    project.reset()


LATE = """
import time
from datetime import timedelta
from pipeline.runtime import launch
from pipeline.storage.checkpoints import Checkpoint
from stages.command import command
from stages.pretrain import main

def late(plain, seconds):
    def wait(self, what):
        there = self.files()
        time.sleep(seconds)
        assert self.files() == there
        plain(self, what)
    return wait

launch.timedelta = lambda minutes: timedelta(seconds=3)  # the timeout of a collective
Checkpoint.save, Checkpoint.finish = late(Checkpoint.save, 0.5), late(Checkpoint.finish, 8)
command(main)
"""


def test_finished_rank_waits_and_keeps_the_checkpoints_of_the_slower_rank(project):
    project.set("train.epochs", 3)  # a run without a checkpoint in the store
    project.stage("check")
    (project.folder / "late.py").write_text(LATE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    project.run(*torchrun, "late.py")
    (project.folder / "late.py").unlink()
    finished = [folder.parent for folder in (project.folder / ".checkpoints/pretrain").glob("*/finished")]
    assert finished and not any(list(folder.glob("*.ckpt")) for folder in finished)
    project.reset()


def test_two_processes_refuse_to_run_while_the_key_is_locked(project):
    project.set("runtime.num_processes", 2)
    store = project.folder / ".checkpoints/distill-kd"
    before = set(store.glob("*/finished"))
    two = project.stage("distill", "kd")  # another key: the number of processes is part of it
    (finished,) = set(store.glob("*/finished")) - before
    assert "epoch 2/2" in two.stdout
    finished.rename(finished.with_name("aside"))  # so that it must be trained
    with FileLock(f"{finished.parent}.lock"):
        done = project.stage("distill", "kd", ok=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert any(
        "another run of distill-kd with the same key is in progress: run the same command again" in line
        for line in lines
    )
    project.reset()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends child processes with their parent")
def test_ranks_end_when_the_stage_that_started_them_is_killed(project):
    project.set("runtime.num_processes", 2)
    set_new_run(project, epochs=20)
    command = [sys.executable, "-u", "-m", "stages.distill", "orc"]
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    process.kill()
    process.stdout.read()  # returns when every rank has exited
    resumed = project.stage("distill", "orc").stdout
    assert "resuming from checkpoint" in resumed and "epoch 1/" not in resumed
    project.reset()


@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_two_interrupted_processes_report_one_error_and_resume(project, how):
    """SIGTERM is sent to the stage, SIGKILL to one of its ranks."""
    project.set("runtime.num_processes", 2)
    set_new_run(project, epochs=12 + how)
    command = [sys.executable, "-u", "-m", "stages.distill", "orc"]
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    if how == signal.SIGTERM:
        process.send_signal(how)
    else:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), how)
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    if how == signal.SIGTERM:
        assert process.returncode == 130 and "error: stopped by SIGTERM: run the same command again" in stderr
    else:
        assert process.returncode == 1 and "of 2 was killed by SIGKILL: run the same command again" in stderr
    resumed = project.stage("distill", "orc").stdout
    assert "resuming from checkpoint" in resumed and "epoch 1/" not in resumed
    project.reset()


@pytest.mark.parametrize("how", ["repro", pytest.param("exp run --temp", marks=pytest.mark.long)])
def test_killed_dvc_command_resumes_to_the_uninterrupted_result(project, how):
    """SIGKILL ends DVC and its stage while a method trains. The same command then resumes it."""
    epochs = 16 if how == "repro" else 18  # runs without a checkpoint in the store
    if how == "repro":
        project.set("train.epochs", epochs)
        command = [sys.executable, "-m", "dvc", "repro", "distill@orc"]
    else:
        command = [
            sys.executable,
            "-m",
            "dvc",
            *how.split(),
            "-n",
            "killed",
            "-S",
            f"train.epochs={epochs}",
            "distill@orc",
        ]
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if "distill-orc seed 0: epoch 3/" in line:
            break
    else:
        raise AssertionError("the run ended before it was killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    resumed = project.run(*command)
    assert "resuming from checkpoint" in resumed.stdout + resumed.stderr
    assert "distill-orc seed 0: epoch 1/" not in resumed.stdout + resumed.stderr
    if how != "repro":
        project.dvc("exp", "apply", "killed")
    students = project.folder / "models/students/orc"
    killed = {file.name: file.read_bytes() for file in students.rglob("*.safetensors")}
    history = (project.folder / "results/train/orc/history.csv").read_bytes()
    with project.empty_store("distill-orc"):
        project.stage("distill", "orc")
    assert {file.name: file.read_bytes() for file in students.rglob("*.safetensors")} == killed
    assert (project.folder / "results/train/orc/history.csv").read_bytes() == history
    project.reset()
