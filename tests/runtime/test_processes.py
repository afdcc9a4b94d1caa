"""Two processes that share a global batch train the same networks as one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import METHODS

from pipeline.storage.checkpoints import Checkpoint

SCRIPT = Path(__file__).parents[1] / "support" / "two_processes.py"
PATHS = (SCRIPT.parent, SCRIPT.parents[2])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS)), "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
FEW = ("kd", "dml", "orc")


def trained(out: Path, names=METHODS) -> dict[str, dict]:
    return {name: torch.load(out / f"{name}.pt", weights_only=True) for name in names}


def run(command: list[str], out: Path, dtype: str, *names: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*command, str(SCRIPT), str(out), dtype, *names],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def gap(one: dict, other: dict) -> float:
    """The largest absolute difference between the weights of two runs."""
    assert one["networks"].keys() == other["networks"].keys()
    gaps = [0.0]
    for name, states in one["networks"].items():
        for which, state in states.items():
            gaps += [float((v - other["networks"][name][which][k]).abs().max()) for k, v in state.items()]
    return max(gaps)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """The results of every method in float64, trained by one process and by two."""
    outs = []
    for command in ([sys.executable], TORCHRUN):
        out = tmp_path_factory.mktemp("out")
        subprocess.run([*command, str(SCRIPT), str(out), "float64"], check=True, timeout=300, env=ENVIRONMENT)
        outs.append(trained(out))
    return outs


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(one_and_two, name):
    one, two = one_and_two[0][name], one_and_two[1][name]
    assert gap(one, two) < 1e-12
    assert [row[:4] for row in one["rows"]] == [row[:4] for row in two["rows"]]
    for a, b in zip(one["rows"], two["rows"]):
        assert a[4] == pytest.approx(b[4], rel=1e-5, abs=1e-7), a
    assert one["passes"] == two["passes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["orc", "orc options"])
def test_promotions_and_feedback_of_orc_equal_those_of_one_process(one_and_two, name):
    def roles(run):
        return [row for row in run[name]["rows"] if row[3].split("/")[0] in ("promoted", "feedback")]

    assert len(roles(one_and_two[0])) > 0
    assert roles(one_and_two[0]) == roles(one_and_two[1])


@pytest.mark.slow
def test_switokd_pauses_its_teacher_in_two_processes_as_in_one(tmp_path):
    for name, command in (("one", [sys.executable]), ("two", TORCHRUN)):
        (tmp_path / name).mkdir()
        done = run(command, tmp_path / name, "float64", "switokd", EPOCHS="30")
        assert done.returncode == 0, done.stderr
    one, two = (trained(tmp_path / name, ["switokd"])["switokd"] for name in ("one", "two"))
    paused = [[row[4] for row in run["rows"] if row[3] == "paused"] for run in (one, two)]
    assert paused[0] == paused[1] and 0 < sum(paused[0]) < len(paused[0])
    assert gap(one, two) < 1e-10


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_equal_one_up_to_rounding_in_float32(tmp_path):
    for name, command in (("one", [sys.executable]), ("two", TORCHRUN)):
        (tmp_path / name).mkdir()
        done = run(command, tmp_path / name, "float32", *FEW)
        assert done.returncode == 0, done.stderr
    one, two = (trained(tmp_path / name, FEW) for name in ("one", "two"))
    assert all(gap(one[name], two[name]) < 1e-4 for name in FEW)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cooperative", "learners"])
def test_independently_trained_members_are_bitwise_equal_in_two_processes(tmp_path, method):
    """One rank trains each member on whole batches, so even BatchNorm is equal. A finished rank waits for the other."""
    for name, command in (("one", [sys.executable]), ("two", TORCHRUN)):
        (tmp_path / name).mkdir()
        late = {"LATE": "1:3"} if name == "two" else {}
        done = run(command, tmp_path / name, "float32", method, BATCHNORM="1", **late)
        assert done.returncode == 0, done.stderr
    one, two = (trained(tmp_path / name, [method])[method] for name in ("one", "two"))
    assert gap(one, two) == 0 and one["rows"] == two["rows"] and one["passes"] == two["passes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("orc options", marks=pytest.mark.long), "cooperative"])
def test_killed_rank_ends_the_run_and_the_run_resumes(one_and_two, tmp_path, name):
    killed = run(TORCHRUN, tmp_path, "float64", name, DIE="1:8")
    assert killed.returncode != 0 and "Signal 9 (SIGKILL)" in killed.stderr
    assert "timed out" not in killed.stderr.lower()  # the other rank was ended, it did not wait for the collective
    assert not (tmp_path / f"{name}.pt").exists() and list((tmp_path / "store" / name).glob("*.ckpt"))
    resumed = run(TORCHRUN, tmp_path, "float64", name)
    assert resumed.returncode == 0, resumed.stderr
    actual, expected = trained(tmp_path, [name])[name], one_and_two[1][name]
    assert gap(actual, expected) == 0 and actual["rows"] == expected["rows"]
    assert actual["passes"] == expected["passes"]


@pytest.mark.slow
def test_run_killed_within_an_epoch_resumes_with_the_running_statistics_of_each_rank(tmp_path, name="dml eval"):
    """Its learners teach before they learn, with their rank's own BatchNorm statistics of the last step."""
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole = run(TORCHRUN, tmp_path / "whole", "float64", name, BATCHNORM="1")
    assert whole.returncode == 0, whole.stderr
    killed = run(TORCHRUN, tmp_path / "killed", "float64", name, BATCHNORM="1", DIE="1:3")
    assert killed.returncode != 0 and "Signal 9 (SIGKILL)" in killed.stderr
    saved = Checkpoint(tmp_path / "killed/store" / name).load()
    assert saved and (saved["epoch"], saved["step"]) == (1, 1)
    resumed = run(TORCHRUN, tmp_path / "killed", "float64", name, BATCHNORM="1")
    assert resumed.returncode == 0, resumed.stderr
    actual, expected = (trained(tmp_path / folder, [name])[name] for folder in ("killed", "whole"))
    assert gap(actual, expected) == 0 and actual["rows"] == expected["rows"]
    assert actual["passes"] == expected["passes"]


