"""Writes docs/performance.md: the table of measurements as Markdown."""

from typing import Any

from benchmarks.bench import Line

HEAD = """# Performance

```
$ uv run {command}
```

Every figure is a ratio of two median times ({repeats} runs each, interleaved in one process), measured with
{threads} thread and batches of {batch} on {cores} shared cores ({machine}, torch {torch}), on {date}. Absolute times on
such a machine are noise, and so is a difference of a tenth in a ratio. No test asserts these figures.

- *the usual loop*, *the published algorithm* and *the naive order* are reimplementations in `benchmarks/field.py`;
  *RepDistiller's own code* and *DGKD's own code* are unchanged checkouts (`--peer`).
- *cached logits* reads the teachers' logits from the cache, as every run of a sweep after the first does.

| measurement | relative to | ratio | goal | reached |
|---|---|---:|---:|---|
"""
FOOT = """
A row without a goal is a reference point: it shows, for example, how long a training step takes without this project's
loop, which only faster kernels could improve. `python -m benchmarks bf16 --repeats 21` measures one case alone: the row
in bf16, which only a processor with bf16 instructions has. `python -m benchmarks --device cuda --compile` measures a
GPU; the project has no GPU table yet. On a GPU, the zoo's networks run as CUDA graphs even without `train.compile`.
"""


def markdown(lines: list[Line], about: dict[str, Any]) -> str:
    table = "".join(
        f"| {line.work} | {line.over} | {line.value:.4f} | {line.goal} | {verdict(line)} |\n" for line in lines
    )
    return HEAD.format(**about) + table + (FOOT if about["device"] == "cpu" else "")


def verdict(line: Line) -> str:
    """Whether the ratio reaches its goal; empty without a goal."""
    if line.goal == "-":
        return ""
    sign, bound = line.goal.split()
    reached = line.value >= float(bound) if sign == ">=" else line.value <= float(bound)
    return "yes" if reached else "no"
