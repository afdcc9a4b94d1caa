"""Read params.yaml as plain data, and write values into it.

Whatever the file holds, a mistake is one line that names the file and the line.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from pipeline.errors import ParamsError
from pipeline.params.messages import one_line, shown

LARGEST = 2**20  # bytes of the file
LONGEST = 100_000  # characters of a line; ruamel.yaml takes quadratic time for a long tag
DEEPEST = 50  # levels of nesting, after aliases are expanded
MOST_NODES = 100_000  # keys, values and lists, after aliases are expanded
TAG = "tag:yaml.org,2002:"
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,19})")
FLOAT = re.compile(r"[-+]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][-+]?[0-9]{1,4})?|[-+]?\.(inf|nan)", re.I)
DIRECTIVE = re.compile(r"^%", re.M)


class Mistake(Exception):
    """A mistake in the text: the line, from 1, and what is wrong."""

    def __init__(self, line: int, what: str):
        super().__init__(line, what)
        self.line, self.what = line, what


class Plain(Composer):
    """A composer that refuses explicit tags, and stops at the first node too many."""

    def __init__(self, loader: Any = None):
        super().__init__(loader)
        self.warn_double_anchors = False
        self.composed = self.level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node. Raises Mistake."""
        event = self.parser.peek_event()
        self.composed += 1
        if self.composed > MOST_NODES:
            raise Mistake(line_of(event), f"more than {MOST_NODES} values")
        if getattr(event, "ctag", None) is not None:
            raise Mistake(line_of(event), f"tags are not supported: write the value without {shown(str(event.ctag))}")
        if self.level >= DEEPEST:
            raise Mistake(line_of(event), f"more than {DEEPEST} levels")
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


def read(file: Path) -> dict[str, Any]:
    """The document as plain data.

    It is read as YAML 1.2, as DVC writes it: `no` is a string and 1e-3 is a number.
    Raises ParamsError with the line of a mistake.
    """
    try:
        return deepcopy(parsed(text_of(file)))
    except Mistake as mistake:
        raise ParamsError(one_line(f"{file}, line {mistake.line}: {mistake.what}")) from None


def write_values(file: Path, overrides: list[str]) -> None:
    """Set values as `dvc exp run -S` does, so that comments stay and no other line changes.

    overrides: e.g. ["kd.temperature=2.57"].  The file is replaced as a whole, with its mode. A link to it stays.
    """
    from dvc.utils.hydra import apply_overrides

    target = Path(os.path.realpath(file))
    partial = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        shutil.copyfile(target, partial)
        apply_overrides(partial, overrides)
        shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def text_of(file: Path) -> str:
    """The text of a regular file of UTF-8. Raises ParamsError or Mistake."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
            raise ParamsError(one_line(f"{file}: must be a file"))
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise ParamsError(one_line(f"{file} was not found: run the command from the root of the project")) from None
    except OSError as error:
        raise ParamsError(one_line(f"{file}: cannot be read: {error.strerror}")) from None
    if len(data) > LARGEST:
        raise ParamsError(one_line(f"{file}: must have at most {LARGEST} bytes"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Mistake(line, f"must be text in UTF-8, but the byte 0x{data[error.start]:02x} is not") from None


@lru_cache(maxsize=4)
def parsed(text: str) -> dict[str, Any]:
    """The document that a text holds; callers must not change it. A stage loads it several times. Raises Mistake."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > LONGEST:
            raise Mistake(number, f"longer than {LONGEST} characters")
    directive = DIRECTIVE.search(text)
    if directive:
        raise Mistake(text.count("\n", 0, directive.start()) + 1, "directives (%) are not supported")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = Plain
    try:
        root = yaml.compose(text)
        if not isinstance(root, MappingNode):
            raise Mistake(1, "must be a mapping of section names to sections")
        check(root)
        document = yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(str(part) for part in (error.context, error.problem) if part)
        raise Mistake(mark.line + 1 if mark else 1, f"not valid YAML: {what}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Mistake(line, f"the character {text[error.position]!a} is not allowed") from None
    except RecursionError:
        raise Mistake(1, f"more than {DEEPEST} levels") from None
    except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise Mistake(1, f"not valid YAML: {error}") from None  # ruamel.yaml lets a few of its own errors through
    if "${" in text:
        line = text.count("\n", 0, text.index("${")) + 1
        raise Mistake(line, "${} is not supported in params.yaml: write the value")
    return document


def check(root: MappingNode) -> None:
    """Refuse what params.yaml does not need, and trees that are too large once aliases are expanded. Raises Mistake."""
    todo: list[tuple[Any, int]] = [(root, 1)]
    seen = 0
    while todo:
        node, depth = todo.pop()
        seen += 1
        if seen > MOST_NODES:
            raise Mistake(line_of(node), f"more than {MOST_NODES} values, once aliases are expanded")
        if depth > DEEPEST:
            raise Mistake(line_of(node), f"more than {DEEPEST} levels, once aliases are expanded")
        if isinstance(node, ScalarNode):
            check_scalar(node)
        elif isinstance(node, SequenceNode):
            todo += [(item, depth + 1) for item in node.value]
        else:
            todo += [(value, depth + 1) for value in values_of(node)]


def values_of(node: MappingNode) -> Iterator[Any]:
    """The values of a mapping. Raises Mistake for a key that is no text or occurs twice."""
    keys = set()
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or key.tag not in (f"{TAG}str", f"{TAG}merge"):
            text = f" {shown(key.value)}" if isinstance(key, ScalarNode) else ""
            raise Mistake(line_of(key), f"a key must be text: write the key{text} in quotes")
        if (key.tag, key.value) in keys:
            raise Mistake(line_of(key), f"found duplicate key {shown(key.value)}")
        keys.add((key.tag, key.value))
        yield value


def check_scalar(node: ScalarNode) -> None:
    """Refuse numbers that readers of YAML understand differently, dates and other special values. Raises Mistake."""
    text = node.value
    if node.tag == f"{TAG}int" and not INTEGER.fullmatch(text):
        rule = "write numbers in decimal, with at most 20 digits and without leading zeros"
        raise Mistake(line_of(node), f"{rule}, got {shown(text)}")
    if node.tag == f"{TAG}float" and not FLOAT.fullmatch(text):
        raise Mistake(line_of(node), f"write numbers in decimal, with at most 40 digits, got {shown(text)}")
    if node.tag not in {TAG + kind for kind in ("int", "float", "str", "bool", "null")}:
        raise Mistake(line_of(node), f"write text in quotes, got {shown(text)}")


def line_of(node: Any) -> int:
    """The line, from 1, of a node or an event."""
    return node.start_mark.line + 1
