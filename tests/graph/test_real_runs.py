"""Real runs of a small project: `dvc repro`, experiments, more seeds, and a typo."""

import json
import sys

import pytest
from project import ran

pytestmark = pytest.mark.slow


def test_first_repro_prints_the_table_of_methods(project):
    assert {"check", "prepare", "pretrain", "distill@kd", "distill@orc", "report"} <= set(ran(project.first))
    table = project.first[project.first.index("Methods:") :]
    assert "kd" in table and "orc" in table and "n=1 seed" in table
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert set(summary) == {"kd", "orc"} and 0 <= summary["orc"]["top1"] <= 100


def test_a_method_costs_the_teacher_of_its_seed_besides_its_own_run(project):
    (of_teacher,) = json.loads((project.folder / "models/teacher/seed-0/networks.json").read_text())["teacher"][
        "cost"
    ].values()
    for method in ("kd", "orc"):
        summary = json.loads((project.folder / "results/summary.json").read_text())[method]["forward_equivalents"]
        unit = json.loads((project.folder / f"results/cost/{method}.json").read_text())["networks"]["student"]["macs"]
        assert summary["from_nothing"] - summary["given_teacher"] == pytest.approx(of_teacher / unit, abs=1e-3)
        assert summary["given_teacher"] > 3 * 64


def test_second_repro_runs_no_stage(project):
    assert ran(project.dvc("repro").stdout) == []


def test_experiment_reruns_one_method_and_changes_only_its_metrics(project):
    done = project.dvc("exp", "run", "-S", "orc.beta=0.5")
    assert ran(done.stdout) == ["check", "distill@orc", "evaluate@orc", "report", "complete"]
    difference = json.loads(project.dvc("metrics", "diff", "--json").stdout)["results/summary.json"]
    assert {key.split(".")[0] for key in difference} == {"orc"}
    shown = project.dvc("metrics", "diff").stdout
    assert "orc.top1" in shown and "kd.top1" not in shown
    project.reset()


def test_editing_comments_or_messages_reuses_finished_seeds(project):
    """DVC reruns the stages, but they find their seeds in the checkpoint store, and the cached logits stay valid."""
    stored = sorted((project.folder / ".logits").iterdir())
    for file, old, new in (
        ("pipeline/training/loop.py", "# The losses of", "# Losses of"),
        ("pipeline/training/run.py", "out of memory on", "no memory left on"),
    ):
        text = (project.folder / file).read_text()
        assert old in text
        (project.folder / file).write_text(text.replace(old, new))
    done = project.dvc("repro", "distill@kd", "distill@orc")
    assert {"pretrain", "distill@kd", "distill@orc"} <= set(ran(done.stdout))
    assert "epoch" not in done.stdout and done.stdout.count("already trained") == len(ran(done.stdout))
    assert sorted((project.folder / ".logits").iterdir()) == stored
    project.reset()


def test_editing_the_progress_display_reruns_no_stage(project):
    with (project.folder / "pipeline/progress.py").open("a") as file:
        file.write("\n\nWIDTH = 80\n")
    assert ran(project.dvc("repro").stdout) == []
    project.reset()


def test_one_teacher_for_all_seeds_and_back_finds_the_trained_seeds_and_their_guides(project):
    """The teacher of seed 0 is that of train.seed 0 in another folder, so nothing is trained again."""
    files = [project.folder / "results/eval" / f"{method}.json" for method in ("kd", "orc")]
    before = [file.read_bytes() for file in files]
    for per_seed in ("false", "true"):
        done = project.dvc("exp", "run", "-S", f"teacher.per_seed={per_seed}", "complete")
        assert (project.folder / "models/teacher/seed-0").exists() == (per_seed == "true")
        assert "epoch" not in done.stdout
        assert [file.read_bytes() for file in files] == before
    project.reset()


def test_an_export_of_a_seed_that_was_not_evaluated_is_one_line(project):
    file = project.folder / "results/eval/kd.json"
    file.write_text(file.read_text().replace('"0": {', '"7": {', 1))
    failed = project.run(sys.executable, "-m", "stages.export", ok=False)
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1].startswith("error: results/eval/kd.json ")
    assert "Traceback" not in failed.stderr
    project.reset()


def test_override_changes_one_line_of_params_yaml(project):
    project.dvc("exp", "run", "-S", "orc.beta=0.7", "check")
    changed = project.run("git", "diff", "--numstat", "params.yaml").stdout
    assert changed.split() == ["1", "1", "params.yaml"]
    project.reset()


def test_adding_a_seed_trains_only_that_seed(project):
    done = project.dvc("exp", "run", "-S", "seeds=[0,1]", "complete")
    for method in ("kd", "orc"):
        assert f"distill-{method} seed 0: already trained" in done.stdout
        assert f"distill-{method} seed 1: epoch 2/2" in done.stdout
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert summary["kd"]["n"] == 2 and set(summary["kd"]["seeds"]) == {"0", "1"}
    project.reset()


def test_temporary_experiment_shares_the_checkpoint_store(project):
    done = project.dvc("exp", "run", "--temp", "-S", "seeds=[0,2]", "distill@orc")
    assert "distill-orc seed 0: already trained" in done.stdout + done.stderr
    assert "distill-orc seed 2: epoch 2/2" in done.stdout + done.stderr


def test_typo_in_an_override_fails_with_one_line_and_deletes_no_model(project):
    models = sorted((project.folder / "models").rglob("*.safetensors"))
    done = project.dvc("exp", "run", "-S", "orc.beta=half", ok=False)
    assert done.returncode != 0
    assert "error: params.yaml: orc.beta: must be a valid number, got 'half'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted((project.folder / "models").rglob("*.safetensors")) == models
    project.reset()
