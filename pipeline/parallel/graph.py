"""The graph of stages, as DVC has read it from dvc.yaml."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError, UserError, first_line

TRAINING = ("stages.pretrain", "stages.assist", "stages.members", "stages.distill")  # leave their seeds to a cluster


@dataclass
class Node:
    """A stage.  needs: the stages that it depends on.  trains: whether it trains seeds.  below: stages that need it."""

    name: str
    needs: set[str]
    trains: bool
    below: set[str] = field(default_factory=set)


def read_graph(root: Path, targets: list[str]) -> dict[str, Node]:
    """The stages that must be up to date for the targets, or all stages, in an order in which they can run.

    Raises ParamsError if dvc.yaml has no such stage, and UserError if DVC cannot read the project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        graph: Any = Repo(str(root)).index.graph
    except DvcException as error:
        raise UserError(first_line(error)) from None
    stages = {stage.addressing: stage for stage in graph}
    wanted: set[str] = set()
    for target in targets or list(stages):
        found = [name for name in stages if name == target or name.split("@")[0] == target]
        if not found:
            raise ParamsError(f"{target[:100]!r} is not a stage of dvc.yaml; `dvc stage list` lists them")
        wanted |= set(found)
    todo = list(wanted)
    while todo:
        for stage in graph.successors(stages[todo.pop()]):
            if stage.addressing not in wanted:
                wanted.add(stage.addressing)
                todo.append(stage.addressing)
    nodes: dict[str, Node] = {}

    def add(name: str) -> None:
        if name in nodes:
            return
        needs = {stage.addressing for stage in graph.successors(stages[name])}
        for need in sorted(needs):
            add(need)
        words = shlex.split(getattr(stages[name], "cmd", None) or "")
        nodes[name] = Node(name, needs, any(word in TRAINING for word in words))

    for name in sorted(wanted):
        add(name)
    for node in reversed(nodes.values()):
        for need in node.needs:
            nodes[need].below |= {node.name} | node.below
    return nodes
