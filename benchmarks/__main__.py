"""Measure speed, write a table: `python -m benchmarks [CASE...] [--compile] [--peer DIR] [--out docs/performance]`."""

import json
import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Annotated

import typer


def main(
    cases: Annotated[list[str] | None, typer.Argument(help="Names of cases; default: all.")] = None,
    repeats: Annotated[int, typer.Option(help="Interleaved runs of each; the median is used.")] = 9,
    threads: Annotated[int, typer.Option(help="OpenMP threads.")] = 1,
    compile: Annotated[bool, typer.Option(help="Also measure compiled networks (takes minutes).")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    peer: Annotated[list[Path] | None, typer.Option(help="Also time a checkout of RepDistiller or DGKD.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write OUT.json and OUT.md.")] = None,
) -> None:
    """Compare this project's speed with the usual training loops, as ratios of medians of interleaved runs."""
    from pipeline.runtime.launch import keep_freed_memory
    from pipeline.runtime.threads import set_threads

    set_threads(threads)
    import torch

    from benchmarks.bench import Bench
    from benchmarks.cases import CASES
    from benchmarks.peers import Peer
    from benchmarks.report import markdown

    torch.set_num_threads(threads)
    keep_freed_memory()
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise typer.BadParameter(f"the device {device!r} is not available")
    unknown = [name for name in cases or [] if name not in CASES]
    if unknown:
        raise typer.BadParameter(f"unknown case {unknown[0]!r}; choose from {', '.join(CASES)}")
    try:
        peers = [Peer(folder, device) for folder in peer or []]
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    about = {
        "device": device,
        "threads": threads,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "batch": 64,
        "repeats": repeats,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    lines = []
    for name in cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), repeats=repeats, compile=compile, device=torch.device(device), peers=peers)
            for line in CASES[name](bench):
                print(f"{line.work}: {line.value:.4f} of {line.over} (goal {line.goal})", flush=True)
                lines.append(line)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(
            json.dumps({"about": about, "lines": [vars(line) for line in lines]}, indent=2) + "\n"
        )
        out.with_suffix(".md").write_text(markdown(lines, about))


if __name__ == "__main__":
    typer.run(main)
