"""Real searches of a small project: killed, stopped, with two workers, adopted, and without the test split."""

import shutil
import signal
import subprocess
import sys

import pytest
from dvc.utils.hydra import apply_overrides
from project import ENVIRONMENT, ran

from pipeline.evaluation.trials import read_trials
from pipeline.params.load import load

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-u", "-m", "stages.tune", "kd", "--trials", "3"]
# Runs a stage and prints, as its last line, every file of data/prepared that it has opened.
WATCHED = """
import atexit, os, runpy, sys
opened = set()
sys.addaudithook(lambda event, arguments: opened.add(str(arguments[0])) if event == "open" else None)
atexit.register(lambda: print("\\nOPENED", *sorted({os.path.basename(f) for f in opened if "data/prepared" in f})))
sys.argv = ["tune", "kd", "--trials", "2"]
runpy.run_module("stages.tune", run_name="__main__", alter_sys=True)
"""


def table(project, name: str = "kd") -> str:
    return (project.folder / f"results/tune/{name}.csv").read_text()


@pytest.fixture
def fresh(project):
    """The project without studies and trained trials, before and after the test."""

    def clean():
        project.reset()
        project.run("git", "clean", "-qfd", "results")
        project.run("rm", "-rf", ".tuning", *(str(f) for f in project.folder.glob(".checkpoints/tune-*")))

    clean()
    yield project
    clean()


@pytest.fixture(scope="module")
def undisturbed(project) -> dict[str, str]:
    """The tables of three trials of kd, as an undisturbed run leaves them."""
    project.stage("tune", "kd", "--trials", "3")
    return {"kd": table(project)}


