"""Real runs with wrong labels and with a teacher that sees a part of the images."""

import json

import numpy as np
import pytest
from project import ran

from pipeline.data.prepared import Prepared
from pipeline.data.split import teacher_rows
from pipeline.evaluation.records import read_evaluation
from pipeline.storage.bundle import Bundle

pytestmark = pytest.mark.slow


def sees(project, bundle: str, name: str):
    rows = Bundle.read(project.folder / bundle).sees(name)
    return rows if rows is None else rows.tolist()


def test_teacher_and_chain_see_their_share_and_students_see_all_images(project):
    before = sees(project, "models/teacher/seed-0", "teacher")
    project.set("data.teacher_share", 0.6)
    done = ran(project.dvc("repro", "assist-dgkd", "distill@orc").stdout)
    assert {"prepare", "pretrain", "distill@orc"} <= set(done) and "members" not in done
    labels = Prepared.read(project.folder / "data/prepared").labels("train")
    rows = teacher_rows(labels, 0.6, 0)
    assert before is None and rows is not None and len(rows) == round(0.6 * 64)
    assert sees(project, "models/teacher/seed-0", "teacher") == rows.tolist()
    for name in ("teacher", "ta1", "ta2"):
        assert sees(project, "models/dgkd/ta2/seed-0", name) == rows.tolist()
    for name in ("student", "pivot", "ta1"):
        assert sees(project, "models/students/orc/seed-0", name) is None
    project.reset()


def test_zero_noise_and_a_whole_share_retrain_nothing(project):
    done = project.dvc("exp", "run", "-S", "data.label_noise=0", "report")
    assert set(ran(done.stdout)) == {"check", "prepare", "report"}
    assert project.run("git", "status", "--porcelain", "results").stdout == ""
    project.reset()


def test_an_edited_confusion_file_changes_labels_and_results(project):
    file = project.folder / "data/digits/confusion.csv"

    def write(share: float) -> None:
        matrix = (1 - share) * np.eye(10) + share * np.roll(np.eye(10), 1, 1)
        lines = [["true", *range(10)], *([k, *row.tolist()] for k, row in enumerate(matrix))]
        file.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))

    wrong = []
    write(0.3)
    project.set("data.label_noise", "confusion.csv")
    project.edit(lambda document: document["methods"].pop("orc"))
    for share in (0.3, 1.0):
        write(share)
        assert {"prepare", "pretrain", "distill@kd", "evaluate@kd"} <= set(ran(project.dvc("repro", "report").stdout))
        data = Prepared.read(project.folder / "data/prepared")
        given, true = data.labels("train"), data.true_labels("train")
        assert set(((given - true) % 10).tolist()) <= {0, 1}
        wrong.append((given != true).mean())
        training = read_evaluation(project.folder / "results/eval/kd.json")["seeds"]["0"]["training"]
        assert training["wrong_labels"] == pytest.approx(wrong[-1], abs=1e-6) and training["teacher_errors"] > 0
        assert "False knowledge, on 64 training images" in (project.folder / "results/table.md").read_text()
        assert "passed_on" in json.loads((project.folder / "results/summary.json").read_text())["kd"]
    assert 0 < wrong[0] < 1 and wrong[1] == 1
    file.write_text("true,0\n0,1\n")
    failed = project.dvc("repro", ok=False)
    assert (
        failed.returncode and "error: data.label_noise: data/digits/confusion.csv must have 11 lines" in failed.stderr
    )
    file.unlink()
    project.reset()
