"""Real runs that are stopped or killed, alone, in two processes and under DVC, and go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from project import ENVIRONMENT

pytestmark = pytest.mark.slow


def unseen(project, epochs: int) -> None:
    """Make distill@orc a run that the store has not seen, ready to start."""
    project.set("train.epochs", epochs)  # the guides that are there will do
    project.stage("check")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_stopped_goes_on_and_ends_as_if_it_had_not_been(project, how):
    def outs():
        students = project.folder / "models/students/orc"
        files = [*students.rglob("*.safetensors"), project.folder / "results/train/orc/history.csv"]
        return {f.relative_to(project.folder).as_posix(): f.read_bytes() for f in files}

    unseen(project, epochs=12 + how)
    command = [sys.executable, "-u", "-m", "stages.distill", "orc"]
    process = subprocess.Popen(
        command, cwd=project.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    time.sleep(0.05)
    process.send_signal(how)
    out, said = process.communicate(timeout=60)
    assert process.returncode != 0
    if how != signal.SIGKILL:
        assert f"error: stopped by {how.name}: run the same command again" in said and "Traceback" not in said
    assert "epoch 12/" not in out
    resumed = project.stage("distill", "orc").stdout
    assert "going on from the checkpoint" in resumed and "epoch 1/" not in resumed
    killed = outs()
    store = project.folder / ".checkpoints/distill-orc"
    os.rename(store, store.with_name(f"kept-{how}"))
    project.stage("distill", "orc")
    assert outs() == killed
    project.reset()


def test_two_processes_say_one_line_for_a_mistake(project):
    project.set("runtime.num_processes", 2)
    prepared = project.folder / "data/prepared"
    prepared.rename(prepared.with_name("hidden"))
    done = project.stage("distill", "kd", ok=False)
    prepared.with_name("hidden").rename(prepared)
    assert done.returncode == 1
    assert set(done.stderr.splitlines()) == {
        f"error: data/prepared/meta.json is missing: run `python -m stages.prepare` (or dvc repro){where}"
        for where in ("", " (process 1)")
    }
    project.reset()


LATE = """
import time
from datetime import timedelta
from pipeline.core import launch
from pipeline.core.checkpoint import Checkpoint
from stages.command import command
from stages.pretrain import main

def late(plain, seconds):
    def wait(self, what):
        there = self.files()
        time.sleep(seconds)
        assert self.files() == there
        plain(self, what)
    return wait

launch.timedelta = lambda minutes: timedelta(seconds=3)  # for how long a process waits for another
Checkpoint.save, Checkpoint.finish = late(Checkpoint.save, 0.5), late(Checkpoint.finish, 8)
command(main)
"""


def test_a_process_that_ends_first_waits_and_leaves_the_checkpoints_of_one_that_has_not(project):
    project.set("train.epochs", 3)  # a run that the store has not seen
    project.stage("check")
    (project.folder / "late.py").write_text(LATE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    project.run(*torchrun, "late.py")
    (project.folder / "late.py").unlink()
    finished = [folder.parent for folder in (project.folder / ".checkpoints/pretrain").glob("*/finished")]
    assert finished and not any(list(folder.glob("*.ckpt")) for folder in finished)
    project.reset()


def test_two_processes_that_meet_another_run_of_the_key_refuse(project):
    project.set("runtime.num_processes", 2)
    store = project.folder / ".checkpoints/distill-kd"
    before = set(store.glob("*/finished"))
    two = project.stage("distill", "kd")  # another key: the number of processes is part of it
    (finished,) = set(store.glob("*/finished")) - before
    assert "epoch 2/2" in two.stdout
    with FileLock(f"{finished.parent}.lock"):
        done = project.stage("distill", "kd", ok=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert any("another run of distill-kd with the same key is under way: when it has ended" in line for line in lines)
    project.reset()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let processes live on")
def test_processes_end_with_the_stage_that_started_them(project):
    project.set("runtime.num_processes", 2)
    unseen(project, epochs=20)
    command = [sys.executable, "-u", "-m", "stages.distill", "orc"]
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    process.kill()
    process.stdout.read()  # until no process has it open
    resumed = project.stage("distill", "orc").stdout
    assert "going on from the checkpoint" in resumed and "epoch 1/" not in resumed
    project.reset()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_that_are_stopped_say_so_and_go_on(project, how):
    """SIGTERM to the stage; SIGKILL to one of its processes."""
    project.set("runtime.num_processes", 2)
    unseen(project, epochs=12 + how)
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
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    if how == signal.SIGTERM:
        assert process.returncode == 130 and "error: stopped by SIGTERM: run the same command again" in said
    else:
        assert process.returncode == 1 and "of 2 was killed by SIGKILL: run the same command again" in said
    resumed = project.stage("distill", "orc").stdout
    assert "going on from the checkpoint" in resumed and "epoch 1/" not in resumed
    project.reset()


@pytest.mark.parametrize("how", ["repro", "exp run --temp"])
def test_a_killed_graph_goes_on_and_ends_as_if_it_had_not_been(project, how):
    """SIGKILL to DVC and its stage, in the middle of a method; the same command again."""
    epochs = 16 if how == "repro" else 18  # runs that the store has not seen
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
    assert "going on from the checkpoint" in resumed.stdout + resumed.stderr
    assert "distill-orc seed 0: epoch 1/" not in resumed.stdout + resumed.stderr
    if how != "repro":
        project.dvc("exp", "apply", "killed")
    students = project.folder / "models/students/orc"
    killed = {file.name: file.read_bytes() for file in students.rglob("*.safetensors")}
    history = (project.folder / "results/train/orc/history.csv").read_bytes()
    shutil.rmtree(project.folder / ".checkpoints/distill-orc")
    project.stage("distill", "orc")
    assert {file.name: file.read_bytes() for file in students.rglob("*.safetensors")} == killed
    assert (project.folder / "results/train/orc/history.csv").read_bytes() == history
    project.reset()
