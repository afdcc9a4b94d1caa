"""params.yaml is formatted as DVC writes it, so `-S` changes only the lines of its keys."""

import shlex
import shutil
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from pipeline.params.load import validated
from pipeline.params.yaml_file import read, write_values

ROOT = Path(__file__).parents[2]


def changed_lines(folder: Path, *overrides: str) -> list[str]:
    """The lines that DVC removes from and adds to params.yaml when it applies the overrides."""
    file = folder / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", file)
    before = file.read_text().splitlines(keepends=True)
    apply_overrides(file, list(overrides))
    lines = unified_diff(before, file.read_text().splitlines(keepends=True), n=0)
    return [line.rstrip("\n") for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize("override", ["orc.beta=0.429", "seeds=[0,1,2]", "data.limit=auto", "methods.kd.is=kd"])
def test_override_with_the_same_value_changes_no_line(tmp_path, override):
    assert changed_lines(tmp_path, override) == []


@pytest.mark.parametrize(
    ("override", "old", "new"),
    [
        ("orc.beta=0.7", "beta: 0.429", "beta: 0.7"),
        ("student.arch=tiny_plain2_16", "arch: tiny_plain2_12", "arch: tiny_plain2_16"),
        ("train.flip=true", "flip: auto", "flip: true"),
        ("data.limit=100", "limit: auto", "limit: 100"),
        ("train.lr=1e-3", "lr: auto", "lr: 0.001"),
    ],
)
def test_override_changes_one_line(tmp_path, override, old, new):
    removed, added = changed_lines(tmp_path, override)
    # comments stay in their column
    assert old in removed and added[1:].split() == removed[1:].replace(old, new).split()


def test_each_added_seed_is_one_added_line(tmp_path):
    assert changed_lines(tmp_path, "seeds=[0,1,2,3,4]") == ["+- 3", "+- 4"]


def test_removing_a_method_removes_only_its_lines(tmp_path):
    assert changed_lines(tmp_path, "~methods.dml") == ["-  dml:", "-    is: dml", "-    after: models/group"]


def presets() -> list[list[str]]:
    """The overrides of every `dvc exp run` of docs/methods.md."""
    commands = (line for line in (ROOT / "docs/methods.md").read_text().splitlines() if "dvc exp run" in line)
    words = (shlex.split(command) for command in commands)
    return [[word for before, word in pairwise(of_command) if before == "-S"] for of_command in words]


@pytest.mark.parametrize("overrides", presets(), ids=" ".join)
def test_every_preset_of_the_page_of_methods_changes_params_yaml_to_a_valid_one(tmp_path, monkeypatch, overrides):
    added = [line for line in changed_lines(tmp_path, *overrides) if line.startswith("+")]
    assert len(added) >= len(overrides) > 0
    values = read(tmp_path / "params.yaml")
    monkeypatch.chdir(ROOT)
    validated(values)


def test_written_values_keep_link_and_mode(tmp_path):
    file, link = tmp_path / "shared/own.yaml", tmp_path / "params.yaml"
    file.parent.mkdir()
    shutil.copyfile(ROOT / "params.yaml", file)
    file.chmod(0o640)
    link.symlink_to("shared/own.yaml")
    write_values(link, ["kd.temperature=2.57"])
    assert link.readlink() == Path("shared/own.yaml") and read(file)["kd"]["temperature"] == 2.57
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["own.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "shared"]
