"""Imports point one way, and what must answer at once imports nothing slow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST_PARTY = ("pipeline", "stages")
METHODS_MAY_IMPORT = {"pipeline.core.losses", "pipeline.core.inputs", "pipeline.core.vocabulary"}
STAGES = sorted(p.stem for p in (ROOT / "stages").glob("*.py") if p.stem not in ("__init__", "command"))
# room -> the rooms that it may import besides itself
ALLOWED = {
    "errors": set(),
    "models": {"errors"},
    "data": {"errors", "core.counters"},
    "params": {"errors", "models.names"},
    "core": {"errors", "models", "data"},
    "methods": {"core.losses", "core.inputs", "core.vocabulary"},
    "evaluation": {"errors", "core.bundle", "data"},
    "export": {"errors", "core.bundle", "data", "evaluation.statistics", "models"},
}


def imports(path: Path) -> set[str]:
    """First-party modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return {name for name in found if name.split(".")[0] in FIRST_PARTY}


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda p: p.stem)
def test_a_room_imports_only_the_rooms_below_it(path):
    room = path.relative_to(ROOT / "pipeline").with_suffix("").parts[0]
    if room == "__init__":
        return
    for name in imports(path):
        assert name.split(".")[0] == "pipeline", f"{path} imports {name}"
        below = name.removeprefix("pipeline.").removeprefix("pipeline")
        if not below or below.split(".")[0] == room:
            continue
        assert any(below == a or below.startswith(a + ".") for a in ALLOWED[room]), f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline/methods").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_a_method_knows_no_device_no_optimizer_and_no_file(path):
    assert imports(path) <= METHODS_MAY_IMPORT
    text = path.read_text()
    for word in ("accelerate", "optim", "cuda", "device=", "open(", "Path("):
        assert word not in text, f"{path} says {word}"


def test_init_files_are_empty():
    assert [p for room in FIRST_PARTY for p in (ROOT / room).rglob("__init__.py") if p.read_text().strip()] == []


def test_no_file_is_longer_than_300_lines():
    files = [p for room in FIRST_PARTY for p in (ROOT / room).rglob("*.py")]
    assert [str(p) for p in files if len(p.read_text().splitlines()) > 300] == []


@pytest.mark.parametrize("stage", STAGES)
def test_help_imports_neither_torch_nor_timm_and_says_what_the_stage_does(stage):
    code = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('stages.{stage}', run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0\n"
        "assert not {'torch', 'timm', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert "Usage" in out.stdout and len(out.stdout.splitlines()) > 6


def test_check_imports_neither_torch_nor_timm():
    code = (
        "import sys; sys.argv = ['check']; import stages.check as c; c.OUT = c.Path('/dev/null'); c.main()\n"
        "assert not {'torch', 'timm', 'torchvision', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_method_file_names_its_method():
    from importlib import import_module

    from pipeline.params.schema import KINDS

    files = {p.stem for p in (ROOT / "pipeline/methods").glob("[a-z]*.py")}
    assert files == set(KINDS)
    for name in files:
        assert import_module(f"pipeline.methods.{name}").METHOD.__doc__
