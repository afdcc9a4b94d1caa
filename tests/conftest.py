"""One thread for every test (spinning threads on shared cores make nothing faster), and small real runs."""

import os
import sys
from pathlib import Path

import pytest
from first_run import project as project  # the fixture

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture
def toy(tmp_path):
    """Runs that share data and the weights of a chain."""
    from toy_run import ToyRuns

    return ToyRuns(tmp_path)