def diverged(out: Path, name: str, not_numbers: str) -> list[dict]:
    """Where each of two ranks says that the run of a method diverged.  not_numbers: RANK:BATCHES, as the script."""
    out.mkdir()
    done = run(TORCHRUN, out, "float64", name, NAN=not_numbers)
    assert done.returncode == 0, done.stderr
    return [json.loads((out / f"{name}.diverged-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "epoch", "step"), [(1, 1, 0), (3, 1, 2), (5, 1, 4)], ids=["checkpoint", "middle", "end"]
)
def test_ranks_report_the_first_loss_that_is_not_finite_on_any_of_them(tmp_path, batch, epoch, step):
    """A checkpoint is due after the first batch, and the fifth ends the epoch: there, rank 0 has seen finite losses."""
    places = diverged(tmp_path / "out", "kd", f"1:{batch}")
    assert places == 2 * [{"network": "student", "term": "ce", "leg": 0, "epoch": epoch, "step": step}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("not_numbers", "leg", "step"), [("0:3", 0, 2), ("1:3", 1, 2), ("1:4,0:12", 1, 3)], ids=["rank 0", "rank 1", "both"]
)
def test_ranks_report_the_first_independent_leg_that_diverges_on_any_of_them(tmp_path, not_numbers, leg, step):
    """Rank 0 trains legs 0 and 2, of ten batches each, and rank 1 trains leg 1."""
    places = diverged(tmp_path / "out", "cooperative", not_numbers)
    assert places == 2 * [{"network": "abc"[leg], "term": "ce", "leg": leg, "epoch": 1, "step": step}]


@pytest.mark.slow
def test_two_nodes_equal_one(one_and_two, tmp_path):
    """Two launchers with a common rendezvous endpoint, as on two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    node = [*TORCHRUN[:3], "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=test", endpoint]
    command = [*node, str(SCRIPT), str(tmp_path), "float64", "orc"]
    nodes = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [node.communicate(timeout=120)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    assert gap(trained(tmp_path, ["orc"])["orc"], one_and_two[0]["orc"]) < 1e-12


@pytest.mark.slow
def test_accelerate_launch_is_bitwise_equal_to_torchrun(one_and_two, tmp_path):
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes=2",
        "--num_machines=1",
    ]
    done = run([*launch, "--mixed_precision=no", "--dynamo_backend=no"], tmp_path, "float64", "kd")
    assert done.returncode == 0, done.stderr
    assert gap(trained(tmp_path, ["kd"])["kd"], one_and_two[1]["kd"]) == 0
