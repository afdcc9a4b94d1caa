"""A study goes on where it was killed, wherever that was, and ends with the trials of an undisturbed one."""

import math
from pathlib import Path

import pytest

from pipeline.errors import DataError, UserError
from pipeline.params.load import load
from pipeline.tuning.space import space_of
from pipeline.tuning.study import Study, Trial, locked

SPACE = space_of(load("kd")["kd"], control=False)
SEEDS = (100, 101)


def results(trial: Trial) -> dict[int, float | None]:
    """The result of a trial: a function of its parameters; every fifth trial diverges on one seed."""
    value = 90 - abs(math.log(trial.parameters["temperature"] / 2)) - trial.parameters["kd_weight"]
    return {100: value, 101: None if trial.number % 5 == 0 else value + 1}


def undisturbed(folder: Path, wanted: int, size: int) -> list[Trial]:
    study = Study("kd", "key", SPACE, folder)
    while batch := study.next_batch(wanted, size):
        for trial in batch:
            study.finish(trial, results(trial))
    return study.trials


def reopened(folder: Path) -> Study:
    return Study("kd", "key", SPACE, folder)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_study_killed_after_every_change_of_its_file_has_the_same_trials(tmp_path, size):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = undisturbed(tmp_path / "whole", 8, size)
    assert len(whole) == 8 and [t.number for t in whole if t.value is None] == [5]
    for _ in range(100):
        study = reopened(tmp_path / "killed")
        begun = study.unfinished
        if len(study.trials) < 8 and (not begun or len(study.trials) % size):
            assert study.begin(size)  # and is killed before the next trial of the batch is in the file
            continue
        if not begun:
            break
        study.finish(begun[0], results(begun[0]))
    assert reopened(tmp_path / "killed").trials == whole


def test_a_trial_that_was_running_is_run_again_with_the_same_parameters(tmp_path):
    study = reopened(tmp_path)
    study.finish(study.next_batch(8, 1)[0], {100: 90.0, 101: 91.0})
    (running,) = study.next_batch(8, 1)
    assert reopened(tmp_path).next_batch(8, 1) == [running]


@pytest.mark.parametrize("size", [1, 2])
def test_more_trials_go_on_with_the_same_study(tmp_path, size):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    undisturbed(tmp_path / "parts", 3, size)
    assert undisturbed(tmp_path / "parts", 8, size) == undisturbed(tmp_path / "whole", 8, size)


def test_another_key_is_another_study(tmp_path):
    undisturbed(tmp_path, 3, 1)
    assert Study("kd", "other", SPACE, tmp_path).trials == []
    assert len(reopened(tmp_path).trials) == 3


def test_the_best_is_the_first_of_equal_ones_and_never_one_that_diverged(tmp_path):
    study = reopened(tmp_path)
    values = [(80.0, 80.0), (99.0, None), (85.0, 87.0), (86.0, 86.0)]
    for first, second in values:
        study.finish(study.next_batch(4, 1)[0], {100: first, 101: second})
    assert study.best is not None and study.best.number == 3 and study.best.value == 86.0
    assert study.next_batch(4, 1) == []


def test_without_a_trial_that_ended_there_is_no_best(tmp_path):
    study = reopened(tmp_path)
    study.finish(study.next_batch(1, 1)[0], {100: None, 101: 90.0})
    assert study.best is None


def test_new_values_of_params_yaml_are_a_trial_too(tmp_path):
    undisturbed(tmp_path, 4, 1)
    section = load("kd")["kd"].model_copy(update={"temperature": 2.0})
    study = Study("kd", "key", space_of(section, control=False), tmp_path)
    (trial,) = study.next_batch(4, 1)
    assert trial.number == 5 and trial.parameters["temperature"] == 2.0
    study.finish(trial, results(trial))
    assert study.next_batch(4, 1) == []


def test_a_damaged_file_is_one_line_that_names_it(tmp_path):
    (tmp_path / "kd.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError) as caught:
        reopened(tmp_path)
    assert str(caught.value).count("\n") == 0 and "kd.sqlite cannot be read" in str(caught.value)


def test_a_second_process_is_refused(tmp_path):
    with locked("kd", tmp_path):
        with pytest.raises(UserError, match="another process is tuning kd"), locked("kd", tmp_path):
            pass
        with locked("orc", tmp_path):
            pass
