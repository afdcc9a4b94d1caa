"""scikit-learn's classifiers by name, and the options that each accepts.

Importing scikit-learn takes seconds, and every command reads params.yaml. So this module parses its source files
instead, and only those that define the class in question. It imports neither NumPy nor scikit-learn.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PREFIX = "sklearn/"  # of an architecture that is an estimator, e.g. sklearn/RandomForestClassifier
FIXED = {  # options that decide no result, or that the run decides
    "random_state": "a function of the seed and the member",
    "n_jobs": "one thread, so that repeats are bit-identical",
    "verbose": "no output",
    "warm_start": "each member is fitted from the start",
    "memory": "no cache",
}
# Folders and files whose classes are no estimators for users: scikit-learn tests itself with them.
NOT_FOR_USERS = {"tests", "externals", "_mocking.py", "_testing.py", "estimator_checks.py"}
LIKELY = ("Classifier", "SVC", "NB", "Regression", "CV", "Analysis")  # ends of classifiers' names, for hints


def is_estimator(arch: str) -> bool:
    """Whether an architecture is an estimator of scikit-learn."""
    return arch.startswith(PREFIX)


def complaint(arch: str, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which key is wrong, and why; None if the class exists, answers with probabilities, and has these options.

    arch: PREFIX and the name of a class.  The key is arch or options.NAME. Values are not checked: `create` does that.
    """
    name = arch.removeprefix(PREFIX)
    if name not in sources() or name.startswith("_"):
        likely = [known for known in sources() if known.endswith(LIKELY) and not known.startswith("_")]
        close = [PREFIX + known for known in get_close_matches(name, likely, n=10)]
        near = [known for known in close if complaint(known, {}) is None][:3]
        return "arch", f"scikit-learn has no classifier {name}" + (f"; nearest: {', '.join(near)}" if near else "")
    members = {node.name for node in methods(name)}
    if not {"fit", "predict"} <= members or "ClassifierMixin" not in (node.name for node in lineage(name)):
        return "arch", f"{name} is not a classifier of scikit-learn"
    if "predict_proba" not in members:
        return "arch", f"{name} does not answer with probabilities: it has no predict_proba"
    accepted, required = signature(name)
    if required:
        return "arch", f"{name} requires other estimators ({', '.join(required)}), which params.yaml cannot give"
    for option in options:
        if option in FIXED:
            return f"options.{option}", f"the run decides it: {FIXED[option]}"
        if option not in accepted:
            near = get_close_matches(option, accepted, n=3, cutoff=0.5)
            return f"options.{option}", f"{name} has no such option" + (f"; nearest: {', '.join(near)}" if near else "")
    return None


@cache
def sources() -> dict[str, Path]:
    """The file that defines each class of scikit-learn. Of classes that share a name, the first file's counts."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        return {}
    root = Path(spec.origin).parent
    found = {}
    for file in sorted(root.rglob("*.py")):
        if not NOT_FOR_USERS & set(file.relative_to(root).parts):
            for name in re.findall(r"^class (\w+)", file.read_text("utf-8"), re.MULTILINE):
                found.setdefault(name, file)
    return found


def module_of(name: str) -> str:
    """The module that defines a class of scikit-learn, e.g. sklearn.ensemble._forest."""
    file = sources()[name]
    root = next(parent for parent in file.parents if parent.name == "sklearn")
    return ".".join(file.relative_to(root.parent).with_suffix("").parts)


@cache
def syntax(file: Path) -> dict[str, ast.ClassDef]:
    """The classes that a file defines."""
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def lineage(name: str) -> Iterator[ast.ClassDef]:
    """A class and those that it inherits from, as far as scikit-learn defines them, nearest first."""
    todo, visited = [(name, sources().get(name))], set()
    while todo:
        current, file = todo.pop(0)
        if file is None or current in visited:
            continue
        visited.add(current)
        node = syntax(file)[current]
        yield node
        for base in node.bases:
            if isinstance(base, ast.Name):
                todo.append((base.id, file if base.id in syntax(file) else sources().get(base.id)))


def methods(name: str) -> Iterator[ast.FunctionDef]:
    """The methods of a class, inherited ones too."""
    for node in lineage(name):
        yield from (part for part in node.body if isinstance(part, ast.FunctionDef))


def signature(name: str) -> tuple[list[str], list[str]]:
    """The names of all arguments of a class, and of those that have no default."""
    for method in methods(name):
        if method.name == "__init__":
            positional = [a.arg for a in (*method.args.posonlyargs, *method.args.args)][1:]
            keyword = [a.arg for a in method.args.kwonlyargs]
            required = positional[: max(0, len(positional) - len(method.args.defaults))]
            required += [a for a, default in zip(keyword, method.args.kw_defaults) if default is None]
            return [*positional, *keyword], required
    return [], []