def run_until(project, line: str, how: signal.Signals) -> str:
    """Start the command, send a signal when it prints a line, and return what it printed afterwards to stderr."""
    process = subprocess.Popen(
        COMMAND, cwd=project.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    for printed in process.stdout:
        if line in printed:
            break
    process.send_signal(how)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    return stderr


@pytest.mark.parametrize(
    "line",
    [
        "trial-1 seed 101: epoch 1/",
        pytest.param("trial 2 of 3: temperature", marks=pytest.mark.long),
        pytest.param("trial-3 seed 100: epoch 1/", marks=pytest.mark.long),
        "best ",
    ],
)
def test_a_killed_run_goes_on_to_the_trials_of_an_undisturbed_one(undisturbed, fresh, line):
    run_until(fresh, line, signal.SIGKILL)
    resumed = fresh.stage("tune", "kd", "--trials", "3").stdout
    assert table(fresh) == undisturbed["kd"]
    assert "trial 3 of 3: validation" in resumed


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(undisturbed, fresh):
    stderr = run_until(fresh, "trial-2 seed 100: epoch 1/", signal.SIGINT)
    said = "error: stopped after 1 finished trial; go on with `python -m stages.tune kd --trials 3`\n"
    assert stderr == said
    assert table(fresh).splitlines() == undisturbed["kd"].splitlines()[:2]
    fresh.stage("tune", "kd", "--trials", "3")
    assert table(fresh) == undisturbed["kd"]


def test_as_many_workers_as_seeds_give_the_table_of_one_job(undisturbed, fresh):
    fresh.stage("tune", "kd", "--trials", "3", "--jobs", "2")
    assert table(fresh) == undisturbed["kd"]


def test_the_test_split_is_not_read(undisturbed, fresh):
    images = fresh.folder / "data/prepared/test.npy"
    content = images.read_bytes()
    images.unlink()  # it may be a link to DVC's cache
    images.write_bytes(b"poison")
    try:
        out = fresh.run(sys.executable, "-c", WATCHED).stdout
    finally:
        images.unlink()
        images.write_bytes(content)
    opened = out.splitlines()[-1].split()
    assert opened[0] == "OPENED" and {"train.npy", "validation.npy"} <= set(opened) and "test.npy" not in opened
    assert table(fresh).splitlines() == undisturbed["kd"].splitlines()[:3]


def test_the_best_is_adopted_as_dvc_writes_it_and_the_report_says_so(undisturbed, fresh):
    file, tables = fresh.folder / "params.yaml", fresh.folder / "results/tune"
    plain = file.read_text()
    out = fresh.stage("tune", "kd", "--trials", "3").stdout
    assert file.read_text() == plain
    rows = read_trials(tables / "kd.csv")
    best = max(rows, key=lambda row: (row.validation, -row.trial))
    overrides = [f"kd.{name}={value}" for name, value in best.parameters.items() if value != rows[0].parameters[name]]
    assert overrides == [] or f"dvc exp run {' '.join(f'-S {o}' for o in overrides)}" in out
    if not overrides:
        pytest.skip("the parameters of params.yaml are the best of these trials")
    assert "report" in ran(fresh.dvc("repro", "report").stdout)
    assert "the best parameters of kd are not adopted" in (fresh.folder / "results/table.md").read_text()
    by_dvc = fresh.folder / "by_dvc.yaml"
    by_dvc.write_text(plain)
    apply_overrides(by_dvc, overrides)
    again = fresh.stage("tune", "kd", "--trials", "3", "--write").stdout
    assert "3 trials were finished before" in again and "epoch" not in again
    assert file.read_text() == by_dvc.read_text() != plain
    assert ran(fresh.dvc("repro", "report").stdout) == ["check", "distill@kd", "evaluate@kd", "report"]
    text = (fresh.folder / "results/table.md").read_text()
    assert "| kd | 3 |" in text and "| adopted |" in text and "not adopted" not in text
    assert "| orc | 0 | - | - | not tuned |" in text
    assert "different numbers of trials, 0 to 3" in (fresh.folder / "results/report.html").read_text()
    last = fresh.stage("tune", "kd", "--trials", "3").stdout
    assert "epoch" not in last and "params.yaml has the best parameters" in last
    assert table(fresh) == undisturbed["kd"]


def test_a_control_is_searched_after_its_method_and_with_its_new_weights(fresh):
    def with_control(document):
        document["methods"]["orc_matched"] = {
            "is": "kd",
            "after": "models/teacher",
            "control": True,
            "weights_of": "orc",
        }

    fresh.edit(with_control)
    out = fresh.stage("tune", "orc_matched", "orc", "--trials", "3", "--write").stdout
    after = load("orc", "orc_matched", file=fresh.folder / "params.yaml")
    assert out.index("orc: trial 3") < out.index("orc_matched: trial 1")
    assert "orc.beta=" in out and after["orc_matched"].kd_weight == pytest.approx(2 * after["orc"].beta, abs=1e-6)
    again = fresh.stage("tune", "orc_matched", "--trials", "3").stdout
    assert "orc_matched: 3 trials were finished before" in again  # they had these weights, or there were none


def test_trials_on_other_data_do_not_count(undisturbed, fresh):
    (fresh.folder / "results/tune/kd.csv").write_text(undisturbed["kd"])
    fresh.dvc("repro", "report")
    assert "| kd | 3 |" in (fresh.folder / "results/table.md").read_text()
    fresh.set("data.seed", 1)
    fresh.dvc("repro", "report")
    text = (fresh.folder / "results/table.md").read_text()
    assert "not tuned: every method has the parameters" in text and "| kd | 3 |" not in text
    (fresh.folder / "study").mkdir()
    shutil.copyfile(fresh.folder / "params.yaml", fresh.folder / "study/params.yaml")
    assert "left out: results/tune/kd.csv, whose trials are of other data" in fresh.stage("collect", "study").stdout
    assert not (fresh.folder / "study/results/tune").exists()


def test_dvc_repro_runs_with_and_without_tables(undisturbed, fresh):
    tables = fresh.folder / "results/tune"
    assert ran(fresh.dvc("repro", "report").stdout) == []
    shutil.rmtree(tables)
    fresh.dvc("repro", "report")
    assert tables.is_dir() and ran(fresh.dvc("repro", "report").stdout) == []
    (tables / "kd.csv").write_text(undisturbed["kd"])
    assert "report" in ran(fresh.dvc("repro", "report").stdout)
    assert (tables / "kd.csv").read_text() == undisturbed["kd"]
    assert ran(fresh.dvc("repro", "report").stdout) == []
    (tables / "kd.csv").unlink()
    assert "report" in ran(fresh.dvc("repro", "report").stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kdd"], "error: 'kdd' is not an entry of methods in params.yaml; nearest: kd\n"),
        (["../kd"], "error: '../kd' is not a name of letters, digits, _ and -\n"),
        (["dml"], "error: 'dml' is not an entry of methods in params.yaml\n"),
    ],
)
def test_an_unknown_method_is_one_line(fresh, arguments, message):
    done = fresh.stage("tune", *arguments, ok=False)
    assert done.returncode == 2 and done.stderr == message


def test_teachers_that_are_missing_are_one_line(fresh):
    teacher = fresh.folder / "models/teacher"
    teacher.rename(teacher.with_name("hidden"))
    done = fresh.stage("tune", "kd", ok=False)
    teacher.with_name("hidden").rename(teacher)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "models/teacher/seed-0/networks.json is missing: run `dvc repro`" in done.stderr


def test_all_gives_every_entry_as_many_trials(fresh):
    fresh.set("tune.seeds", [100])
    fresh.set("tune.epochs", 1)
    fresh.stage("tune", "all", "--trials", "2")
    found = {file.stem: len(read_trials(file)) for file in (fresh.folder / "results/tune").glob("*.csv")}
    assert found == {"kd": 2, "orc": 2}
