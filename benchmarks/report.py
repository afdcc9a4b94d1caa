"""The table as Markdown."""

from typing import Any

from benchmarks.cases import Line

HEAD = """# Performance

```
$ uv run {command}
```

Every figure is a ratio of medians of {repeats} runs, interleaved in one process, with {threads} thread and batches of
{batch}, on {cores} shared cores ({machine}, torch {torch}). Absolute times on such a machine are noise, and so
is a tenth of a ratio. The field's loops are written anew in `benchmarks/field.py`; a checkout is a peer's own code,
unchanged (`--peer`). Nothing here is asserted by a test.

| work | over | ratio | goal | reached |
|---|---|---:|---:|---|
"""
FOOT = """
A line without a goal is there to compare with: where a step without any engine takes as long, only quicker kernels
would help. `python -m benchmarks --device cuda --compile` measures a GPU; the project has no table of one yet.
"""


def markdown(lines: list[Line], about: dict[str, Any]) -> str:
    table = "".join(
        f"| {line.work} | {line.over} | {line.value:.3f} | {line.goal} | {verdict(line)} |\n" for line in lines
    )
    return HEAD.format(**about) + table + (FOOT if about["device"] == "cpu" else "")


def verdict(line: Line) -> str:
    """Whether the ratio is what it was to be."""
    if line.goal == "-":
        return ""
    sign, bound = line.goal.split()
    reached = line.value >= float(bound) if sign == ">=" else line.value <= float(bound)
    return "yes" if reached else "no"
