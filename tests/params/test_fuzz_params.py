"""Random damage to params.yaml ends in ParamsError with one-line messages, or in values that are valid again.

FUZZ=N runs N mutants instead of 300. A failure prints the mutant's number, which is its seed.
"""

import os
import random
import re
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ParamsError
from pipeline.params import load as params

ROOT = Path(__file__).parents[2]
MUTANTS = int(os.environ.get("FUZZ", "300"))
SECONDS = 5  # that one mutant may take
BATCHES = 4
TEXT = re.sub(r"(?m)[ ]*#.*$", "", (ROOT / "params.yaml").read_text())
DOCUMENT = YAML(typ="safe", pure=True).load(TEXT)
SCALARS = """
null|~||true|yes|no|on|0|-0|+0|-1|1|2|3|1e400|-1e400|.inf|-.inf|.nan|1e-400|0x10|0o17|0b1|017|1_000|1__|-_|._|1:30
2001-01-01|2001-13-45|2001-01-01 10:00:00|=|<<|!|!!int abc|!!float x|!!python/object:os.system {}|!!set {a, b}|!x y
&a|*a|&a [*a]|&a {b: *a}|*nowhere|[]|{}|[[]]|[{}]|{a: b}|{[a]: b}|{? a}|[a|{a|}|]|'|"|'x'|"\\x00"|"\\ud800"|"\\n"
"\\u2028"|"\\x1b[31m"|auto|none|teacher|ta1|ta2|kd|orc|cooperative|takd|models/teacher|models/group|tiny_plain2_12
${x}|%|@|`|- 1|? a|: b|a: b|#|---|...|>|\\||1/2|3/2|0/0|1/99999999|{auto: 3}|{auto: true}|{auto: 1e400}|9e999999999
9223372036854775807|9223372036854775808|-9223372036854775809|0.1|0.5|1.0|4.0|é|\u2028|\u00a0|\ufeff|\U0001f600|../..|/dev/zero
"""
LONG = ["9" * 5000, "n" * 5000, "[" * 3000, "{a: " * 3000, "- " * 3000, "x " * 5000]
NASTY_TEXT = [*SCALARS.strip().replace("\n", "|").split("|"), *LONG]
VALUES = sorted(set(re.findall(r"(?m): (.+)$", TEXT)))
DEEP: list[Any] = []
for _ in range(2000):
    DEEP = [DEEP]
NASTY_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 2**63, -(2**63), 10**6000, 0.0, -0.0, 0.5, 1e300, float("inf"), float("nan")),
    *("", "auto", "none", "teacher", "ta1", "kd", "orc", "n" * 5000, "a\nb", "a\0b", "\ud800", "\udc80", "\u2028"),
    *([], [None], [True], [[]], [{}], {}, {"a": None}, {"auto": 3}, {"auto": True}, {1: 2}, {None: 1}, {(1, 2): 3}),
    *({"is": ["kd"], "after": 3}, {"is": "kd", "after": "models/teacher"}, {"a\nb": 1}, {"n" * 5000: 1}, DEEP, b"x"),
    *((1, 2), {1}, object(), 1j, float, list(range(3000))),
]
CONTROL = "\0\1\7\b\t\n\v\f\r\x1b\x7f\x85\u2028\u2029\ufeff\u200b\u202e"


class TooSlow(BaseException):
    """A mutant took too long. No handler of ordinary exceptions may hide it."""


@contextmanager
def time_limit():
    """Raise TooSlow in the main thread after SECONDS."""

    def stop(*_):
        raise TooSlow

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# ---- mutators: each returns the bytes of a file, or a document ----


def damaged_lines(rng: random.Random) -> bytes:
    """Delete, repeat, move or indent lines, and replace values and keys by nasty text."""
    lines = TEXT.splitlines()
    for _ in range(rng.choice((1, 1, 2, 5))):
        k = rng.randrange(len(lines))
        indent, key, value = re.fullmatch(r"([ -]*)([^:]*:?)(.*)", lines[k], re.S).groups()  # type: ignore[union-attr]
        nasty = rng.choice(NASTY_TEXT)
        lines[k : k + 1] = rng.choice(
            (
                *([f"{indent}{key} {nasty}"] for _ in range(5)),
                *([f"{indent}{key} {rng.choice(VALUES)}"] for _ in range(5)),
                [],
                [lines[k], lines[k]],
                [f"{indent}{nasty}: {value}"],
                [f"{indent}{key} &a {value}", f"{indent}more: *a"],
                [lines[k], f"{indent}<<: {nasty}"],
                [f"  {lines[k]}"],
                [lines[k], rng.choice(lines)],
                [lines[k], nasty],
            )
        )
        lines = lines or [""]
    return "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")


