"""The tables and the summary compare methods with the reference, and show methods that diverged."""

import io

import pytest
from rich.console import Console

from pipeline.errors import DataError
from pipeline.evaluation.comparison import summary
from pipeline.evaluation.notes import notes
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.evaluation.table import WIDTH, format_count, markdown, tables
from pipeline.storage.documents import read_bytes, write_json
from results import LABELS, WHERE, entries, write_method, write_results


@pytest.fixture
def compared(tmp_path):
    return outcomes(entries(write_results(tmp_path / "results", [0, 1])), [0, 1], tmp_path / "results")


def with_diverged(folder, seeds, diverged):
    """The outcomes of five methods, some of which diverged in some seeds."""
    return outcomes(entries(write_results(folder / "results", seeds, diverged)), seeds, folder / "results")


def cells(table, method):
    """The row of a method, by the names of its columns."""
    return dict(zip(table.header, next(row for row in table.rows if row[0] == method)))


def test_summary_and_tables_contain_means_and_standard_deviations(compared):
    summarized = summary(compared, "kd")
    assert summarized["kd"]["n"] == 2 and set(summarized["kd"]["seeds"]) == {"0", "1"}
    accuracies = [summarized["kd"]["seeds"][s]["top1"] for s in ("0", "1")]
    assert summarized["kd"]["top1"] == pytest.approx(sum(accuracies) / 2)
    assert "vs_kd" in summarized["orc"] and "vs_kd" not in summarized["kd"] and "before" in summarized["cooperative"]
    methods, members = tables(compared, "kd")
    assert [row[0] for row in methods.rows] == ["scratch", "kd", "sdgkd", "orc"]
    assert "mean ± sd of n=2 seeds" in methods.title and "±" in methods.rows[0][1]
    assert [row[0] for row in members.rows] == ["before cooperation", "cooperative", "trained on all data"]


def test_a_method_is_in_the_table_of_controls_if_and_only_if_its_entry_says_so(tmp_path):
    names = write_results(tmp_path / "results", [0, 1])
    methods, controls, _ = tables(outcomes(entries(names, ("scratch", "orc")), [0, 1], tmp_path / "results"), "kd")
    assert controls.title == "Controls" and [row[0] for row in controls.rows] == ["scratch", "orc"]
    assert [row[0] for row in methods.rows] == ["kd", "sdgkd"]


def test_a_method_is_compared_with_each_control_that_it_names(tmp_path):
    named = entries(write_results(tmp_path / "results", [0, 1]), ("scratch",))
    named["orc"] = named["orc"].model_copy(update={"against": ["scratch", "sdgkd", "left_out"]})
    named["sdgkd"] = named["sdgkd"].model_copy(update={"against": "left_out"})
    compared = outcomes(named, [0, 1], tmp_path / "results")
    table = tables(compared, "kd")[-1]
    assert table.title == "Against the control that a method names"
    assert [row[:2] for row in table.rows] == [("orc", "scratch"), ("orc", "sdgkd")]
    summarized = summary(compared, "kd")
    for control in ("scratch", "sdgkd"):
        difference = summarized["orc"]["top1"] - summarized[control]["top1"]
        assert summarized["orc"][f"vs_{control}"]["difference"] == pytest.approx(difference, abs=1e-5)
    assert "vs_left_out" not in {**summarized["orc"], **summarized["sdgkd"]}


@pytest.mark.parametrize(("reference", "other"), [("kd", "scratch"), ("scratch", "kd")])
def test_a_comparison_has_one_verdict(tmp_path, reference, other):
    named = entries(write_results(tmp_path / "results", [0, 1]))
    named["orc"] = named["orc"].model_copy(update={"against": ["kd", "scratch"]})
    compared = outcomes(named, [0, 1], tmp_path / "results")
    methods, *_, against = tables(compared, reference)
    assert [row[:2] for row in against.rows] == [("orc", other)]
    summarized = summary(compared, reference)["orc"]
    assert cells(methods, "orc")["verdict"] == summarized[f"vs_{reference}"]["verdict"]
    assert against.rows[0][-1] == summarized[f"vs_{other}"]["verdict"]


