"""Packages import only lower packages, commands that must start fast import no slow library, and code is documented."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST_PARTY = ("pipeline", "stages")
METHODS_MAY_IMPORT = {
    "pipeline.core.losses",
    "pipeline.core.pixel_descent",
    "pipeline.core.evolution",
    "pipeline.core.interface",
}
STAGES = sorted(p.stem for p in (ROOT / "stages").glob("*.py") if p.stem not in ("__init__", "command"))
# package -> the packages that it may import besides itself; no two import each other, directly or indirectly
ALLOWED = {
    "errors": set(),
    "core": set(),
    "progress": {"core.interface"},
    "tracking": {"errors", "progress"},
    "runtime": {"errors"},
    "models": {"errors"},
    "estimators": {"errors"},
    "params": {"errors", "models.names", "estimators.catalog"},
    "storage": {"errors", "models", "estimators"},
    "data": {"errors", "core.randomness", "storage.atomic", "storage.documents", "storage.folders", "storage.digests"},
    "methods": {"core.losses", "core.pixel_descent", "core.evolution", "core.interface"},
    "parallel": {"errors", "models.names", "runtime.launch", "runtime.signals"},
    "training": {
        "errors",
        "progress",
        "tracking",
        "core",
        "runtime",
        "parallel.seeds",
        "storage",
        "data",
        "models",
        "estimators",
    },
    "evaluation": {"errors", "storage", "data", "models"},
    "tuning": {
        "errors",
        "core.randomness",
        "params",
        "parallel",
        "runtime",
        "storage",
        "training",
        "evaluation.loss_weights",
        "evaluation.trials",
    },
    "export": {"errors", "storage", "data", "models", "estimators.catalog", "evaluation.statistics"},
}
LARGEST_SHARE = 0.2  # of the lines of pipeline/ and stages/, in one package


def imports(path: Path, names: bool = False) -> set[str]:
    """First-party modules that a file imports anywhere, except under TYPE_CHECKING.

    names: add the names that it imports from them, which may be modules, too.
    """
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names if names)}
    return {name for name in found if name.split(".")[0] in FIRST_PARTY}


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda p: p.stem)
def test_package_imports_only_lower_packages(path):
    package = path.relative_to(ROOT / "pipeline").with_suffix("").parts[0]
    if package == "__init__":
        return
    for name in imports(path):
        assert name.split(".")[0] == "pipeline", f"{path} imports {name}"
        below = name.removeprefix("pipeline.").removeprefix("pipeline")
        if not below or below.split(".")[0] == package:
            continue
        assert any(below == a or below.startswith(a + ".") for a in ALLOWED[package]), f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline/methods").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_method_uses_no_device_no_optimizer_and_no_file(path):
    assert imports(path) <= METHODS_MAY_IMPORT
    text = path.read_text()
    for word in ("accelerate", "optim", "cuda", "device=", "open(", "Path("):
        assert word not in text, f"{path} contains {word}"


def test_package_dependencies_are_acyclic():
    def below(package: str, seen: tuple[str, ...] = ()) -> None:
        assert package not in seen, " -> ".join([*seen, package])
        for name in ALLOWED[package]:
            below(name.split(".")[0], (*seen, package))

    for package in ALLOWED:
        below(package)


def test_no_two_modules_import_each_other_directly_or_indirectly():
    modules = {}
    for path in (ROOT / "pipeline").rglob("*.py"):
        *parents, name = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parents if name == "__init__" else [*parents, name])] = path
    graph = {
        name: {module for module in imports(path, names=True) if module in modules} for name, path in modules.items()
    }
    TopologicalSorter({name: imported - {name} for name, imported in graph.items()}).prepare()


def test_every_package_is_in_the_table():
    packages = {p.stem for p in (ROOT / "pipeline").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert packages - {"__init__"} == set(ALLOWED)


def test_test_folders_mirror_the_packages():
    packages = {p.name for p in (ROOT / "pipeline").iterdir() if (p / "__init__.py").is_file()}
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders - packages == {"architecture", "graph", "support"} and packages <= folders


def test_no_package_has_more_than_a_fifth_of_the_lines():
    lines = {p: len(p.read_text().splitlines()) for package in FIRST_PARTY for p in (ROOT / package).rglob("*.py")}
    packages: dict[str, int] = {}
    for path, n in lines.items():
        first, *rest = path.relative_to(ROOT).parts
        package = first if first == "stages" else rest[0]
        packages[package] = packages.get(package, 0) + n
    assert max(packages.values()) <= LARGEST_SHARE * sum(packages.values()), packages


def test_public_functions_and_classes_have_a_docstring():
    missing = []
    for path in sorted(p for package in FIRST_PARTY for p in (ROOT / package).rglob("*.py") if p.read_text().strip()):
        tree = ast.parse(path.read_text())
        parents = [(tree, path.name)] + [(n, n.name) for n in tree.body if isinstance(n, ast.ClassDef)]
        for parent, _ in parents:
            for node in [parent, *parent.body]:
                named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
                if (named or isinstance(node, ast.Module)) and not ast.get_docstring(node):
                    missing.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}")
    assert sorted(set(missing)) == []


def test_init_files_are_empty():
    assert [p for package in FIRST_PARTY for p in (ROOT / package).rglob("__init__.py") if p.read_text().strip()] == []


def test_no_file_is_longer_than_300_lines():
    files = [p for package in FIRST_PARTY for p in (ROOT / package).rglob("*.py")]
    assert [str(p) for p in files if len(p.read_text().splitlines()) > 300] == []


@pytest.mark.parametrize("stage", STAGES)
def test_help_describes_the_stage_and_imports_neither_torch_nor_timm(stage):
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


def test_every_method_file_defines_a_documented_method():
    from importlib import import_module

    from pipeline.params.schema import KINDS

    files = {p.stem for p in (ROOT / "pipeline/methods").glob("[a-z]*.py")}
    assert files == set(KINDS)
    for name in files:
        assert import_module(f"pipeline.methods.{name}").METHOD.__doc__