def damaged_bytes(rng: random.Random) -> bytes:
    """Flip, insert, delete and overwrite bytes; truncate; insert control characters."""
    data = bytearray(TEXT.encode())
    for _ in range(rng.choice((1, 1, 2, 10))):
        k = rng.randrange(len(data)) if data else 0
        what = rng.randrange(6)
        if what == 0 and data:
            data[k] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[k:k] = rng.choice(CONTROL).encode()
        elif what == 2:
            del data[k : k + rng.choice((1, 2, 50))]
        elif what == 3:
            data[k:k] = bytes(rng.choice(b"{}[]&*!|>'\"%@`#:-?,=<~\\ \n0") for _ in range(rng.choice((1, 3))))
        elif what == 4 and rng.random() < 0.2:
            del data[k:]
        else:
            source = rng.randrange(len(data)) if data else 0
            data[k:k] = data[source : source + rng.choice((5, 100))]
    return bytes(data)


def copied(value: Any) -> Any:
    """A copy of a value, or DEEP if it is too deep for one."""
    try:
        return DEEP if value is DEEP else deepcopy(value)
    except RecursionError:
        return DEEP


def damaged_document(rng: random.Random) -> dict[Any, Any]:
    """Delete, replace, rename and copy values of the document."""
    whole = deepcopy(DOCUMENT)
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = [(whole, key) for key in whole]
        for inside, key in places:  # grows while it is read: the whole tree
            value = inside[key]
            if value is DEEP:
                continue
            if isinstance(value, dict) and len(places) < 2000:
                places += [(value, k) for k in value]
            elif isinstance(value, list) and len(places) < 2000:
                places += [(value, k) for k in range(len(value))]
        if not places:
            return whole
        inside, key = rng.choice(places)
        what = rng.randrange(6)
        other, at = rng.choice(places)
        nasty = rng.choice(NASTY_VALUES)
        if what == 0:
            del inside[key]
        elif what == 1 and isinstance(inside, dict):
            inside[rng.choice((*DOCUMENT, "a\nb", "n" * 5000, 3, None, True, "a.b"))] = inside.pop(key)
        elif what == 2:
            inside[key] = copied(other[at])
        elif what == 3 and isinstance(inside[key], int | float):
            inside[key] = not inside[key] if inside[key] in (True, False) else inside[key] * rng.choice((2, 0.5, 1 / 3))
        else:
            inside[key] = copied(nasty)
    return whole


# ---- the check ----


def outcome(mutant: bytes | dict[Any, Any], file: Path) -> str:
    """ "accepted" or "refused"; fails for anything else."""
    try:
        with time_limit():
            if isinstance(mutant, bytes):
                file.write_bytes(mutant)
                mutant = params.read(file)
            values = params.validated(mutant)
    except ParamsError as error:
        lines = str(error).split("\n")
        assert all(line.isprintable() and "params.yaml" in line and len(line) < 400 for line in lines), lines
        assert 1 <= len(lines) <= 21, lines
        return "refused"
    again = StringIO()
    YAML().dump(params.Params(values).plain(), again)
    file.write_text(again.getvalue())
    assert params.validated(params.read(file)) == values
    return "accepted"


def count(mutator: Any, seeds: range, file: Path) -> Counter[str]:
    """How many mutants of these seeds have each outcome."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts[outcome(mutator(random.Random(seed)), file)] += 1
        except BaseException as error:
            error.add_note(f"mutant {seed} of {mutator.__name__}")
            raise
    return counts


@pytest.mark.timeout(max(120, MUTANTS))
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("mutator", [damaged_lines, damaged_bytes, damaged_document])
def test_damaged_params_are_refused_in_one_line_each_or_remain_valid(mutator, batch, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(params, "FILE", Path("params.yaml"))
    size = max(1, MUTANTS // 3 // BATCHES)
    counts = count(mutator, range(batch * size, (batch + 1) * size), tmp_path / "params.yaml")
    assert counts.total() == size and counts["refused"]
    print(mutator.__name__, dict(counts), file=sys.stderr)