def test_a_reference_that_trains_a_group_is_a_control_of_other_groups(tmp_path):
    for name in ("cooperative", "cooperative_raw"):
        write_method(tmp_path, name, "cooperative", [0, 1])
    named = entries(["cooperative", "cooperative_raw"])
    named["cooperative_raw"] = named["cooperative_raw"].model_copy(update={"against": "cooperative"})
    compared = outcomes(named, [0, 1], tmp_path)
    assert tables(compared, "cooperative")[-1].rows[0][:2] == ("cooperative_raw", "cooperative")
    assert "vs_cooperative" in summary(compared, "cooperative")["cooperative_raw"]


@pytest.mark.parametrize("seeds", [[0], [0, 1], [0, 1, 2]])
@pytest.mark.parametrize("n_diverged", [0, 1, 2, 3])
def test_no_table_is_cut_off_in_the_terminal(tmp_path, seeds, n_diverged):
    diverged = dict.fromkeys(("orc", "sdgkd", "cooperative"), seeds[:n_diverged])
    names = write_results(tmp_path / "results", seeds, diverged)
    console = Console(width=WIDTH, file=io.StringIO())
    for table in tables(outcomes(entries(names, ("orc",)), seeds, tmp_path / "results"), "kd"):
        table.print(console)
    assert "reference" in console.file.getvalue() and "…" not in console.file.getvalue()


def test_tables_and_summary_have_the_cost_as_the_mean_over_seeds(tmp_path):
    names = write_results(tmp_path / "results", [0, 1])
    file = tmp_path / "results/cost/orc.json"
    content = read_cost(file)
    content["seeds"]["1"]["forward_equivalents"] = {"given_teacher": 46080.0 + 4, "from_nothing": 2.5e6}
    write_json(file, content)
    compared = outcomes(entries(names), [0, 1], tmp_path / "results")
    methods, members = tables(compared, "kd")
    assert cells(methods, "orc") | {"cost given a teacher": "46.1 k", "cost from nothing": "1.87 M"} == cells(
        methods, "orc"
    )
    assert cells(methods, "kd")["cost from nothing"] == cells(members, "cooperative")["cost from nothing"] == "1.23 M"
    summarized = summary(compared, "kd")
    assert summarized["orc"]["forward_equivalents"] == {
        "given_teacher": 46082.0,  # (46080 + 46084) / 2
        "from_nothing": 1867283.75,  # (1234567.5 + 2500000) / 2
    }
    assert summarized["cooperative"]["forward_equivalents"]["given_teacher"] == 46080.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (46080, "46.1 k"),
        (1234567, "1.23 M"),
        (3e12, "3.00 T"),
    ],
)
def test_a_count_has_three_significant_digits_and_a_prefix(value, text):
    assert format_count(value) == text


def test_a_missing_result_is_an_error_that_names_it(tmp_path, compared):
    with pytest.raises(DataError, match=r"results/eval/kd\.json has no seed 2: run `dvc repro`"):
        outcomes(entries(["kd"]), [2], tmp_path / "results")
    (tmp_path / "results/cost/kd.json").unlink()
    with pytest.raises(DataError, match=r"results/cost/kd\.json is missing: run `dvc repro`"):
        outcomes(entries(["kd"]), [0], tmp_path / "results")


def test_the_reference_is_a_parameter(compared):
    summarized = summary(compared, "orc")
    assert set(summarized["kd"]["vs_orc"]) == {"difference", "low", "high", "p", "p_equivalent", "test", "verdict"}
    assert not any("vs_kd" in values for values in summarized.values()) and "vs_orc" not in summarized["orc"]
    methods, _ = tables(compared, "orc")
    assert "vs orc (pp)" in methods.header and cells(methods, "orc")["verdict"] == "reference"
    assert cells(methods, "kd")["vs orc (pp)"][0] in "+-"
    assert not any("no comparison" in note for note in notes(compared, "orc", LABELS, True))


@pytest.mark.parametrize("reference", ["average", "cooperative"])
def test_a_reference_that_trains_no_student_gives_a_note_instead_of_empty_columns(compared, reference):
    line = f"no comparison: {reference} (report.reference) is not among the methods that train a student"
    found = notes(compared, reference, LABELS, True)
    assert found[0] == line
    methods, members = tables(compared, reference)
    costs = ("cost given a teacher", "cost from nothing")
    assert methods.header == ("method", "test top-1 (%)", "test, best on val. (%)", "parameters", *costs, "train (s)")
    assert all(len(row) == len(methods.header) for row in methods.rows)
    assert f"\n\n- {line}\n" in markdown([methods, members], found)
    assert not any(key.startswith("vs_") for values in summary(compared, reference).values() for key in values)


