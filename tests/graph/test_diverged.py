"""A method that diverges costs no other method its place in the table, and the exit status says it."""

import csv
import io
import json

import pytest
from project import ran

pytestmark = pytest.mark.slow


def test_a_diverged_method_is_in_the_table_and_the_last_stage_fails(project):
    project.set("kd.kd_weight", 1_000_000.0)
    done = project.dvc("repro", ok=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "error: distill-kd seed 0: the loss is not finite: network student, term" in output
    assert "lower train.lr, set train.clip_grad_norm" in output
    assert ran(output)[-2:] == ["export", "complete"] or ran(output)[-1] == "complete" or "export" in output
    table = (project.folder / "results/table.md").read_text()
    assert "| kd | diverged |" in table and "network student, epoch" in table and "| orc |" in table
    page = (project.folder / "results/report.html").read_text()
    assert "diverged" in page and "orc" in page
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert summary["kd"]["diverged"] == 1 and "top1" in summary["orc"]
    again = project.dvc("repro", "complete", ok=False)
    assert again.returncode != 0 and ran(again.stdout) == ["complete"]
    assert "error: kd diverged in 1 seed" in again.stdout + again.stderr
    project.reset()


def test_an_experiment_up_to_the_report_keeps_a_diverged_method(project):
    project.dvc("exp", "run", "-n", "large-loss", "-S", "kd.kd_weight=1000000.0", "report")
    shown = project.dvc("exp", "show", "--csv", "--hide-workspace").stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    (kept,) = [row for row in rows if row["Experiment"] == "large-loss"]
    assert kept["kd.diverged"] == "1" and float(kept["orc.validation"]) > 0
    project.dvc("exp", "remove", "large-loss")
    project.reset()


def test_a_diverged_student_cannot_be_exported(project):
    project.set("kd.kd_weight", 1_000_000.0)
    project.stage("distill", "kd")
    done = project.stage("export", ok=False)
    assert done.returncode == 1 and "every seed has diverged" in done.stderr and len(done.stderr.splitlines()) == 1
    project.reset()
