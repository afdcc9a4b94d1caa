"""Two processes on the same global batch end as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import METHODS

SCRIPT = Path(__file__).parents[1] / "support" / "two_processes.py"
PLACES = (SCRIPT.parent, SCRIPT.parents[2])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PLACES)), "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def trained(out: Path) -> dict[str, dict]:
    return {name: torch.load(out / f"{name}.pt", weights_only=True) for name in METHODS}


def gap(one: dict, other: dict) -> float:
    """The largest difference between two runs' weights."""
    assert one["networks"].keys() == other["networks"].keys()
    gaps = [0.0]
    for name, states in one["networks"].items():
        for which, state in states.items():
            gaps += [float((v - other["networks"][name][which][k]).abs().max()) for k, v in state.items()]
    return max(gaps)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Every method in float64, by one process and by two."""
    outs = []
    for command in ([sys.executable], TORCHRUN):
        out = tmp_path_factory.mktemp("out")
        subprocess.run([*command, str(SCRIPT), str(out), "float64"], check=True, timeout=300, env=ENVIRONMENT)
        outs.append(trained(out))
    return outs


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(both, name):
    one, two = both[0][name], both[1][name]
    assert gap(one, two) < 1e-12
    assert [row[:4] for row in one["rows"]] == [row[:4] for row in two["rows"]]
    for a, b in zip(one["rows"], two["rows"]):
        assert a[4] == pytest.approx(b[4], rel=1e-5, abs=1e-7), a


@pytest.mark.slow
def test_elections_and_feedback_are_the_same_in_both(both):
    def roles(run):
        return [row for row in run["orc"]["rows"] if row[3].split("/")[0] in ("promoted", "feedback")]

    assert len(roles(both[0])) > 0
    assert roles(both[0]) == roles(both[1])
