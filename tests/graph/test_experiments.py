"""Sweeps and extra seeds in DVC's queue, and sharing results through a folder remote and an S3 remote."""

import json
import os
import subprocess
import sys
import time

import polars as pl
import pytest
from project import BIN, ENVIRONMENT, ran

pytestmark = pytest.mark.slow


def experiments(project) -> pl.DataFrame:
    file = project.folder / "experiments.csv"
    file.write_text(project.dvc("exp", "show", "--csv").stdout)
    frame = pl.read_csv(file).filter(pl.col("rev") != "workspace")  # as in docs/experiments.md
    file.unlink()
    return frame


def wait_for_queue(project) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        status = project.dvc("queue", "status").stdout
        if "Running" not in status.split("Worker status")[0] and "Queued" not in status:
            assert "Failed" not in status, status + project.dvc("queue", "logs", "-n", "50", ok=False).stdout
            return
        time.sleep(2)
    raise AssertionError("the queue did not finish in time")


def test_queued_sweep_runs_in_a_fresh_clone(project, tmp_path):
    copy = project.clone(tmp_path / "clone")
    copy.dvc("cache", "dir", "--local", str(project.folder / ".dvc/cache"))  # shares the prepared data and the teacher
    copy.dvc("exp", "run", "--queue", "-S", "orc.beta=choice(0.4,0.6)")
    copy.dvc("queue", "start", "-j", "2")
    wait_for_queue(copy)
    frame = experiments(copy).drop_nulls("Experiment")
    assert sorted(frame["orc.beta"].cast(pl.Float64).to_list()) == [0.4, 0.6]
    assert frame["orc.top1"].null_count() == 0


@pytest.mark.long
def test_queued_experiment_with_more_seeds_reuses_the_finished_seed(project):
    project.dvc("exp", "run", "--queue", "-n", "more-seeds", "-S", "seeds=[0,3]", "distill@orc")
    project.dvc("queue", "start")
    wait_for_queue(project)
    logs = project.dvc("queue", "logs", "more-seeds").stdout
    assert "distill-orc seed 0: already trained" in logs and "distill-orc seed 3: epoch 2/2" in logs
    project.dvc("exp", "remove", "-A")


@pytest.mark.long
def test_pull_from_a_folder_remote_reruns_no_stage(project, tmp_path):
    push_and_pull(project, tmp_path, str(tmp_path / "remote"))


def test_pull_from_an_s3_remote_reruns_no_stage(project, tmp_path):
    """The remote is a local S3 server (moto)."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    server = subprocess.Popen(
        [str(BIN / "moto_server"), "-p", "0"], stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, **keys}
    )
    assert server.stderr is not None
    try:
        line = next(line for line in server.stderr if "Running on" in line)
        url = line.split("Running on")[1].strip()
        make = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket='group')"
        subprocess.run([sys.executable, "-c", make, url], check=True, env={**os.environ, **keys})
        push_and_pull(
            project, tmp_path, "s3://group/distillation", endpointurl=url, access_key_id="a", secret_access_key="b"
        )
    finally:
        server.terminate()
        server.wait()


def push_and_pull(project, tmp_path, address: str, **options: str) -> None:
    """Push to a remote. In a second clone `dvc repro --pull` runs no stage and fetches all outputs."""

    def add(where):
        where.dvc("remote", "add", "--local", "-f", "-d", "storage", address)
        for key, value in options.items():
            where.dvc("remote", "modify", "--local", "storage", key, value)

    add(project)
    project.dvc("push", "-q")
    copy = project.clone(tmp_path / "second")
    add(copy)
    done = copy.dvc("repro", "--pull")
    assert ran(done.stdout) == []
    for out in ("models/students/orc/seed-0/networks.json", "results/report.html", "models/export/model.onnx"):
        assert (copy.folder / out).is_file()
    summary = json.loads((copy.folder / "results/summary.json").read_text())
    assert summary == json.loads((project.folder / "results/summary.json").read_text())
    project.dvc("remote", "remove", "--local", "storage")
