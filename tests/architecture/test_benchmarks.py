"""The benchmarks run: nothing else would notice that they call the training loop as it was."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_benchmark_measures_the_training_loop_of_today():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "host", "--repeats", "1"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith("overhead of the training loop, resnet20: ")