def test_a_method_that_diverged_in_all_seeds_has_a_row_that_says_where(tmp_path):
    compared = with_diverged(tmp_path, [0, 1], {"orc": [0, 1], "cooperative": [0, 1]})
    methods, members = tables(compared, "kd")
    assert cells(methods, "orc") == dict.fromkeys(methods.header, "-") | {
        "method": "orc",
        "test top-1 (%)": "diverged",
        "verdict": "network student, epoch 3, step 17",
    }
    assert members.rows == [("cooperative", "diverged: network a, epoch 3, step 17", "2", "-", "-", "-", "-")]
    summarized = summary(compared, "kd")
    assert summarized["orc"] == {"n": 0, "diverged": 2} and "diverged" not in summarized["kd"]
    assert "vs_kd" in summarized["sdgkd"]
    note = "diverged: 2 of 2 seeds of orc (seed 0: ce of network student, epoch 3, step 17)"
    assert note in notes(compared, "kd", LABELS, True)


def test_a_method_that_diverged_in_some_seeds_has_the_mean_of_the_others(tmp_path):
    whole = summary(with_diverged(tmp_path, [0, 1, 2], {}), "kd")
    compared = with_diverged(tmp_path, [0, 1, 2], {"orc": [1], "cooperative": [0, 1]})
    values = summary(compared, "kd")["orc"]
    kept = [whole["orc"]["seeds"][seed]["top1"] for seed in ("0", "2")]
    assert values["top1"] == pytest.approx(sum(kept) / 2)
    assert (values["n"], values["diverged"], list(values["seeds"])) == (2, 1, ["0", "2"])
    methods, members = tables(compared, "kd")
    assert cells(methods, "orc")["verdict"].endswith("; 1 of 3 seeds diverged")
    assert members.rows[1][1].endswith(", 2 of 3 seeds diverged") and len(members.rows) == 3
    assert "diverged: seed 1 of orc (ce of network student, epoch 3, step 17)" in notes(compared, "kd", LABELS, True)


def test_a_reference_that_diverged_gives_no_comparison(tmp_path):
    compared = with_diverged(tmp_path, [0, 1], {"kd": [0, 1]})
    assert notes(compared, "kd", LABELS, True)[0] == "no comparison: kd (report.reference) diverged in all seeds"
    methods, _ = tables(compared, "kd")
    assert not any(name.startswith("vs ") for name in methods.header)
    assert cells(methods, "kd")["verdict"].startswith("network student") and cells(methods, "orc")["verdict"] == ""
    assert not any("vs_kd" in values for values in summary(compared, "kd").values())


def test_methods_without_a_common_seed_are_not_compared(tmp_path):
    compared = with_diverged(tmp_path, [0, 1], {"kd": [0], "orc": [1]})
    methods, _ = tables(compared, "kd")
    assert cells(methods, "kd")["verdict"] == "reference; 1 of 2 seeds diverged"
    assert cells(methods, "orc")["verdict"] == "no common seed; 1 of 2 seeds diverged"
    assert summary(compared, "kd")["scratch"]["vs_kd"]["test"] == "McNemar"


def test_all_methods_may_diverge(tmp_path):
    names = ("scratch", "kd", "sdgkd", "orc", "cooperative")
    compared = with_diverged(tmp_path, [0], {name: [0] for name in names})
    assert summary(compared, "kd") == {name: {"n": 0, "diverged": 1} for name in names}
    methods, members = tables(compared, "kd")
    assert [row[1] for row in methods.rows] == ["diverged"] * 4 and len(members.rows) == 1


def change(file, **changed):
    """Write a document again, with a valid checksum."""
    content = read_evaluation(file)
    write_json(file, {**content, **changed})


def test_a_seed_has_either_ended_or_diverged(tmp_path):
    with_diverged(tmp_path, [0, 1], {"kd": [1]})
    file = tmp_path / "results/eval/kd.json"
    content = read_bytes(file)
    with pytest.raises(DataError, match=r"eval/kd\.json has no seed 2"):
        outcomes(entries(["kd"]), [1, 2], tmp_path / "results")
    change(file, diverged={"0": WHERE})
    with pytest.raises(DataError, match=r"seed 0 is in both seeds and diverged"):
        read_evaluation(file)
    file.write_bytes(content)
    change(file, seeds={}, diverged={})
    with pytest.raises(DataError, match=r"it has no seed"):
        read_evaluation(file)
