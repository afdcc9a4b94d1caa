"""A digest of the code that decides a result, so that an edit which cannot change a number costs no training.

It covers the import closure of a stage. It leaves out comments, docstrings, formatting, what is printed and the text
of raised errors, and the files that only read parameters (their values are in a checkpoint's key) or talk to the user.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOMS = ("pipeline", "stages")
WITH_MESSAGE = ("UserError", "ParamsError", "DataError", "Interrupted", "ValueError", "TypeError")
NOT_COMPUTING = (
    "pipeline/errors.py",
    "pipeline/progress.py",
    "pipeline/tracking.py",
    "pipeline/params/",
    "pipeline/parallel/",
    "stages/command.py",
)


def code_digest(root: Path, files: Iterable[str]) -> str:
    """SHA-256 of everything that these files compute, directly or by what they import.

    files: paths relative to `root`, the project's folder.
    """
    total = hashlib.sha256()
    for file in import_closure(root, files):
        total.update(file.encode() + b"\0" + computation(root / file).encode() + b"\0")
    return total.hexdigest()


def import_closure(root: Path, files: Iterable[str]) -> list[str]:
    """These files and the project's files that they import, at the top or within functions; sorted."""
    seen: set[str] = set()
    todo = list(files)
    while todo:
        file = todo.pop()
        if file not in seen and not file.startswith(NOT_COMPUTING):
            seen.add(file)
            todo += imported_files(root, root / file)
    return sorted(seen)


def imported_files(root: Path, file: Path) -> Iterator[str]:
    """The project's files that a file imports, with the `__init__.py` of the packages that contain them."""
    for module in imported_modules(root, file):
        parts = module.split(".")
        if parts[0] in ROOMS:
            packages = [Path(*parts[:k], "__init__.py") for k in range(1, len(parts) + 1)]
            for found in (Path(*parts).with_suffix(".py"), *packages):
                if (root / found).is_file():
                    yield found.as_posix()


def imported_modules(root: Path, file: Path) -> Iterator[str]:
    """The absolute names of the modules that a file imports, at the top or within functions."""
    package = file.relative_to(root).parent.parts
    for level, name, members in parsed(file.read_text("utf-8"))[0]:
        above = package[: len(package) - level + 1] if level else ()
        module = ".".join([*above, *([name] if name else [])])
        yield module
        yield from (f"{module}.{member}" for member in members)


def computation(file: Path) -> str:
    """The syntax tree of a file without what only a reader or a user sees."""
    return parsed(file.read_text("utf-8"))[1]


@cache  # a stage asks for two digests, of much the same files
def parsed(code: str) -> tuple[list[tuple[int, str, list[str]]], str]:
    """The imports of a file, as level, module and members, and its syntax tree without text."""
    tree = ast.parse(code)
    imports: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return imports, ast.dump(WithoutText().visit(tree))


class WithoutText(ast.NodeTransformer):
    """Removes docstrings, calls that print or log, and the messages of raised errors."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Drop statements that are a string, or that print or log."""
        value = node.value
        text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        return ast.Pass() if text or is_message(value) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Keep which error is raised, but not its message. Other exceptions may carry values, which are kept."""
        if isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in WITH_MESSAGE:
            node.exc = node.exc.func
        return node


def is_message(value: ast.expr) -> bool:
    """Whether an expression only prints, or logs by a method of the object or of its progress display."""
    if not isinstance(value, ast.Call) or any(isinstance(node, ast.NamedExpr) for node in ast.walk(value)):
        return False
    return ast.unparse(value.func) in ("print", "self.log", "self.progress.log")
