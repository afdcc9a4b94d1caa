"""Real stages on names and files that may come from anywhere: one line, status 1 or 2, and the old outputs stay."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from project import ENVIRONMENT

pytestmark = pytest.mark.slow


def state(folder) -> dict[str, bytes]:
    """The content of all files in a folder."""
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def refused(done, *said: str) -> None:
    """Assert that a stage ended with one line, which contains some words."""
    assert done.returncode in (1, 2), done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert all(words in lines[0] for words in said), lines[0]


def test_the_name_of_a_method_does_not_reach_a_shell(project):
    name = "x; touch started; #"

    def change(document):
        document["methods"][name] = {"is": "kd", "after": "models/teacher"}
        document[name] = document["kd"]

    project.edit(change)
    try:
        done = project.dvc("repro", "-s", f"distill@{name}", ok=False)
        assert done.returncode != 0
        assert not (project.folder / "started").exists()
    finally:
        project.reset()


@pytest.mark.parametrize(
    "arguments",
    [
        ("chain", "takd", ""),
        ("chain", "takd", ".."),
        ("chain", "", "teacher"),
        ("distill", ""),
        ("distill", "../teacher"),
        ("evaluate", "."),
        ("evaluate", "../../kd"),
        ("evaluate", "x" * 5000),
        ("assist", "takd", "ta1/../ta2"),
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_an_argument_that_is_no_name_replaces_nothing(project, arguments):
    before = state(project.folder / "models")
    done = project.stage(*arguments, ok=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert state(project.folder / "models") == before


@pytest.mark.parametrize(
    "stage",
    [
        ("distill", "kd"),
        *(pytest.param(s, marks=pytest.mark.long) for s in (("prepare",), ("evaluate", "kd"), ("report",))),
    ],
)
def test_two_runs_of_a_stage_at_once_both_succeed(project, stage):
    for _ in range(2):
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]],
                cwd=project.folder,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        for run in runs:
            _, errors = run.communicate(timeout=300)
            assert run.returncode == 0, errors.decode()
    hidden = [f for f in project.folder.rglob(".*.partial") if ".dvc" not in f.parts]
    assert hidden == [] and not list(project.folder.glob("results/**/*.tmp"))


def test_damaged_outputs_of_other_stages_are_named_with_what_to_run(project):
    folder = project.folder

    def damaged(name: str, content: bytes, stage: tuple[str, ...], *said: str) -> None:
        file = folder / name
        before, outputs = file.read_bytes(), state(folder / "results")
        file.unlink()  # DVC may have linked it to its cache
        file.write_bytes(content)
        try:
            refused(project.stage(*stage, ok=False), name, *said)
            results = state(folder / "results")
            results.pop(name.removeprefix("results/"), None)
            outputs.pop(name.removeprefix("results/"), None)
            assert results == outputs
        finally:
            file.unlink()
            file.write_bytes(before)

    run = "models/students/kd/seed-0"
    damaged(f"{run}/run.json", b"{}", ("evaluate", "kd"), "is damaged", "method: Field required", "dvc repro")
    damaged(f"{run}/networks.json", b"[1", ("evaluate", "kd"), "is damaged")
    damaged("data/prepared/meta.json", b"\xff", ("distill", "kd"), "is damaged", "dvc repro prepare")
    damaged("data/prepared/split.parquet", b"PAR1", ("evaluate", "kd"), "SHA-256")
    weights = bytearray((folder / "models/teacher/seed-0/teacher.last.safetensors").read_bytes())
    weights[-1] ^= 1
    damaged("models/teacher/seed-0/teacher.last.safetensors", bytes(weights), ("distill", "kd"), "SHA-256")
    damaged("results/eval/kd.json", b"{}", ("report",), "is damaged")
    damaged("data/prepared/classes.txt", b"a\nb\n", ("export",), "SHA-256")
    document = json.loads((folder / "results/eval/kd.json").read_text())
    document["classes"].reverse()
    damaged("results/eval/kd.json", json.dumps(document).encode(), ("report",), "checksum")
    damaged("results/train/kd/history.csv", b"seed,leg\n", ("report",), "SHA-256")
    table = pl.read_parquet(folder / "results/predictions/kd.parquet")
    no_numbers = pl.Series(np.full((len(table), 10), np.nan, np.float32))
    table.with_columns(logits=no_numbers).write_parquet(folder / "x.parquet")
    damaged("results/predictions/kd.parquet", (folder / "x.parquet").read_bytes(), ("report",), "is damaged")
    damaged("results/cost/kd.json", b'{"seeds": {"0": 1}}', ("export",), "is damaged")
