"""A study takes only results that belong together."""

import shutil
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.evaluation.coincidence import FILE, read_shares
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.evaluation.study import add_coincidence, add_results
from pipeline.storage.documents import write_json
from results import WHERE, entries, write_method, write_results, write_training


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_seed_of_other_parameters_is_refused_and_nothing_is_changed(tmp_path):
    write_method(tmp_path / "first", "kd", "kd", [0])
    write_method(tmp_path / "second", "kd", "kd", [1])
    add_results("kd", [0], tmp_path / "first", tmp_path / "study")
    before = files(tmp_path / "study")
    file = tmp_path / "second/cost/kd.json"
    cost = read_cost(file)
    cost["parameters"]["kd"]["survival"] = 0.5
    write_json(file, cost)
    with pytest.raises(DataError, match=r"kd.json has seeds of another parameter kd: remove the method there") as error:
        add_results("kd", [1], tmp_path / "second", tmp_path / "study")
    assert len(str(error.value).splitlines()) == 1 and files(tmp_path / "study") == before


def test_a_damaged_history_is_not_collected(tmp_path):
    write_method(tmp_path / "results", "kd", "kd", [0])
    history = tmp_path / "results/train/kd/history.csv"
    history.write_text(history.read_text().replace("60.0", "69.0"))
    with pytest.raises(DataError, match=r"train/kd/history.csv is damaged \(its SHA-256 is not the one in .*kd.json\)"):
        add_results("kd", [0], tmp_path / "results", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_seed_without_its_cost_is_not_added(tmp_path, capsys):
    results, study = tmp_path / "results", tmp_path / "study"
    write_method(tmp_path / "evaluated", "kd", "kd", [0, 1])
    write_method(results, "kd", "kd", [0, 1], diverged=[1])  # seed 1 was trained again, and not evaluated
    shutil.copytree(tmp_path / "evaluated/eval", results / "eval", dirs_exist_ok=True)
    assert add_results("kd", [0, 1], results, study) == [0]
    line = f"left out: kd seed 1: it is not in {results}/cost/kd.json; run `dvc repro evaluate@kd`\n"
    assert capsys.readouterr().out == line
    write_method(results, "kd", "kd", [0, 1])
    assert add_results("kd", [0, 1], results, study) == [1] and capsys.readouterr().out == ""
    assert list(outcomes(entries(["kd"]), [0, 1], study)[0].seeds) == [0, 1]


def test_a_collection_goes_on_after_a_seed_that_is_trained_again(tmp_path):
    results, study = tmp_path / "results", tmp_path / "study"
    names = write_results(results, [0])
    write_training(results)
    for name in names:
        add_results(name, [0], results, study)
    cost = read_cost(results / "cost/kd.json")
    write_json(results / "cost/kd.json", cost | {"seeds": {}})
    add_coincidence(entries(names), [0], results, study)
    assert set(read_shares(study / FILE)) == {"sdgkd", "orc"}


def test_a_seed_without_its_history_is_not_added(tmp_path, capsys):
    results = tmp_path / "results"
    write_method(results, "kd", "kd", [0])
    cost = read_cost(results / "cost/kd.json")
    write_method(results, "kd", "kd", [0], diverged=[0])
    history = read_cost(results / "cost/kd.json")["sha256"]
    write_method(tmp_path / "evaluated", "kd", "kd", [0])
    shutil.copytree(tmp_path / "evaluated/eval", results / "eval", dirs_exist_ok=True)
    write_json(results / "cost/kd.json", cost | {"sha256": history})
    assert add_results("kd", [0], results, tmp_path / "study") == []
    assert f"left out: kd seed 0: it is not in {results}/train/kd/history.csv;" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["last", "best"])
def test_an_evaluation_of_an_earlier_training_is_not_collected(tmp_path, capsys, which):
    write_method(tmp_path / "results", "kd", "kd", [0, 1])
    file = tmp_path / "results/eval/kd.json"
    evaluated = read_evaluation(file)
    evaluated["seeds"]["0"]["networks"]["student"]["validation"][which] = 89.75
    write_json(file, evaluated)
    assert add_results("kd", [0, 1], tmp_path / "results", tmp_path / "study") == [1]
    line = "left out: kd seed 0: its test results are of another training than its history; run `dvc repro evaluate@kd`"
    assert capsys.readouterr().out == f"{line}\n"


def test_a_seed_that_diverged_in_an_earlier_training_is_not_collected(tmp_path, capsys):
    write_method(tmp_path / "results", "kd", "kd", [0, 1])
    file = tmp_path / "results/eval/kd.json"
    evaluated = read_evaluation(file)
    del evaluated["seeds"]["0"]
    write_json(file, evaluated | {"diverged": {"0": WHERE}})
    assert add_results("kd", [0, 1], tmp_path / "results", tmp_path / "study") == [1]
    assert capsys.readouterr().out.startswith("left out: kd seed 0: it diverged in an earlier training")
