"""One thread for every test (spinning threads on shared cores make nothing faster), small real runs, their order."""

import os
import sys
from pathlib import Path

import pytest
from first_run import project as project  # the fixture

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))


def pytest_collection_modifyitems(items):
    """Slow files first, so that quick ones fill the end, and one file that uses the shared project before all others.

    While its worker creates the project, the others run files that do not need it.
    """
    shared = {item.path for item in items if "project" in item.fixturenames}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    first = next((item.path for item in items if item.path in shared & slow), None)
    items.sort(key=lambda item: (item.path != first, item.path not in slow, item.path in shared))


@pytest.fixture
def toy(tmp_path):
    """Runs that share data and the weights of a chain."""
    from toy_run import ToyRuns

    return ToyRuns(tmp_path)
