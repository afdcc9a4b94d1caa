"""The study of false knowledge: what each of its cells runs, and what its table and figure show.

The commands of studies end with one line about a mistake, and write nothing.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from dvc.repo import Repo
from project import Project
from ruamel.yaml import YAML

from pipeline.errors import DataError, ParamsError
from pipeline.params import load as params
from studies.false_knowledge import figure, run
from studies.learners import run as learners

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


def test_the_networks_that_a_method_starts_from_are_outputs_of_the_stage_that_is_run_for_it():
    stage_of = {out.def_path: stage.addressing for stage in Repo(ROOT).index.stages for out in stage.outs}
    stage_of["data/prepared/classes.txt"] = stage_of["data/prepared"]
    links = [f"models/{chain}/{link}" for chain in ("takd", "dgkd") for link in ("teacher", "ta1", "ta2")]
    chains = ["models/chains/takd", "models/chains/dgkd"]
    starts = ["data/prepared/classes.txt", "models/teacher", "models/group", "models/members", *chains, *links]
    for start in starts:
        assert run.networks_of({"a": {"after": start}}) == [stage_of[start]]
    assert run.networks_of({start: {"after": start} for start in starts}) == sorted({stage_of[s] for s in starts})


STUDY = """noise: [0.4]
seeds: [0]
methods: [kd]
datasets:
  digits: [data.source=digits, data.limit=64, train.epochs=1, tune.trials=2, 'tune.seeds=[100]']
"""


DESCRIBED = {"noise": [0.4], "seeds": [0], "methods": ["kd"], "datasets": {"digits": ["data.source=digits"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("noise: [", "study.yaml, line 1: not valid YAML"),
        ("- 1", "study.yaml, line 1: must be a mapping"),
        *((DESCRIBED | {key: value}, f"study.yaml: {key}: must be") for key in DESCRIBED for value in ([], "kd", None)),
        (DESCRIBED | {"methods": [["kd"]]}, "study.yaml: methods: must be a list of entries of methods"),
        (DESCRIBED | {"datasets": {"digits": "a=b"}}, "study.yaml: datasets.digits: must be a list of KEY=VALUE"),
        (DESCRIBED | {"seed": [0]}, "study.yaml: seed: unknown key; the keys are noise, seeds, methods, datasets"),
    ],
)
def test_a_malformed_study_is_one_line(tmp_path, content, message):
    file = tmp_path / "study.yaml"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ParamsError) as caught:
        run.read_study(file)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["studies.false_knowledge.run", "studies.learners.run digits out"])
def test_a_study_outside_of_a_git_work_tree_is_one_line(tmp_path, command):
    for code in ("pipeline", "stages", "studies"):
        shutil.copytree(ROOT / code, tmp_path / code, ignore=shutil.ignore_patterns("results", "__pycache__"))
    done = run_study(tmp_path, *command.split(), GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert done.returncode == 1 and done.stderr.startswith("error: git ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "params.yaml").exists() and not (tmp_path / "out").exists()


def run_study(folder: Path, module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "."), "error: . has a params.yaml that this command has not written: name another folder"),
        (("digits", "out", "--seeds", "0"), "error: argument --seeds: must be a whole number of at least 1, got 0"),
        (("digits", "out", "--epochs", "x"), "error: argument --epochs: must be a whole number of at least 1, got x"),
    ],
)
def test_a_mistake_on_the_command_line_of_the_learners_writes_nothing(tmp_path, arguments, message):
    (tmp_path / "params.yaml").write_text("seeds: [0]\n")
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    done = run_study(tmp_path, "studies.learners.run", *arguments)
    assert done.returncode == 2 and done.stderr.endswith(f"{message}\n") and "Traceback" not in done.stderr
    assert (tmp_path / "params.yaml").read_text() == "seeds: [0]\n" and not (tmp_path / "out").exists()


def test_the_learners_replace_an_earlier_run_of_theirs_and_nothing_else(tmp_path, monkeypatch):
    assert learners.is_free(tmp_path) and not learners.is_free(ROOT)
    learners.write_params(tmp_path, "digits", 1, 2)
    assert learners.is_free(tmp_path)
    monkeypatch.chdir(ROOT)
    assert params.load("seeds", file=tmp_path / "params.yaml")["seeds"] == [0]


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


@pytest.mark.parametrize(
    ("folder", "content", "message"),
    [
        ("digits", "{}", "digits: the name of the folder is not DATASET-NOISE, such as digits-0.2"),
        ("digits-much", "{}", "digits-much: the name of the folder is not DATASET-NOISE"),
        ("digits-nan", "{}", "digits-nan: the name of the folder is not DATASET-NOISE"),
        ("digits-0.2", "{", "digits-0.2/summary.json is damaged: remove it"),
        ("digits-0.2", "[]", "digits-0.2/summary.json is damaged: remove it"),
        ("digits-0.2", '{"kd": {"seeds": {"0": {}}}}', "digits-0.2/summary.json is damaged: remove it"),
        ("digits-0.2", '{"kd": {"seeds": {"0": {"top1": "x"}}}}', "digits-0.2/summary.json is damaged: remove it"),
    ],
)
def test_results_of_a_study_that_are_none_are_one_line(tmp_path, folder, content, message):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "summary.json").write_text(content)
    with pytest.raises(DataError) as caught:
        figure.rows_of(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


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
