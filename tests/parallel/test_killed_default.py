"""The default run by `stages.parallel`, killed at random moments, ends like an undisturbed `dvc repro`, bit for bit.

It takes a quarter of an hour, so it runs only by hand: PARALLEL_KILLS=10 pytest tests/parallel/test_killed_default.py
-s -n 0 (docs/parallel.md).
"""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from parallel_runs import COMMAND, locked, results
from project import ENVIRONMENT, Project, ran

KILLS = int(os.environ.get("PARALLEL_KILLS", "0"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(KILLS == 0, reason="set PARALLEL_KILLS to the number of kills"),
]


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The Dask workers, and the processes that fork for them."""
    below = [child for child in process.children(recursive=True) if child.is_running()]
    commands = {child: " ".join(child.cmdline()) for child in below if child.status() != psutil.STATUS_ZOMBIE}
    return [child for child, words in commands.items() if "spawn_main" in words or "fork_server" in words]


def test_the_default_killed_at_random_moments_ends_like_dvc_repro(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = Project(tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    killed = Project(tmp_path / "killed")
    started = time.monotonic()
    process = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=whole.folder, env=ENVIRONMENT, check=False)
    assert process.returncode == 0
    seconds = time.monotonic() - started
    draw = random.Random(0)
    counts = {"command": 0, "worker": 0}
    process = None
    while process is None or process.poll() != 0:
        if process is None or process.poll() is not None:
            process = subprocess.Popen([*COMMAND, "--jobs", "2"], cwd=killed.folder, env=ENVIRONMENT)
        if sum(counts.values()) == KILLS:
            assert process.wait(timeout=1800) == 0
            break
        time.sleep(draw.uniform(0.1, 1.0) * seconds / KILLS)
        targets = workers_of(psutil.Process(process.pid)) if process.poll() is None else []
        if targets and draw.random() < 0.5:
            draw.choice(targets).send_signal(signal.SIGKILL)
            counts["worker"] += 1
        elif targets:
            process.kill()
            process.wait()
            counts["command"] += 1
    assert sum(counts.values()) == KILLS, "it ended before it was killed as often as asked for"
    print(f"\nkilled: {counts}, dvc repro took {seconds:.0f} s")
    assert results(killed) == results(whole)
    assert locked(killed) == locked(whole)
    assert ran(killed.dvc("repro").stdout) == []
