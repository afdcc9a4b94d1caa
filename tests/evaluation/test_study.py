"""A study collects seeds from several sittings, and its tables are those of the results that it collected."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import DataError
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.study import add_results, collected
from pipeline.evaluation.table import tables
from pipeline.params.load import load
from pipeline.storage.documents import write_json
from results import entries, write_method, write_recipe, write_results, write_training
from stages.collect import recipe_of

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_seeds_of_several_sittings_add_up_to_the_results_of_one(tmp_path):
    names = write_results(tmp_path / "both", [0, 1], {"scratch": [1]})
    together, apart = tmp_path / "together", tmp_path / "apart"
    for name in names:
        assert add_results(name, [0, 1], tmp_path / "both", together) == [0, 1]
        assert add_results(name, [1], tmp_path / "both", apart) == [1]
        assert add_results(name, [0, 1], tmp_path / "both", apart) == [0]
        assert add_results(name, [0, 1], tmp_path / "both", apart) == []
    assert files(together) == files(apart)
    found = [tables(outcomes(entries(names), [0, 1], root), "kd") for root in (tmp_path / "both", together)]
    assert found[0] == found[1]


@pytest.mark.parametrize("written", [("train",), ("train", "cost")], ids=" ".join)
def test_a_collection_that_was_killed_is_completed(tmp_path, written):
    write_method(tmp_path / "results", "kd", "kd", [0, 1])
    whole, study = tmp_path / "whole", tmp_path / "study"
    for folder, seeds in ((whole, [0, 1]), (study, [0])):
        add_results("kd", seeds, tmp_path / "results", folder)
    for part in written:  # in the order in which they are written
        shutil.copytree(whole / part, study / part, dirs_exist_ok=True)
    assert add_results("kd", [0, 1], tmp_path / "results", study) == [1]
    assert files(study) == files(whole)


def test_a_method_without_results_adds_nothing(tmp_path):
    assert add_results("kd", [0], tmp_path / "results", tmp_path / "study") == []
    assert not (tmp_path / "study").exists()


def test_an_evaluation_without_its_training_adds_nothing(tmp_path):
    write_method(tmp_path / "results", "kd", "kd", [0])
    shutil.rmtree(tmp_path / "results/cost")  # as in a fresh clone, where Git has results/eval alone
    assert add_results("kd", [0], tmp_path / "results", tmp_path / "study") == []
    assert not (tmp_path / "study").exists()


def test_an_unfinished_study_compares_the_seeds_that_most_of_its_methods_have(tmp_path):
    names, study = write_results(tmp_path / "results", [0, 1]), tmp_path / "study"

    def compared(reference="kd"):
        methods, seeds, unfinished = collected(entries(names), [0, 1, 2], reference, study)
        assert all(control in methods for entry in methods.values() for control in entry.controls)
        return list(methods), seeds, unfinished

    for name in names[:-1]:
        add_results(name, [0], tmp_path / "results", study)
    add_results(names[0], [1], tmp_path / "results", study)
    assert compared() == (names[:-1], [0], {names[-1]: []})
    for name in names[1:-2]:
        add_results(name, [1], tmp_path / "results", study)
    assert compared() == (names[:-2], [0, 1], {names[-2]: [0], names[-1]: []})
    assert compared("orc") == (names[:-1], [0], {names[-1]: []})  # the reference is compared in any case
    with pytest.raises(DataError, match=r"no seed of most of its methods: add results by `python -m stages.collect`$"):
        collected(entries(names), [2], "kd", study)


def test_seeds_of_half_of_the_methods_are_not_compared(tmp_path):
    names, study = write_results(tmp_path / "results", [0, 1]), tmp_path / "study"
    for name in names:
        add_results(name, [1] if name in ("sdgkd", "orc", "cooperative") else [0, 1], tmp_path / "results", study)
    assert collected(entries(names), [0, 1], "kd", study)[1] == [1]


def test_the_first_machine_is_that_of_the_study_unless_nothing_ended_there(tmp_path):
    study = tmp_path / "study"

    def add(folder, seed, latency, diverged=()):
        write_method(tmp_path / folder, "kd", "kd", [seed], diverged)
        file = tmp_path / folder / "cost/kd.json"
        cost = {key: value for key, value in json.loads(file.read_text()).items() if key != "content.sha256"}
        for network in cost["networks"].values():
            network["latency_ms"] = latency
        write_json(file, cost)
        assert add_results("kd", [seed], tmp_path / folder, study) == [seed]
        networks = json.loads((study / "cost/kd.json").read_text())["networks"]
        return {name: network["latency_ms"] for name, network in networks.items()}

    assert add("nothing", 0, {"1": 1.0}, diverged=[0]) == {}
    first = add("first", 1, {"1": 2.0})
    assert first and all(latency == {"1": 2.0} for latency in first.values())
    assert add("second", 2, {"1": 3.0}) == first


def stage(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_study_is_reported_without_data_predictions_or_weights(tmp_path):
    for code in ("pipeline", "stages"):
        (tmp_path / code).symlink_to(ROOT / code)
    names = write_results(tmp_path / "results", [0, 1])
    write_training(tmp_path / "results")
    for name in names:
        write_recipe(tmp_path / "results", name, *recipe_of(name))
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text())
    document["seeds"] = [0, 1]
    document["methods"] = {
        name: {k: v for k, v in document["methods"][name].items() if k != "against"} for name in names
    }
    (tmp_path / "studies/one").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "studies/one"):
        yaml.dump(document, folder / "params.yaml")
    done = stage(tmp_path, "collect", "studies/one")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("studies/one: 10 seeds added\n")
    shutil.rmtree(tmp_path / "results")
    reports = []
    for _ in range(2):
        done = stage(tmp_path, "report", "--study", "studies/one")
        assert done.returncode == 0, done.stderr
        reports.append(files(tmp_path / "studies/one/results"))
    assert reports[0] == reports[1]
    table = reports[0]["table.md"].decode()
    assert all(f"| {name} |" in table for name in names) and "same by scratch (%)" in table
    assert all(f">{name}<" in reports[0]["accuracy.svg"].decode() for name in set(names) - {"cooperative"})
    page = reports[0]["report.html"].decode()
    assert "Difference to kd" in page and "learning curves" in page and "Reliability on the test" not in page


@pytest.mark.parametrize("name", ["cifar100", "cifar100_tuned", "cifar100_15_epochs"])
def test_tables_and_picture_of_a_committed_study_are_made_again_from_its_results(tmp_path, name):
    for code in ("pipeline", "stages"):
        (tmp_path / code).symlink_to(ROOT / code)
    study = f"studies/{name}"
    results = tmp_path / study / "results"
    shutil.copytree(ROOT / study, results.parent)
    made = ("table.md", "summary.json", "curves.csv", "accuracy.svg", "report.html")
    for file in made:
        (results / file).unlink()
    done = stage(tmp_path, "report", "--study", study)
    assert done.returncode == 0, done.stderr
    for file in made:
        assert (results / file).read_bytes() == (ROOT / study / "results" / file).read_bytes(), file


@pytest.mark.parametrize("command", [("collect", "nowhere"), ("report", "--study", "nowhere")])
def test_a_folder_that_is_no_study_is_one_line(tmp_path, command):
    for code in ("pipeline", "stages"):
        (tmp_path / code).symlink_to(ROOT / code)
    done = stage(tmp_path, *command)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "nowhere/params.yaml is missing" in done.stderr


@pytest.mark.parametrize("file", sorted(ROOT.glob("studies/*/params.yaml")), ids=lambda file: file.parent.name)
def test_the_parameters_of_a_study_are_valid(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    p = load("methods", "seeds", "tune", file=file)
    assert not {*p["seeds"]} & {*p["tune"].seeds}
    assert all(control in p["methods"] for entry in p["methods"].values() for control in entry.controls)
