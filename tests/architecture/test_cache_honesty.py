"""dvc.yaml declares everything that a stage reads; otherwise DVC would reuse a stale result from its cache."""

import ast
import re
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.params.schema import KINDS

ROOT = Path(__file__).parents[2]
# Files that determine no output: they only talk to the user. Values of parameters are in dvc.yaml's params.
MESSAGES_ONLY = {"pipeline/errors.py", "pipeline/progress.py", "pipeline/tracking.py", "stages/command.py"}
SCHEDULING = {f"pipeline/parallel/{p.name}" for p in (ROOT / "pipeline/parallel").glob("*.py")}  # who trains a seed
NAMES = {"pipeline/models/names.py", "pipeline/estimators/catalog.py"}  # of what params.yaml may name
PARAMS = {f"pipeline/params/{p.name}" for p in (ROOT / "pipeline/params").glob("*.py")} | NAMES
STAGES = list(Repo(ROOT).index.stages)
RAW = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]


def file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    if path.with_suffix(".py").exists():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").exists() else None


def imports(path: Path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)


def closure(*modules: str) -> set[str]:
    """Non-empty first-party files that these modules import, directly or indirectly."""
    seen: set[Path] = set()
    todo = list(modules)
    while todo:
        file = file_of(todo.pop())
        if file and file not in seen:
            seen.add(file)
            todo += [m for m in imports(file) if m.split(".")[0] in ("pipeline", "stages")]
    return {f.relative_to(ROOT).as_posix() for f in seen if f.read_text().strip()}


def modules_of(stage) -> list[str]:
    """The module of a stage, and the method that the stage imports by name."""
    module = re.search(r"-m (stages\.\w+)", stage.cmd)[1]
    modules = [module]
    name, _, entry = stage.name.partition("@")
    if name == "distill":
        methods = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())["methods"]
        modules.append(f"pipeline.methods.{methods[entry]['is']}")
    elif name.startswith("assist-"):
        modules.append(f"pipeline.methods.{name.removeprefix('assist-')}")
    return modules


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_deps_of_a_stage_cover_its_imports(stage):
    deps = {Path(d.fs_path).relative_to(ROOT).as_posix() for d in stage.deps if d.protocol == "local" and d.fs_path}
    exempt = MESSAGES_ONLY | SCHEDULING | (PARAMS if stage.name != "check" else set())
    needed = closure(*modules_of(stage)) - exempt
    assert {f for f in needed if not any(f == d or f.startswith(d + "/") for d in deps)} == set()


def loads(stage: str) -> set[str]:
    """The keys of every load(...) call in a stage's file; its argument becomes ${key}, as in dvc.yaml."""
    keys = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load":
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    keys.add(argument.value)
                elif isinstance(argument, ast.JoinedStr):
                    keys.add("".join(p.value if isinstance(p, ast.Constant) else "${key}" for p in argument.values))
                else:
                    keys.add("${chain}" if ast.unparse(argument) == "chain" else "${key}")
    return keys


@pytest.mark.parametrize("name", [n for n in RAW if n not in ("check", "chain")])
def test_stage_loads_exactly_the_params_that_it_declares(name):
    spec = RAW[name].get("do", RAW[name])
    module = re.search(r"-m stages\.(\w+)", spec["cmd"])[1]
    loaded = {key.replace("${chain}", name.removeprefix("assist-")) for key in loads(module)}
    assert loaded == set(spec.get("params", []))


def test_no_stage_depends_on_runtime():
    assert not [s for s in RAW.values() for key in s.get("do", s).get("params", []) if key.startswith("runtime")]


def test_runtime_and_tune_are_the_only_sections_that_no_stage_declares():
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    declared = {key.split(".")[0] for s in RAW.values() for key in s.get("do", s).get("params", [])}
    read = {key for key in declared if not key.startswith("$")} | set(params["methods"]) | {"methods", "assistants"}
    unused = set(KINDS) - set(params["methods"])  # sections for entries that a user may add to `methods`
    assert set(params) - read - unused == {"runtime", "tune"}


def test_params_yaml_uses_block_style_and_two_space_indentation():
    text = (ROOT / "params.yaml").read_text()
    for line in text.splitlines():
        assert (len(line) - len(line.lstrip())) % 2 == 0
        assert not re.search(r":\s*[\[{](?!\})", line), line
