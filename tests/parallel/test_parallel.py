"""`stages.parallel` leaves what `dvc repro` leaves, whatever is killed or fails on the way."""

import os
import signal
import subprocess
import time

import pytest
from distributed import LocalCluster
from parallel_runs import COMMAND, locked, results
from project import BIN, ENVIRONMENT, ROOT, ran

from pipeline.errors import ParamsError, UserError
from pipeline.parallel.cluster import connect
from pipeline.parallel.graph import read_graph

pytestmark = pytest.mark.slow


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


@pytest.fixture(scope="module")
def many_seeds(project, tmp_path_factory):
    """A project with two seeds and enough epochs to be killed in, and a clone of it that `dvc repro` has run."""
    copy = project.clone(tmp_path_factory.mktemp("many") / "project")
    copy.set("seeds", [0, 1])
    copy.set("train.epochs", 6)
    (copy.folder / "dvc.lock").unlink()
    copy.commit()
    alone = copy.clone(tmp_path_factory.mktemp("alone") / "project")
    alone.dvc("repro", "distill", "evaluate")
    return copy, alone


def test_the_results_are_those_of_dvc_repro_bit_for_bit(many_seeds, tmp_path):
    project, alone = many_seeds
    parallel = project.clone(tmp_path / "parallel")
    done = parallel.run(*COMMAND, "--jobs", "2", "distill", "evaluate")
    assert "8 of 8 stages are up to date" in done.stdout and "2 workers" in done.stdout
    assert results(parallel) == results(alone) and locked(parallel) == locked(alone)
    assert ran(parallel.dvc("repro", "distill", "evaluate").stdout) == []
    again = parallel.run(*COMMAND, "distill", "evaluate")
    assert "8 of 8 stages are up to date" in again.stdout
    logs = parallel.folder / "runs/parallel"
    assert "epoch 6/6" in (logs / "distill-orc-seed-1.log").read_text()
    assert "didn't change, skipping" in (logs / "distill@orc.log").read_text()


def test_a_killed_command_goes_on_from_the_checkpoints(many_seeds, tmp_path):
    """SIGKILL ends the command and all its processes at once, then Ctrl-C ends the command alone."""
    project, alone = many_seeds
    parallel = project.clone(tmp_path / "parallel")
    log = parallel.folder / "runs/parallel/distill-orc-seed-0.log"
    process = start(parallel, "--jobs", "2", "distill")
    wait_for(log, "epoch 2/6")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    log.unlink()
    process = start(parallel, "--jobs", "2", "distill")
    wait_for(log, "resuming from checkpoint")
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1:] == ["error: stopped: run the same command again to go on from the checkpoints"]
    assert "Traceback" not in errors
    parallel.run(*COMMAND, "--jobs", "2", "distill")
    assert results(parallel, evaluated=False) == results(alone, evaluated=False)


def test_a_cluster_of_the_user_is_used_and_a_killed_worker_is_replaced(many_seeds, tmp_path):
    project, alone = many_seeds
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
        process = start(parallel, "--scheduler", where, "distill")
        wait_for(parallel.folder / "runs/parallel/distill-orc-seed-0.log", "epoch 2/6")
        workers[0].kill()
        out, errors = process.communicate(timeout=400)
        assert process.returncode == 0, out + errors
    finally:
        for started in (*workers, scheduler):
            started.kill()
            started.wait()
    assert results(parallel, evaluated=False) == results(alone, evaluated=False)


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


def test_mistakes_on_the_command_line_are_one_line():
    def connected(address=None, memory=None) -> None:
        with connect(address, jobs=1, threads=1, jobs_per_gpu=1, memory_per_job=memory):
            raise AssertionError("it connected")

    with pytest.raises(UserError, match=r"^--scheduler: no Dask scheduler answers at tcp://127\.0\.0\.1:1 \("):
        connected(address="tcp://127.0.0.1:1")
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as several,
        pytest.raises(UserError, match=r"^--scheduler: the worker \S+ has 2 threads, .*: start it with --nthreads 1$"),
    ):
        connected(address=several.scheduler_address)
    with pytest.raises(ParamsError, match=r"^--memory-per-job: 1e\+06 GiB do not fit into this machine's free memory$"):
        connected(memory=1e6)
    with pytest.raises(ParamsError, match=r"^'distil' is not a stage of dvc\.yaml; `dvc stage list` lists them$"):
        read_graph(ROOT, ["distil"])


def test_several_processes_are_refused_in_one_line(project):
    project.set("runtime.num_processes", 2)
    done = project.run(*COMMAND, ok=False)
    project.reset()
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "runtime.num_processes: must be 1 for stages.parallel" in done.stderr


def test_the_graph_is_dvcs_in_an_order_in_which_it_can_run():
    nodes = read_graph(ROOT, ["report"])
    order = list(nodes)
    assert all(order.index(need) < order.index(name) for name, node in nodes.items() for need in node.needs)
    assert {name for name, node in nodes.items() if node.trains} == {
        name for name in nodes if name.split("@")[0] in ("pretrain", "assist-takd", "assist-dgkd", "members", "distill")
    }
    assert "report" in nodes["check"].below and "export" not in nodes
