"""The code blocks of docs/add-a-method.md, copied verbatim into the project, add a method that runs."""

import json
import re
from pathlib import Path

import pytest
from project import ran
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs/add-a-method.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_code_blocks_of_the_page_add_a_method_that_runs(project, tmp_path):
    cache = project.folder / ".dvc/cache"
    project = project.clone(tmp_path / "clone")
    project.dvc("cache", "dir", "--local", str(cache))
    project.dvc("checkout", "-q")
    method, schema = blocks("python")
    (values,) = blocks("yaml")
    (project.folder / "pipeline/methods/clean.py").write_text(method)
    with (project.folder / "pipeline/params/schema.py").open("a") as out:
        text = (project.folder / "pipeline/params/schema.py").read_text()
        assert "class Clean" not in text
        out.write(f"\n\n{schema}")
    added = YAML(typ="safe", pure=True).load(values)
    project.edit(lambda document: (document["methods"].update(added["methods"]), document.update(clean=added["clean"])))
    done = project.dvc("repro")
    assert ran(done.stdout) == ["check", "members", "distill@clean", "evaluate@clean", "report", "complete"]
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert set(summary) == {"kd", "orc", "clean"}
    history = (project.folder / "results/train/clean/history.csv").read_text()
    assert ",student,right/teacher," in history and ",student,kd/teacher," in history
    assert "clean" in done.stdout[done.stdout.index("Methods:") :]
    project.dvc("exp", "run", "-S", "clean.alpha=0.5")


def test_lines_of_the_methods_page_add_entries_whose_sections_exist(project, tmp_path):
    page = (Path(__file__).parents[2] / "docs/methods.md").read_text()
    overrides = re.findall(r"-S '(\+methods\.[^']+)'", page)
    assert len(overrides) == 3
    cache = project.folder / ".dvc/cache"
    project = project.clone(tmp_path / "clone")
    project.dvc("cache", "dir", "--local", str(cache))
    project.dvc("checkout", "-q")
    done = project.dvc("exp", "run", *(part for override in overrides for part in ("-S", override)))
    added = {override.removeprefix("+methods.").split("=")[0] for override in overrides}
    assert {f"distill@{name}" for name in added} <= set(ran(done.stdout))
    summary = json.loads((project.folder / "results/summary.json").read_text())
    assert set(summary) == {"kd", "orc", *added}
    assert all(summary[name]["top1"] > 0 for name in added)
