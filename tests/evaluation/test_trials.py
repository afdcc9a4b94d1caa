"""The table of trials is read as it was written, and the report says what it holds."""

from pathlib import Path

import pytest

from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.digits import Digits
from pipeline.errors import DataError
from pipeline.evaluation.notes import notes
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.table import tables
from pipeline.evaluation.trials import TriedTrial, best_trial, data_digest, read_trials, read_tuning, write_trials
from pipeline.params.load import load
from pipeline.storage.documents import read_json, write_json
from pipeline.storage.records import MethodCost
from results import LABELS, entries, write_results

ROOT = Path(__file__).parents[2]
DATA, OTHER = "0123456789abcdef", "fedcba9876543210"
TRIALS = [
    TriedTrial(1, {"temperature": 4.0, "normalise": "sum", "on": True}, 91.0, {100: 90.0, 101: 92.0}, DATA),
    TriedTrial(2, {"temperature": 1.71, "normalise": "mean", "on": False}, None, {100: None, 101: 95.5}, DATA),
    TriedTrial(3, {"temperature": 1e-05, "normalise": "mean", "on": True}, 93.125, {100: 93.0, 101: 93.25}, DATA),
]


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_trials(tmp_path / "tune" / "kd.csv", TRIALS)
    assert read_trials(tmp_path / "tune" / "kd.csv") == TRIALS
    text = (tmp_path / "tune" / "kd.csv").read_text().splitlines()
    assert text[0] == "trial,temperature,normalise,on,validation,seed-100,seed-101,state,data"
    assert text[2] == f"2,1.71,mean,false,,,95.5,diverged,{DATA}"


def test_the_best_is_the_highest_that_ended():
    assert best_trial(TRIALS) == TRIALS[2] and best_trial(TRIALS[1:2]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trial,temperature\n1,4.0\n",
        "trial,temperature,validation,seed-100,state,data\n",
        "trial,temperature,validation,seed-100,state,data\n1,4.0,90.0,90.0\n",
        "trial,temperature,validation,seed-100,state,data\n2,4.0,90.0,90.0,complete,0123456789abcdef\n",
        "trial,temperature,validation,seed-100,state,data\n1,4.0,190.0,90.0,complete,0123456789abcdef\n",
        "trial,temperature,validation,seed-100,state,data\n1,4.0,nan,90.0,complete,0123456789abcdef\n",
        "trial,temperature,validation,seed-100,state,data\n1,4.0,,90.0,complete,0123456789abcdef\n",
        "trial,temperature,validation,seed-x,state,data\n1,4.0,90.0,90.0,complete,0123456789abcdef\n",
        "trial,temperature,validation,seed-100,state,data\n1,4.0,90.0,90.0,running,0123456789abcdef\n",
        "trial,temperature,validation,seed-100,state,data\n1,4.0,90.0,90.0,complete,digits\n",
        "trial,temperature,validation,seed-100,state\n1,4.0,90.0,90.0,complete\n",
        "\udcff",
    ],
)
def test_a_damaged_table_is_one_line_that_names_the_file_and_the_command(tmp_path, text):
    file = tmp_path / "kd.csv"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as caught:
        read_trials(file)
    message = str(caught.value)
    assert "\n" not in message and "kd.csv" in message and "stages.tune kd" in message


def test_a_method_without_a_table_or_a_folder_is_not_tuned(tmp_path):
    assert read_tuning(tmp_path / "tune", "kd", {}) is None
    write_trials(tmp_path / "tune" / "kd.csv", TRIALS)
    assert read_tuning(tmp_path / "tune", "orc", {}) is None


def test_only_the_best_parameters_count_as_adopted(tmp_path):
    write_trials(tmp_path / "kd.csv", TRIALS)
    for row in (*TRIALS, None):
        parameters = row.parameters if row else {"temperature": 2.0, "normalise": "sum", "on": True}
        tuning = read_tuning(tmp_path, "kd", {**parameters, "label_smoothing": 0.0})
        assert tuning is not None and tuning.trials == 3
        assert tuning.adopted == (row is TRIALS[2]) and tuning.reported == row


def test_the_tables_of_the_default_are_of_its_data(tmp_path):
    data = load("data", file=ROOT / "params.yaml")["data"]
    prepare(Digits(), data, tmp_path / "prepared")
    digest = data_digest(Prepared.read(tmp_path / "prepared"))
    files = list((ROOT / "results/tune").glob("*.csv"))
    assert files and {row.data for file in files for row in read_trials(file)} == {digest}


@pytest.mark.parametrize("change", [{"seed": 1}, {"limit": 300}, {"label_noise": 0.1}, {"validation": 300}])
def test_the_digest_changes_with_what_trials_learn_from(tmp_path, change):
    data = load("data", file=ROOT / "params.yaml")["data"]
    for name, values in {"one": data, "other": data.model_copy(update=change)}.items():
        prepare(Digits(), values, tmp_path / name)
    one, other = (data_digest(Prepared.read(tmp_path / name)) for name in ("one", "other"))
    assert one != other


def test_trials_on_other_data_do_not_count(tmp_path):
    write_trials(tmp_path / "kd.csv", TRIALS)
    adopted = TRIALS[2].parameters
    for data in (DATA, None):
        tuning = read_tuning(tmp_path, "kd", adopted, data)
        assert tuning is not None and tuning.trials == 3 and tuning.adopted
    assert read_tuning(tmp_path, "kd", adopted, OTHER) is None


@pytest.fixture
def compared(tmp_path):
    """Outcomes of which kd has a table of three trials, whose best parameters `adopt` sets."""
    results = tmp_path / "results"
    names = write_results(results, [0, 1])

    def read(tuned: dict[str, dict]):
        for name, parameters in tuned.items():
            write_trials(results / "tune" / f"{name}.csv", TRIALS)
            file = results / "cost" / f"{name}.json"
            cost = read_json(file, MethodCost)
            write_json(file, cost | {"parameters": {**cost["parameters"], name: parameters}})
        return outcomes(entries(names), [0, 1], results)

    return read


def test_without_a_table_the_report_says_that_nothing_was_tuned(compared):
    found = compared({})
    assert any(note.startswith("not tuned: ") for note in notes(found, "kd", LABELS, True))
    assert not any(table.title.startswith("Tuning") for table in tables(found, "kd"))


def test_the_report_says_how_many_trials_each_method_had_and_which_are_not_adopted(compared):
    found = compared({"kd": TRIALS[2].parameters, "orc": TRIALS[0].parameters, "sdgkd": {"temperature": 3.0}})
    (table,) = [table for table in tables(found, "kd") if table.title.startswith("Tuning")]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["kd"] == ("3", "93.12", "93.12", "adopted")
    assert rows["orc"] == ("3", "91.00", "93.12", "not adopted")
    assert rows["sdgkd"] == ("3", "-", "93.12", "not adopted")
    assert rows["scratch"] == ("0", "-", "-", "not tuned")
    (note,) = [note for note in notes(found, "kd", LABELS, True) if "tuned" in note]
    assert "different numbers of trials, 0 to 3" in note and "of sdgkd, orc are not adopted" in note


def test_equal_budgets_are_reported_as_one_number(compared):
    names = [o.name for o in compared({})]
    found = compared(dict.fromkeys(names, TRIALS[2].parameters))
    assert "tuned on validation: the methods had 3 trials" in notes(found, "kd", LABELS, True)
