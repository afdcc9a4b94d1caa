"""A worker's commands have the environment of the command line, without what Dask sets for its own workers."""

from pathlib import Path

import pytest

from pipeline.parallel.cluster import connect
from pipeline.parallel.worker import TRIM, Task, by_value, run_task

ROOT = Path(__file__).parents[2]
PAGES = 1024  # of 4 KiB in a tensor
STEPS = 100
CODE = f"""
import os, resource, torch
from pipeline.runtime.launch import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory()
torch.ones({PAGES}, 1024)
before = faults()
for _ in range({STEPS}):
    torch.ones({PAGES}, 1024)
print(os.environ.get({TRIM!r}), faults() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, "131072"])
def test_a_training_in_a_worker_keeps_freed_memory_unless_the_user_says_otherwise(tmp_path, monkeypatch, own):
    monkeypatch.delenv(TRIM, raising=False)
    if own is not None:
        monkeypatch.setenv(TRIM, own)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").touch()
    (tmp_path / "stages/command.py").write_text(CODE)
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    task = Task("allocate", "stages.command", (), str(tmp_path), threads=1)
    with connect(None, jobs=1, threads=1, jobs_per_gpu=1, memory_per_job=0.1) as cluster:
        assert cluster.client.submit(by_value(run_task, task)).result() == (0, [])
    threshold, faults = (tmp_path / "runs/parallel/allocate.log").read_text().split()
    assert threshold == str(own)
    if own is None:
        assert int(faults) < PAGES * STEPS / 10
