"""A run that is killed repeatedly at random moments ends bitwise equal to the uninterrupted run.

The long version is KILLS=720 pytest tests/training/test_kills.py -s -n 0 (docs/reliability.md).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import METHODS, OF_KINDS, RECIPES

SCRIPT = Path(__file__).parents[1] / "support" / "kills.py"
KILLS = int(os.environ.get("KILLS", "18"))
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(map(str, (SCRIPT.parent, SCRIPT.parents[2]))),
    "OMP_NUM_THREADS": "1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*METHODS, *OF_KINDS, *RECIPES])
def test_run_killed_at_random_moments_resumes_to_the_uninterrupted_result(tmp_path, name):
    wanted = -(-KILLS // len([*METHODS, *RECIPES]))
    command = [sys.executable, str(SCRIPT), str(tmp_path), name, str(wanted), os.environ.get("KILLS_SEED", "0")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{name}: {counts}")
    assert counts["kills"] >= wanted
    assert counts["different"] == 0
