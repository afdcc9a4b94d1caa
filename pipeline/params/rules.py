"""What no section can tell by itself: whether parameters contradict each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.models.names import known, nearest
from pipeline.params.schema import DGKD, DML, ORC, Auto

NOTHING = "data/prepared/classes.txt"
TEACHER = "models/teacher"
GROUP = "models/cast/group"
MEMBERS = "models/members"
CHAINS = ("models/cast/takd", "models/cast/dgkd")
RESERVED = ("teacher", "student", "pivot")


def contradictions(values: dict[str, Any]) -> list[str]:
    """One line for each; the sections are valid in themselves."""
    return [
        *unknown_networks(values),
        *chain(values),
        *streaming(values),
        *training(values),
        *seeds(values),
        *exported(values),
        *(line for name in values["methods"] for line in method(name, values)),
    ]


def unknown_networks(values: dict[str, Any]) -> Iterator[str]:
    for key, arch in networks(values):
        if not known(arch):
            near = nearest(arch)
            yield f"{key}: unknown network {arch!r}" + (f"; nearest: {', '.join(near)}" if near else "")


def networks(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every architecture and its key."""
    yield "teacher.arch", values["teacher"].arch
    yield "student.arch", values["student"].arch
    for name, assistant in values["assistants"].items():
        yield f"assistants.{name}.arch", assistant.arch
    for section, value in values.items():
        if isinstance(value, DML | ORC):
            group = "peers" if isinstance(value, DML) else "group"
            for name, arch in (getattr(value, group) or {}).items():
                yield f"{section}.{group}.{name}", arch
    members = values["cooperative"].members
    if not isinstance(members, Auto):
        for name, member in members.items():
            yield f"cooperative.members.{name}.arch", member.arch


def chain(values: dict[str, Any]) -> Iterator[str]:
    """Every link leads back to the teacher."""
    assistants = values["assistants"]
    for name, assistant in assistants.items():
        if name in RESERVED:
            yield f"assistants.{name}: the name {name!r} is taken"
        if assistant.after != "teacher" and assistant.after not in assistants:
            yield f"assistants.{name}.after: there is no assistant {assistant.after!r} and it is not the teacher"
            continue
        link, seen = name, []
        while link in assistants and link not in seen:
            seen.append(link)
            link = assistants[link].after
        if link in seen:
            yield f"assistants.{name}.after: the chain runs in a circle: {' -> '.join([*seen, link])}"
    after = values["student"].after
    if after != "teacher" and after not in assistants:
        yield f"student.after: there is no assistant {after!r} and it is not the teacher"


def streaming(values: dict[str, Any]) -> Iterator[str]:
    data, train = values["data"], values["train"]
    if data.storage == "stream" and data.source not in ("folder", "imagenet"):
        yield f"data.storage: only folder and imagenet can be streamed, not {data.source}"
    if data.storage == "stream" and data.source == "folder" and data.image_size is None:
        yield "data.image_size: a streamed folder needs it"
    streams = data.storage == "stream" or (data.source == "imagenet" and data.storage is None)
    if streams and train.pad is not None:
        yield "train.pad: streamed images are not padded (they get a crop of random size); it must be null"


def training(values: dict[str, Any]) -> Iterator[str]:
    train, teacher, runtime = values["train"], values["teacher"], values["runtime"]
    if train.nesterov and train.momentum == 0:
        yield "train.nesterov: needs train.momentum > 0"
    if train.warmup_epochs >= train.epochs and train.warmup_epochs > 0:
        yield f"train.warmup_epochs: must be less than train.epochs ({train.epochs}), got {train.warmup_epochs}"
    if train.milestones != sorted(set(train.milestones)):
        yield f"train.milestones: must increase, got {train.milestones}"
    if train.batch_size % runtime.num_processes:
        yield (
            f"train.batch_size: must be divisible by runtime.num_processes ({runtime.num_processes}), "
            f"got {train.batch_size}"
        )
    if teacher.epochs == 0 and not teacher.pretrained and teacher.checkpoint is None:
        yield "teacher.epochs: 0 needs teacher.pretrained or teacher.checkpoint"
    if teacher.pretrained and teacher.checkpoint is not None:
        yield "teacher.checkpoint: give either it or teacher.pretrained"
    if teacher.checkpoint is not None and not Path(teacher.checkpoint).is_file():
        yield f"teacher.checkpoint: there is no file {teacher.checkpoint!r}"


def seeds(values: dict[str, Any]) -> Iterator[str]:
    if len(set(values["seeds"])) < len(values["seeds"]):
        yield f"seeds: must differ from each other, got {values['seeds']}"


def exported(values: dict[str, Any]) -> Iterator[str]:
    name = values["export"].method
    if name not in values["methods"]:
        yield f"export.method: there is no method {name!r} in methods; there are {', '.join(values['methods'])}"
    elif values["methods"][name].is_ == "cooperative":
        yield f"export.method: {name} ends in a group, not in a student"


def method(name: str, values: dict[str, Any]) -> Iterator[str]:
    """What a method starts from must hold whom it needs."""
    entry, section = values["methods"][name], values[name]
    kind, after = entry.is_, entry.after
    if not Path("pipeline/methods", f"{kind}.py").is_file():
        yield f"methods.{name}.is: there is no file pipeline/methods/{kind}.py"
    links = [f"models/{c}/{link}" for c in ("takd", "dgkd") for link in ("teacher", *values["assistants"])]
    with_teacher = (TEACHER, GROUP, *CHAINS, *links)
    allowed: tuple[str, ...] = (NOTHING, *with_teacher, MEMBERS)
    if kind in ("kd", "orc"):
        allowed = with_teacher
    elif kind in ("takd", "dgkd", "average"):
        allowed = (*CHAINS, TEACHER, *links)
    elif kind == "cooperative":
        allowed = (MEMBERS,)
    if after not in allowed:
        yield f"methods.{name}.after: {kind} starts from one of {', '.join(allowed)}; got {after!r}"
        return
    if isinstance(section, DML) and section.peers is None and after != GROUP:
        yield f"{name}.peers: null needs methods.{name}.after to be {GROUP}"
    if isinstance(section, ORC):
        yield from group_of(name, section, after, values)
    if isinstance(section, DML | ORC):
        group = (section.peers if isinstance(section, DML) else section.group) or {}
        yield from (f"{name}: the name {peer!r} is taken" for peer in group if peer in RESERVED)
    if isinstance(section, DGKD) and isinstance(section.lam, dict):
        guides = {"teacher", *values["assistants"]}
        yield from (f"{name}.lam.{g}: there is no such guide" for g in section.lam if g not in guides)
        yield from (f"{name}.lam: guide {g} has no number" for g in sorted(guides - set(section.lam)))


def group_of(name: str, section: ORC, after: str, values: dict[str, Any]) -> Iterator[str]:
    if section.group is None and after != GROUP:
        yield f"{name}.group: null needs methods.{name}.after to be {GROUP}"
    others = values["assistants"] if section.group is None else section.group
    if section.promoted > 1 + len(others):
        yield f"{name}.promoted: there are {1 + len(others)} students, got {section.promoted}"
