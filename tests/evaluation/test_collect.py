"""A study takes only results that belong together, and that are of the recipe of params.yaml."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from project import Project
from ruamel.yaml import YAML

from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.digits import Digits
from pipeline.errors import DataError
from pipeline.evaluation.coincidence import FILE, read_shares
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.evaluation.study import add_coincidence, add_results, add_trials
from pipeline.evaluation.trials import TriedTrial, data_digest, read_trials, write_trials
from pipeline.params.load import load
from pipeline.storage.documents import write_json
from results import WHERE, entries, write_method, write_recipe, write_results, write_training
from stages.collect import recipe_of

ROOT = Path(__file__).parents[2]


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


def test_a_study_never_loses_trials(tmp_path):
    table, kept = tmp_path / "results/tune/kd.csv", tmp_path / "study/tune/kd.csv"
    rows = [TriedTrial(k, {"temperature": 4.0 + k}, 90.0 + k, {100: 90.0 + k}, "0" * 16) for k in (1, 2, 3)]

    def added(trials):
        write_trials(table, trials)
        taken = add_trials(table, tmp_path / "study")
        assert read_trials(kept)[:2] == rows[:2] and [file.name for file in kept.parent.iterdir()] == ["kd.csv"]
        return taken, len(read_trials(kept))

    assert added(rows[:2]) == (True, 2)
    assert added(rows) == (True, 3)
    assert added(rows) == (True, 3)
    assert added(rows[:1]) == (False, 3)
    assert added([rows[0], replace(rows[1], data="1" * 16), rows[2]]) == (False, 3)
    assert added([replace(rows[0], validation=99.0, seeds={100: 99.0}), *rows[1:]]) == (False, 3)


def test_a_shorter_table_of_trials_is_left_out_with_one_line(tmp_path):
    for code in ("pipeline", "stages"):
        (tmp_path / code).symlink_to(ROOT / code)
    prepare(Digits(), load("data", file=ROOT / "params.yaml")["data"], tmp_path / "data/prepared")
    (tmp_path / "studies/one").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "studies/one"):
        shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    data = data_digest(Prepared.read(tmp_path / "data/prepared"))
    rows = [TriedTrial(k, {"temperature": 4.0}, 90.0, {100: 90.0}, data) for k in (1, 2)]
    write_trials(tmp_path / "studies/one/results/tune/kd.csv", rows)
    write_trials(tmp_path / "results/tune/kd.csv", rows[:1])
    done = Project.at(tmp_path).stage("collect", "studies/one")
    reason = "which does not begin with the trials in studies/one/results/tune/kd.csv"
    assert done.stdout == f"left out: results/tune/kd.csv, {reason}\nstudies/one: 0 seeds added\n"
    assert read_trials(tmp_path / "studies/one/results/tune/kd.csv") == rows


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("data", "root", "data", None),
        ("runtime", "workers", 2, None),
        ("data", "limit", 300, "data.limit is auto in params.yaml, and 300 in studies/one/params.yaml"),
        ("train", "epochs", 41, "train.epochs is 40 in params.yaml, and 41 in studies/one/params.yaml"),
        ("teacher", "per_seed", False, "teacher.per_seed is True in params.yaml, and False in studies/one/params.yaml"),
        (
            "assistants",
            "ta3",
            {"arch": "tiny_plain2_12", "after": "ta2"},
            "assistants.ta3.arch is absent in params.yaml, and tiny_plain2_12 in studies/one/params.yaml",
        ),
        ("student", "after", "ta1", "student.after is ta2 in params.yaml, and ta1 in studies/one/params.yaml"),
    ],
)
def test_seeds_of_other_data_recipe_or_networks_are_refused(tmp_path, section, key, value, words):
    for code in ("pipeline", "stages"):
        (tmp_path / code).symlink_to(ROOT / code)
    study = tmp_path / "studies/one"
    study.mkdir(parents=True)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text())
    document[section][key] = value
    yaml.dump(document, study / "params.yaml")
    write_method(tmp_path / "results", "kd", "kd", [0])
    write_recipe(tmp_path / "results", "kd", *recipe_of("kd"))
    done = Project.at(tmp_path).stage("collect", "studies/one", ok=False)
    if words is None:
        assert done.stdout.endswith("studies/one: 1 seed added\n"), done.stderr
        return
    assert done.returncode == 1 and done.stderr.endswith(f": {words}\n") and done.stderr.count("\n") == 1
    assert not (study / "results").exists()


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("kd", "train.epochs", 41, "train.epochs is 41 in params.yaml, and 40 in results/cost/kd.json"),
        ("kd", "kd.temperature", 4.0, "kd.temperature is 4.0 in params.yaml, and 3.42 in results/cost/kd.json"),
        (
            "kd",
            "student.arch",
            "tiny_plain2_16",
            "student.arch is tiny_plain2_16 in params.yaml, and tiny_plain2_12 in results/cost/kd.json",
        ),
        (
            "kd",
            "methods.kd.after",
            "models/chains/takd",
            "methods.kd.after is models/chains/takd in params.yaml, and models/teacher in results/cost/kd.json",
        ),
        (
            "orc",
            "teacher.arch",
            "tiny_plain2_32",
            "guides.teacher is tiny_plain2_32 in params.yaml, and tiny_plain4_32 in results/eval/orc.json",
        ),
        (
            "dgkd",
            "assistants.ta1.arch",
            "tiny_plain2_16",
            "guides.ta1 is tiny_plain2_16 in params.yaml, and tiny_plain2_32 in results/eval/dgkd.json",
        ),
        ("dgkd", "student.after", "ta1", "guides.ta2 is absent in params.yaml, and tiny_plain2_16 in results/eval/d"),
        ("kd", "assistants.ta1.arch", "tiny_plain2_16", None),
        ("scratch", "teacher.arch", "tiny_plain2_32", None),
        ("kd", "seeds", [1, 0], None),
    ],
)
def test_results_of_another_recipe_than_params_yaml_are_not_collected(tmp_path, name, key, value, words):
    for code in ("pipeline", "stages"):
        (tmp_path / code).symlink_to(ROOT / code)
    write_method(tmp_path / "results", name, name, [0])
    write_recipe(tmp_path / "results", name, *recipe_of(name))
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text())
    *path, last = key.split(".")
    section = document
    for part in path:
        section = section[part]
    section[last] = value
    (tmp_path / "studies/one").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "studies/one"):
        yaml.dump(document, folder / "params.yaml")
    done = Project.at(tmp_path).stage("collect", "studies/one", ok=False)
    assert done.returncode == 0, done.stderr
    if words is None:
        assert done.stdout == f"added: {name} seed 0\nstudies/one: 1 seed added\n"
        return
    assert done.stdout.startswith(f"left out: {name}, whose results are of another recipe: {words}")
    assert done.stdout.endswith("\nstudies/one: 0 seeds added\n") and done.stdout.count("\n") == 2
    assert not (tmp_path / "studies/one/results/eval").exists()
