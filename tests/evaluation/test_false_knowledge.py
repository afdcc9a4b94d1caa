"""False knowledge is what a slow loop over the training images counts, from the networks to the tables."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import section

from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.errors import DataError
from pipeline.evaluation import testing
from pipeline.evaluation.comparison import summary
from pipeline.evaluation.false_knowledge import answers, describe, memorised, passed_on
from pipeline.evaluation.notes import NO_FALSE_KNOWLEDGE, notes
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.predictions import write_predictions
from pipeline.evaluation.records import read_evaluation
from pipeline.evaluation.study import add_coincidence, add_results
from pipeline.evaluation.table import tables
from pipeline.evaluation.testing import training_answers
from pipeline.models.create import create
from pipeline.storage.bundle import Bundle, write_network
from pipeline.storage.documents import write_json
from results import LABELS, drawn, entries, write_results, write_training

ROOT = Path(__file__).parents[2]
N, C = 500, 7


def slow_loop(student, teachers, labels, true) -> dict:
    """What `describe` returns, counted image by image."""
    errors = shared = wrong = learnt = 0
    for s, t, y, true_label in zip(student, teachers, labels, true):
        if t != true_label:
            errors += 1
            shared += s == t
        if y != true_label:
            wrong += 1
            learnt += s == y
    return {
        "images": len(true),
        "wrong_labels": wrong / len(true),
        "memorised": learnt / wrong if wrong else None,
        "teacher_errors": errors / len(true),
        "passed_on": shared / errors if errors else None,
    }


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_those_of_a_slow_loop(seed):
    case = drawn(seed)
    assert describe(*case) == pytest.approx(slow_loop(*case))


def test_the_teachers_answer_is_the_class_of_the_largest_mean_probability():
    z = [np.random.default_rng(k).normal(size=(N, C)) * 3 for k in range(3)]
    for i, answer in enumerate(answers(z)):
        means = [0.0] * C
        for of_network in z:
            exponentials = [np.exp(v) for v in of_network[i]]
            means = [m + e / sum(exponentials) for m, e in zip(means, exponentials)]
        assert answer == int(np.argmax(means))
    assert (answers(z[:1]) == z[0].argmax(1)).all()


def test_nothing_is_passed_on_by_teachers_that_never_err_and_nothing_is_memorised_without_wrong_labels():
    student, _, labels, true = drawn(0)
    assert passed_on(student, true, true) is None and memorised(student, true, true) is None
    found = describe(student, None, labels, true)
    assert found["teacher_errors"] is None and found["passed_on"] is None and found["memorised"] is not None


def test_a_copy_of_the_teacher_takes_over_all_and_a_perfect_student_nothing():
    _, teachers, labels, true = drawn(0)
    assert passed_on(teachers, teachers, true) == 1 and passed_on(true, teachers, true) == 0
    assert memorised(labels, labels, true) == 1 and memorised(true, labels, true) == 0


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Prepared:
    folder = tmp_path_factory.mktemp("digits")
    data = section("digits", ROOT / "data/digits", label_noise=0.3, limit=60)
    prepare(open_source(data), data, folder / "prepared")
    return Prepared.read(folder / "prepared")


def bundle_of(folder: Path, names: dict[str, int]) -> Path:
    """A bundle of untrained networks, each from its own seed."""
    shape = {"num_classes": 10, "in_chans": 1, "image_size": (8, 8)}
    for name, seed in names.items():
        torch.manual_seed(seed)
        state = {k: v.contiguous() for k, v in create("tiny_plain2_12", **shape).state_dict().items()}
        write_network(folder, name, {"arch": "tiny_plain2_12", **shape, "image_size": [8, 8]}, last=state, best=state)
    return folder


@pytest.mark.parametrize("teachers", [["teacher"], ["teacher", "ta1"], []])
def test_a_seed_is_measured_on_its_training_images_against_their_true_labels(tmp_path, digits, teachers):
    start, own = bundle_of(tmp_path / "start", {"teacher": 1, "ta1": 2}), bundle_of(tmp_path / "own", {"student": 3})
    metadata = {"student": "student", "teachers": teachers, "after": str(start), "seed": 4}
    found, table = testing.Tester(digits).evaluate_training(own, metadata)

    images = (digits.images("train") / 255 - digits.meta.mean[0]) / digits.meta.std[0]
    x = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.inference_mode():
        student = Bundle.read(own).load("student")(x).argmax(1).numpy()
        p = [Bundle.read(start).load(name)(x).softmax(1) for name in teachers]
    labels, true = digits.labels("train"), digits.true_labels("train")
    guess = torch.stack(p).mean(0).argmax(1).numpy() if p else true
    expected = slow_loop(student, guess, labels, true)
    if not teachers:
        expected |= {"teacher_errors": None, "passed_on": None}
    assert found == pytest.approx(expected, abs=1e-6) and found["wrong_labels"] == pytest.approx(0.3)
    assert table["index"].to_list() == list(range(60)) and table["true"].to_list() == true.tolist()
    assert table["student"].to_list() == student.tolist() and table["seed"].unique().to_list() == [4]
    assert table["teachers"].to_list() == (guess.tolist() if teachers else [-1] * 60)


def test_of_a_large_set_a_stratified_sample_is_measured(digits, monkeypatch):
    monkeypatch.setattr(testing, "MOST_TRAINING", 20)
    rows = testing.Tester(digits).training_rows
    assert len(rows) == len(set(rows.tolist())) == 20
    assert (np.diff(rows) > 0).all()


def read(results: Path, names: list[str], seeds: list[int]):
    return outcomes(entries(names), seeds, results)


def false_knowledge_of(compared):
    return next((t for t in tables(compared, "kd") if t.title.startswith("False knowledge")), None)


def test_summary_and_table_show_what_each_method_took_over_and_what_scratch_shares_by_coincidence(tmp_path):
    names = write_results(tmp_path, [0, 1])
    cases = write_training(tmp_path)
    compared = read(tmp_path, names, [0, 1])
    summarized = summary(compared, "kd")
    for name in ("kd", "sdgkd", "orc"):
        by_seed = []
        for seed in (0, 1):
            student, teachers, labels, true = cases[name, seed]
            expected = slow_loop(student, teachers, labels, true)
            by_scratch = slow_loop(cases["scratch", seed][0], teachers, labels, true)["passed_on"]
            by_seed.append((expected["teacher_errors"], expected["passed_on"], by_scratch, expected["memorised"]))
            written = summarized[name]["seeds"][str(seed)]
            keys = ("teacher_errors", "passed_on", "passed_on_by_scratch", "memorised")
            assert [written[key] for key in keys] == pytest.approx(by_seed[-1], abs=1e-6)
        assert [summarized[name][key] for key in keys] == pytest.approx(np.mean(by_seed, 0), abs=1e-6)
    assert set(keys) & set(summarized["scratch"]) == {"memorised"} and not set(keys) & set(summarized["cooperative"])
    table = false_knowledge_of(compared)
    assert [row[0] for row in table.rows] == ["scratch", "kd", "sdgkd", "orc"] and "40 training images" in table.title
    assert table.rows[0][1:4] == ("-", "-", "-")
    cell = f"{100 * summarized['kd']['passed_on']:.1f} ± "
    assert table.rows[1][2].startswith(cell)
    assert NO_FALSE_KNOWLEDGE not in notes(compared, "kd", LABELS, True)


def test_without_wrong_labels_the_table_has_only_methods_with_teachers(tmp_path):
    names = write_results(tmp_path, [0])
    write_training(tmp_path, noise=False)
    table = false_knowledge_of(read(tmp_path, names, [0]))
    assert table.header == ("method", "teachers err (%)", "passed on (%)", "same by scratch (%)")
    assert [row[0] for row in table.rows] == ["kd", "sdgkd", "orc"]


def test_teachers_that_never_err_get_one_sentence_and_no_table(tmp_path):
    names = write_results(tmp_path, [0, 1])
    write_training(tmp_path, errs=False, noise=False)
    compared = read(tmp_path, names, [0, 1])
    assert false_knowledge_of(compared) is None and NO_FALSE_KNOWLEDGE in notes(compared, "kd", LABELS, True)
    assert summary(compared, "kd")["kd"]["teacher_errors"] == 0 and "passed_on" not in summary(compared, "kd")["kd"]


def test_results_without_training_images_say_nothing_about_them(tmp_path):
    compared = read(tmp_path, write_results(tmp_path, [0, 1]), [0, 1])
    assert false_knowledge_of(compared) is None and NO_FALSE_KNOWLEDGE not in notes(compared, "kd", LABELS, True)


def test_without_scratch_there_is_no_coincidence(tmp_path):
    names = write_results(tmp_path, [0])
    write_training(tmp_path)
    kept = [name for name in names if name != "scratch"]
    compared = read(tmp_path, kept, [0])
    assert all(o.by_scratch == {} for o in compared)
    assert false_knowledge_of(compared).header[:3] == ("method", "teachers err (%)", "passed on (%)")
    assert "same by scratch (%)" not in false_knowledge_of(compared).header


def test_answers_that_are_missing_or_not_those_evaluated_are_one_line(tmp_path):
    names = write_results(tmp_path, [0])
    cases = write_training(tmp_path)
    file = tmp_path / "predictions/kd.training.parquet"
    intact = file.read_bytes()
    student, teachers, _, true = cases["kd", 0]
    rows = np.arange(40)
    for table in (
        training_answers(0, rows[:-1], true[:-1], student[:-1], teachers[:-1]),
        training_answers(0, rows, true, (student + 1) % 4, teachers),
        training_answers(1, rows, true, student, teachers),
    ):
        write_predictions(file, [table])
        with pytest.raises(DataError, match=r"its answers of seed 0 are not those that results/eval describes"):
            read(tmp_path, names, [0])
    write_predictions(file, [training_answers(0, rows + 1, true, student, teachers)])
    with pytest.raises(DataError, match="are of different training images"):
        read(tmp_path, names, [0])
    for content in (intact[:-9], b"PAR1", intact[:200] + b"x" + intact[201:]):
        file.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            read(tmp_path, names, [0])
    file.unlink()
    with pytest.raises(DataError, match="is missing"):
        read(tmp_path, names, [0])
    file.write_bytes(intact)
    assert read_evaluation(tmp_path / "eval/kd.json")["seeds"]["0"]["training"]["images"] == 40


def collect(names: list[str], seeds: list[int], results: Path, study: Path) -> None:
    for name in names:
        add_results(name, seeds, results, study)
    add_coincidence(entries(names), seeds, results, study)


def test_a_study_keeps_what_scratch_shares_by_coincidence(tmp_path):
    names, results, study = write_results(tmp_path / "results", [0, 1]), tmp_path / "results", tmp_path / "study"
    write_training(results)
    whole = {o.name: o.by_scratch for o in read(results, names, [0, 1])}
    assert set(whole["kd"]) == {0, 1}
    collect(names, [0], results, study)
    assert {o.name: o.by_scratch for o in outcomes(entries(names), [0], study, study=True)} == {
        name: {seed: share for seed, share in of_method.items() if seed == 0} for name, of_method in whole.items()
    }
    collect(names, [1], results, study)
    before = (study / "coincidence.json").read_bytes()
    shutil.rmtree(results / "predictions")
    compared = outcomes(entries(names), [0, 1], study, study=True)
    assert {o.name: o.by_scratch for o in compared} == whole
    assert "same by scratch (%)" in false_knowledge_of(compared).header
    collect(names, [0, 1], results, study)
    assert (study / "coincidence.json").read_bytes() == before


def test_a_study_shows_no_coincidence_of_some_of_its_seeds(tmp_path):
    names, results, study = write_results(tmp_path / "results", [0, 1]), tmp_path / "results", tmp_path / "study"
    write_training(results)
    for name in names:
        add_results(name, [0, 1], results, study)
    add_coincidence(entries(names), [1], results, study)
    assert all(o.by_scratch == {} for o in outcomes(entries(names), [0, 1], study, study=True))
    assert set(outcomes(entries(names), [1], study, study=True)[1].by_scratch) == {1}


def change(file: Path) -> None:
    """Make seed 0 another one, as a second training does."""
    content = read_evaluation(file)
    content["seeds"]["0"]["agreement"] = 0.5
    write_json(file, {key: value for key, value in content.items() if value or key != "diverged"})


@pytest.mark.parametrize(("changed", "gone"), [("scratch", {"kd", "sdgkd", "orc"}), ("kd", {"kd"})])
def test_a_coincidence_counts_for_the_seeds_it_was_measured_on_alone(tmp_path, changed, gone):
    names, results = write_results(tmp_path / "results", [0]), tmp_path / "results"
    write_training(results)
    before, after = tmp_path / "before", tmp_path / "after"
    for study in (before, after):
        for name in names:
            add_results(name, [0], results, study)
    change(before / f"eval/{changed}.json")
    add_coincidence(entries(names), [0], results, before)
    add_coincidence(entries(names), [0], results, after)
    change(after / f"eval/{changed}.json")
    for study in (before, after):
        shown = {o.name for o in outcomes(entries(names), [0], study, study=True) if o.by_scratch}
        assert shown == {"kd", "sdgkd", "orc"} - gone


def test_a_seed_in_which_scratch_diverged_needs_no_coincidence(tmp_path):
    names, study = write_results(tmp_path / "results", [0, 1], {"scratch": [1]}), tmp_path / "study"
    write_training(tmp_path / "results")
    collect(names, [0, 1], tmp_path / "results", study)
    found = {o.name: o.by_scratch for o in outcomes(entries(names), [0, 1], study, study=True)}
    assert set(found["kd"]) == {0} and found == {
        o.name: o.by_scratch for o in read(tmp_path / "results", names, [0, 1])
    }


def test_coincidence_is_measured_with_the_first_scratch_of_the_methods(tmp_path):
    names, results, study = write_results(tmp_path / "results", [0]), tmp_path / "results", tmp_path / "study"
    write_training(results)
    for folder, file in (("eval", "{}.json"), ("cost", "{}.json"), ("predictions", "{}.training.parquet")):
        shutil.copy(results / folder / file.format("scratch"), results / folder / file.format("smooth"))
    shutil.copytree(results / "train/scratch", results / "train/smooth")
    (results / "predictions/scratch.training.parquet").unlink()
    methods = {**entries(names), "smooth": entries(["scratch"])["scratch"]}
    for name in methods:
        add_results(name, [0], results, study)
    add_coincidence(methods, [0], results, study)
    assert not (study / "coincidence.json").exists()


def test_a_damaged_coincidence_is_one_line_and_stays(tmp_path):
    names, results, study = write_results(tmp_path / "results", [0]), tmp_path / "results", tmp_path / "study"
    write_training(results)
    collect(names, [0], results, study)
    file = study / "coincidence.json"
    file.write_text(file.read_text().replace('"share": 0.', '"share": 1.'))
    damaged = file.read_bytes()
    line = r"coincidence.json is damaged .*: run `git checkout -- \S*coincidence.json`"
    for command in (
        lambda: outcomes(entries(names), [0], study, study=True),
        lambda: add_coincidence(entries(names), [0], results, study),
    ):
        with pytest.raises(DataError, match=line):
            command()
    assert file.read_bytes() == damaged


def test_a_run_whose_predictions_were_removed_is_one_line(tmp_path):
    names = write_results(tmp_path, [0])
    write_training(tmp_path)
    shutil.rmtree(tmp_path / "predictions")
    with pytest.raises(DataError, match=r"training.parquet is missing: run `dvc repro`"):
        read(tmp_path, names, [0])
