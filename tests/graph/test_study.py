"""The study of false knowledge: what each of its cells runs, and what its table and figure show."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from project import Project
from ruamel.yaml import YAML

from pipeline.errors import DataError, ParamsError
from pipeline.params import load as params
from studies.false_knowledge import figure, run

ROOT = Path(__file__).parents[2]
METHODS = list(YAML(typ="safe").load((ROOT / "params.yaml").read_text())["methods"])


@pytest.mark.parametrize("name", ["study.yaml", "tiny.yaml"])
def test_each_dataset_and_noise_is_a_cell_with_valid_parameters(name, tmp_path, monkeypatch):
    study = run.read_yaml(ROOT / "studies/false_knowledge" / name)
    roots = {dataset: str(tmp_path) for dataset in study["datasets"] if dataset != "digits"}
    cells = run.cells_of(study, roots, METHODS)
    assert len({cell.name for cell in cells}) == len(cells) == len(study["datasets"]) * len(study["noise"])
    monkeypatch.chdir(ROOT)
    for cell in cells:
        document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
        for override in cell.overrides:
            if override.startswith("~methods."):
                del document["methods"][override.removeprefix("~methods.")]
                continue
            key, _, text = override.partition("=")
            *path, last = key.split(".")
            inside = document
            for part in path:
                inside = inside[part]
            assert last in inside
            inside[last] = YAML(typ="safe", pure=True).load(text)
        values = params.validated(document)
        assert list(values["methods"]) == [name for name in METHODS if name in study["methods"]]
        assert values["seeds"] == study["seeds"]
        assert str(values["data"].label_noise or "none") == cell.name.rpartition("-")[2]


def test_unknown_methods_and_datasets_of_a_study_are_one_line():
    study = {"noise": ["none"], "seeds": [0], "methods": ["kdd"], "datasets": {"digits": []}}
    with pytest.raises(ParamsError, match="'kdd'"):
        run.cells_of(study, {}, METHODS)
    with pytest.raises(ParamsError, match="'digit'"):
        run.cells_of(study | {"methods": ["kd"]}, {"digit": "/data"}, METHODS)


STUDY = """noise: [0.4]
seeds: [0]
methods: [kd]
datasets:
  digits: [data.source=digits, data.limit=64, train.epochs=1, tune.trials=2, 'tune.seeds=[100]']
"""


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "stages/tune.py").is_file(), reason="the project has no search yet")
def test_a_study_keeps_its_results_and_a_cell_that_was_stopped_goes_on_after_its_search(tmp_path):
    project = Project(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "studies.false_knowledge.run", "--study", "study.yaml", "--results", "kept"]
    first = project.run(*command)
    assert "stages.tune" in first.stdout
    kept = tmp_path / "kept/digits-0.4"
    summary, tuned = (kept / "summary.json").read_bytes(), (kept / "params.yaml").read_bytes()
    assert set(json.loads(summary)) == {"kd"} and json.loads(summary)["kd"]["teacher_errors"] > 0
    assert (kept / "tune/kd.csv").is_file()
    assert project.run("git", "status", "--porcelain", "params.yaml").stdout == ""
    assert "digits-0.4: has results" in project.run(*command).stdout
    (kept / "summary.json").unlink()
    again = project.run(*command)
    assert "stages.tune" not in again.stdout
    assert (kept / "summary.json").read_bytes() == summary and (kept / "params.yaml").read_bytes() == tuned


def test_table_and_figure_show_every_method_by_noise(tmp_path):
    with pytest.raises(DataError, match="has no results"):
        figure.rows_of(tmp_path)
    for noise, errs in (("none", False), ("0.4", True)):
        summary = {"cooperative": {"n": 0, "diverged": 2}}
        for k, method in enumerate(("scratch", "kd", "orc")):
            seeds = {}
            for seed in (0, 1):
                seeds[str(seed)] = {"top1": 80.0 + 5 * k + 2 * seed}
                if method != "scratch":
                    seeds[str(seed)] |= {"teacher_errors": 0.1 if errs else 0.0}
                    shares = {"passed_on": 0.3 + 0.1 * k + 0.02 * seed, "passed_on_by_scratch": 0.1 + 0.02 * seed}
                    seeds[str(seed)] |= shares if errs else {}
            summary[method] = {"n": 2, "seeds": seeds}
        (tmp_path / f"digits-{noise}").mkdir()
        (tmp_path / f"digits-{noise}/summary.json").write_text(json.dumps(summary))
    figure.main(tmp_path)
    table = (tmp_path / "table.md").read_text()
    kd = figure.cell([40.0, 42.0])
    assert kd.startswith("41.0 [") and f"| kd | - | {kd} |" in table
    assert f"| scratch | - | {figure.cell([10.0, 12.0])} |" in table  # coincidence, on the errors of kd's teacher
    assert f"| orc | {figure.cell([90.0, 92.0])} | {figure.cell([90.0, 92.0])} |" in table
    assert pl.read_csv(tmp_path / "results.csv").height == 12
    drawing = (tmp_path / "figure.svg").read_text()
    assert all(text in drawing for text in ("scratch", "kd", "orc", "label noise", "test top-1 (%)"))
