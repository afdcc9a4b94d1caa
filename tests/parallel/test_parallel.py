"""`stages.parallel` leaves what `dvc repro` leaves, whatever is killed or fails on the way."""

import os
import signal
import subprocess
import sys
import time

import pytest
from project import BIN, ENVIRONMENT, ran
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-u", "-m", "stages.parallel"]


def results(project) -> dict[str, bytes]:
    """The weights, histories and metrics of a project; costs are times and differ."""
    names = [*project.folder.glob("models/**/*.safetensors"), *project.folder.glob("results/train/*/history.csv")]
    names += [*project.folder.glob("results/eval/*.json"), *project.folder.glob("results/predictions/*.parquet")]
    return {file.relative_to(project.folder).as_posix(): file.read_bytes() for file in sorted(names)}


def locked(project) -> dict:
    """dvc.lock without the costs."""
    stages = YAML(typ="safe", pure=True).load((project.folder / "dvc.lock").read_text())["stages"]
    for stage in stages.values():
        for out in (*stage.get("outs", []), *stage.get("deps", [])):
            if "results/cost" in out["path"]:
                out.pop("md5", None), out.pop("size", None)
    return stages


def start(project, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=project.folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_for(file, words: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if file.exists() and words in file.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{file} does not say {words!r}: {file.read_text() if file.exists() else 'it is missing'}")


def trained_alone(project, folder) -> dict[str, bytes]:
    """The results of a fresh clone of a project's commit, by `dvc repro`."""
    alone = project.clone(folder)
    alone.dvc("repro", "distill", "evaluate")
    return results(alone)


@pytest.fixture(scope="module")
def many_seeds(project, tmp_path_factory):
    """A project with two seeds and enough epochs to be killed in, and its results by `dvc repro`."""
    copy = project.clone(tmp_path_factory.mktemp("many") / "project")
    copy.set("seeds", [0, 1])
    copy.set("train.epochs", 10)
    (copy.folder / "dvc.lock").unlink()
    copy.commit()
    return copy, trained_alone(copy, tmp_path_factory.mktemp("alone") / "project")


def test_the_results_are_those_of_dvc_repro_bit_for_bit(many_seeds, tmp_path):
    project, expected = many_seeds
    parallel = project.clone(tmp_path / "parallel")
    done = parallel.run(*COMMAND, "--jobs", "2", "distill", "evaluate")
    assert "8 of 8 stages are up to date" in done.stdout and "2 workers" in done.stdout
    assert results(parallel) == expected
    assert ran(parallel.dvc("repro", "distill", "evaluate").stdout) == []
    again = parallel.run(*COMMAND, "distill", "evaluate")
    assert "8 of 8 stages are up to date" in again.stdout
    logs = parallel.folder / "runs/parallel"
    assert "epoch 10/10" in (logs / "distill-orc-seed-1.log").read_text()
    assert "didn't change, skipping" in (logs / "distill@orc.log").read_text()


def test_a_killed_command_goes_on_from_the_checkpoints(many_seeds, tmp_path):
    """SIGKILL ends the command and all its processes at once, then Ctrl-C ends the command alone."""
    project, expected = many_seeds
    parallel = project.clone(tmp_path / "parallel")
    log = parallel.folder / "runs/parallel/distill-orc-seed-0.log"
    process = start(parallel, "--jobs", "2", "distill", "evaluate")
    wait_for(log, "epoch 3/10")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    log.unlink()
    process = start(parallel, "--jobs", "2", "distill", "evaluate")
    wait_for(log, "resuming from checkpoint")
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1:] == ["error: stopped: run the same command again to go on from the checkpoints"]
    assert "Traceback" not in errors
    parallel.run(*COMMAND, "--jobs", "2", "distill", "evaluate")
    assert results(parallel) == expected


def test_a_cluster_of_the_user_is_used_and_a_killed_worker_is_replaced(many_seeds, tmp_path):
    project, expected = many_seeds
    parallel = project.clone(tmp_path / "parallel")
    address = tmp_path / "scheduler.json"
    dask = [str(BIN / "dask")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT, "cwd": tmp_path}
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address)],
        **quiet,
    )
    worker = [*dask, "worker", "--scheduler-file", str(address), "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]
    try:
        wait_for(address, "tcp://")
        where = next(word for word in address.read_text().split('"') if word.startswith("tcp://"))
        process = start(parallel, "--scheduler", where, "distill", "evaluate")
        wait_for(parallel.folder / "runs/parallel/distill-orc-seed-0.log", "epoch 3/10")
        workers[0].kill()
        out, errors = process.communicate(timeout=400)
        assert process.returncode == 0, out + errors
    finally:
        for started in (*workers, scheduler):
            started.kill()
            started.wait()
    assert results(parallel) == expected


def test_a_stage_that_fails_stops_what_needs_it_and_nothing_else(many_seeds, tmp_path):
    project, _ = many_seeds
    parallel = project.clone(tmp_path / "parallel")
    parallel.set("train.epochs", 1)
    orc = parallel.folder / "pipeline/methods/orc.py"
    orc.write_text(orc.read_text() + "\nfrom pipeline.errors import UserError\n\nraise UserError('orc is broken')\n")
    done = parallel.run(*COMMAND, "--jobs", "2", "evaluate", "report", ok=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: distill@orc: orc is broken" in done.stderr.splitlines()
    assert "error: not run, because they need what failed: evaluate@orc, report" in done.stderr.splitlines()
    assert (parallel.folder / "runs/parallel/evaluate@kd.log").exists()
    assert not (parallel.folder / "runs/parallel/evaluate@orc.log").exists()


def test_mistakes_on_the_command_line_are_one_line(project):
    for arguments, said in (
        (["distil"], "'distil' is not a stage of dvc.yaml"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler: no Dask scheduler answers at tcp://127.0.0.1:1"),
        (["--memory-per-job", "1000000"], "--memory-per-job: 1e+06 GiB do not fit"),
    ):
        done = project.run(*COMMAND, *arguments, ok=False)
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == 1 and said in done.stderr, done.stderr
