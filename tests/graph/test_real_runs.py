"""The real thing, small: `dvc repro`, an experiment, more seeds, a mistake."""

import json

import pytest
from project import ran

pytestmark = pytest.mark.slow


def test_the_first_run_ends_with_the_table(project):
    assert {"check", "prepare", "pretrain", "distill@kd", "distill@orc", "report"} <= set(ran(project.first))
    table = project.first[project.first.index("Methods:") :]
    assert "kd" in table and "orc" in table and "n=1 seed" in table
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert set(summary) == {"kd", "orc"} and 0 <= summary["orc"]["top1"] <= 100


def test_a_second_run_runs_nothing(project):
    assert ran(project.dvc("repro").stdout) == []


def test_an_experiment_runs_one_method_and_its_metrics_differ_in_one_row(project):
    done = project.dvc("exp", "run", "-S", "orc.beta=0.5")
    assert ran(done.stdout) == ["check", "distill@orc", "evaluate@orc", "report"]
    difference = json.loads(project.dvc("metrics", "diff", "--json").stdout)["results/summary.json"]
    assert {key.split(".")[0] for key in difference} == {"orc"}
    shown = project.dvc("metrics", "diff").stdout
    assert "orc.top1" in shown and "kd.top1" not in shown
    project.reset()


def test_one_more_seed_trains_one_more_seed(project):
    done = project.dvc("exp", "run", "-S", "seeds=[0,1]")
    for method in ("kd", "orc"):
        assert f"distill-{method} seed 0: already trained" in done.stdout
        assert f"distill-{method} seed 1: epoch 2/2" in done.stdout
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert summary["kd"]["n"] == 2 and set(summary["kd"]["seeds"]) == {"0", "1"}
    project.reset()


def test_a_temporary_experiment_shares_the_checkpoint_store(project):
    done = project.dvc("exp", "run", "--temp", "-S", "seeds=[0,2]", "distill@orc")
    assert "distill-orc seed 0: already trained" in done.stdout + done.stderr
    assert "distill-orc seed 2: epoch 2/2" in done.stdout + done.stderr


def test_a_typo_stops_everything_and_deletes_nothing(project):
    models = sorted((project.folder / "models").rglob("*.safetensors"))
    done = project.dvc("exp", "run", "-S", "orc.beta=wrong", ok=False)
    assert done.returncode != 0
    assert "error: params.yaml: orc.beta: must be a valid number, got 'wrong'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted((project.folder / "models").rglob("*.safetensors")) == models
    project.reset()
