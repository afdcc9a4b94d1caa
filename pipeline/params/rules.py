"""Rules that span several sections of params.yaml: whether parameters contradict each other."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pipeline.estimators.catalog import is_estimator
from pipeline.models.names import known, nearest
from pipeline.params.controls import controlled, weightless
from pipeline.params.estimators import estimators, members
from pipeline.params.messages import shown
from pipeline.params.schema import DGKD, DML, ORC
from pipeline.params.sources import sources
from pipeline.params.tables import tables

NOTHING = "data/prepared/classes.txt"
TEACHER = "models/teacher"
GROUP = "models/group"
MEMBERS = "models/members"
CHAINS = ("models/chains/takd", "models/chains/dgkd")
RESERVED = ("teacher", "student", "pivot")
MOST_HINTS = 20  # a search among all networks takes about 30 ms


def contradictions(values: dict[str, Any], sections: Collection[str], *, files: bool) -> list[str]:
    """One line for each contradiction.

    values: the sections, each valid by itself.  sections: the names of all sections of the file, those of methods that
    are left out included.  files: whether the files that parameters name must exist.
    """
    return [
        *unknown_networks(values),
        *estimators(values, networks(values)),
        *tables(values, networks(values)),
        *chain(values),
        *reserved(values),
        *sources(values, files=files),
        *training(values, files=files),
        *seeds(values),
        *tuned(values),
        *exported(values),
        *reported(values),
        *controlled(values, sections),
        *weightless(values),
        *(line for name in values["methods"] for line in method(name, values)),
    ]


def unknown_networks(values: dict[str, Any]) -> Iterator[str]:
    """Architectures that neither timm nor the zoo has."""
    hints = MOST_HINTS
    for key, arch in networks(values):
        if not is_estimator(arch) and not known(arch):
            near = nearest(arch) if hints > 0 else []
            hints -= 1
            yield f"{key}: unknown network {shown(arch)}" + (f"; nearest: {', '.join(near)}" if near else "")


def networks(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The key and the architecture of every network."""
    yield "teacher.arch", values["teacher"].arch
    yield "student.arch", values["student"].arch
    for name, assistant in values["assistants"].items():
        yield f"assistants.{name}.arch", assistant.arch
    for section in values["methods"]:
        value = values[section]
        if isinstance(value, DML | ORC):
            group = "peers" if isinstance(value, DML) else "group"
            for name, arch in (getattr(value, group) or {}).items():
                yield f"{section}.{group}.{name}", arch
    if uses_members(values["methods"]):
        for name, member in members(values["cooperative"]).items():
            yield f"cooperative.members.{name}.arch", member.arch


def uses_members(methods: dict[str, Any]) -> bool:
    """Whether any method is Cooperative, so that the section `cooperative` decides what its members are."""
    return any(entry.is_ == "cooperative" for entry in methods.values())


def chain(values: dict[str, Any]) -> Iterator[str]:
    """Chains of assistants that do not lead back to the teacher."""
    assistants = values["assistants"]
    for name, assistant in assistants.items():
        if assistant.after != "teacher" and assistant.after not in assistants:
            yield f"assistants.{name}.after: must be teacher or an assistant, got {assistant.after!r}"
            continue
        link, seen = name, []
        while link in assistants and link not in seen:
            seen.append(link)
            link = assistants[link].after
        if link in seen:
            yield f"assistants.{name}.after: the chain is circular: {' -> '.join([*seen, link])}"
    after = values["student"].after
    if after != "teacher" and after not in assistants:
        yield f"student.after: must be teacher or an assistant, got {after!r}"


def reserved(values: dict[str, Any]) -> Iterator[str]:
    """Assistants and members with the name of another network: a group with a `student` would pass for a student."""
    for key, names in (("assistants", values["assistants"]), ("cooperative.members", members(values["cooperative"]))):
        for name in names:
            if name in RESERVED:
                yield f"{key}.{name}: the name {name!r} is reserved; choose another"


def training(values: dict[str, Any], *, files: bool) -> Iterator[str]:
    """Contradictions within the recipe, and about the weights of the teacher.

    files: whether the teacher's checkpoint must exist.
    """
    train, teacher, runtime = values["train"], values["teacher"], values["runtime"]
    if train.nesterov and train.momentum == 0:
        yield "train.nesterov: true requires train.momentum > 0"
    if train.warmup_epochs >= train.epochs and train.warmup_epochs > 0:
        yield f"train.warmup_epochs: must be less than train.epochs ({train.epochs}), got {train.warmup_epochs}"
    if train.milestones != sorted(set(train.milestones)):
        yield f"train.milestones: must increase, got {shown(train.milestones)}"
    if train.batch_size % runtime.num_processes:
        yield (
            f"train.batch_size: must be divisible by runtime.num_processes ({runtime.num_processes}), "
            f"got {train.batch_size}"
        )
    elif train.batch_size < 2 * runtime.num_processes:
        yield (
            f"train.batch_size: must be at least 2 for each of the {runtime.num_processes} runtime.num_processes, "
            f"because BatchNorm requires two images, got {train.batch_size}"
        )
    if teacher.epochs is not None and 0 < teacher.epochs <= train.warmup_epochs:
        yield f"teacher.epochs: must be greater than train.warmup_epochs ({train.warmup_epochs}), got {teacher.epochs}"
    if teacher.epochs == 0 and not teacher.pretrained and teacher.checkpoint is None:
        yield "teacher.epochs: 0 requires teacher.pretrained or teacher.checkpoint"
    if teacher.pretrained and teacher.checkpoint is not None:
        yield "teacher.checkpoint: must be none if teacher.pretrained is true"
    if files and teacher.checkpoint is not None and not os.path.isfile(teacher.checkpoint):
        yield f"teacher.checkpoint: the file {shown(teacher.checkpoint)} does not exist"


def seeds(values: dict[str, Any]) -> Iterator[str]:
    """Seeds that are listed twice."""
    if len(set(values["seeds"])) < len(values["seeds"]):
        yield f"seeds: must differ from each other, got {shown(values['seeds'])}"


def tuned(values: dict[str, Any]) -> Iterator[str]:
    """Seeds of trials that also judge the methods, teachers that do not exist, and trials that only warm up."""
    tune, train = values["tune"], values["train"]
    if len(set(tune.seeds)) < len(tune.seeds):
        yield f"tune.seeds: must differ from each other, got {shown(tune.seeds)}"
    both = [seed for seed in tune.seeds if seed in values["seeds"]]
    if both:
        yield f"tune.seeds: must not contain any of seeds, because those judge the methods, got {both[0]} in both"
    if tune.teacher_seed is not None and tune.teacher_seed not in values["seeds"]:
        yield f"tune.teacher_seed: must be auto or one of seeds ({shown(values['seeds'])}), got {tune.teacher_seed}"
    if tune.epochs is not None and 0 < tune.epochs <= train.warmup_epochs:
        yield f"tune.epochs: must be greater than train.warmup_epochs ({train.warmup_epochs}), got {tune.epochs}"


def exported(values: dict[str, Any]) -> Iterator[str]:
    """An export of a method that does not exist or trains no student."""
    name = values["export"].method
    if name not in values["methods"]:
        yield f"export.method: {name!r} is not an entry of methods; choose one of {', '.join(values['methods'])}"
    elif values["methods"][name].is_ == "cooperative":
        yield f"export.method: {name} trains a group, not a student; choose another method"


def reported(values: dict[str, Any]) -> Iterator[str]:
    """A reference that trains a group. One that is no entry of methods is reported with the table."""
    name = values["report"].reference
    if name in values["methods"] and values["methods"][name].is_ == "cooperative":
        yield f"report.reference: {name} trains a group, not a student; choose another method"


def method(name: str, values: dict[str, Any]) -> Iterator[str]:
    """A method that starts from networks which it cannot use, or with parameters that do not fit them."""
    entry, section = values["methods"][name], values[name]
    kind, after = entry.is_, entry.after
    if not Path("pipeline/methods", f"{kind}.py").is_file():
        yield f"methods.{name}.is: the file pipeline/methods/{kind}.py does not exist"
    links = [f"models/{c}/{link}" for c in ("takd", "dgkd") for link in ("teacher", *values["assistants"])]
    with_teacher = (TEACHER, GROUP, *CHAINS, *links)
    allowed = {
        "anything": (NOTHING, *with_teacher, MEMBERS),
        "teacher": with_teacher,
        "chain": (*CHAINS, TEACHER, *links),
        "members": (MEMBERS,),
    }[section.starts_from]
    if after not in allowed:
        yield f"methods.{name}.after: {kind} must start from one of {', '.join(allowed)}, got {shown(after)}"
        return
    if isinstance(section, DML) and section.peers is None and after != GROUP:
        yield f"{name}.peers: auto requires methods.{name}.after to be {GROUP}"
    if isinstance(section, ORC):
        yield from group_of(name, section, after, values)
    if isinstance(section, DML | ORC):
        group = (section.peers if isinstance(section, DML) else section.group) or {}
        yield from (f"{name}: the name {peer!r} is reserved; choose another" for peer in group if peer in RESERVED)
    if isinstance(section, DGKD) and isinstance(section.lam, dict):
        guides = {"teacher", *values["assistants"]}
        yield from (
            f"{name}.lam.{g}: is not a guide; guides are the teacher and the assistants"
            for g in section.lam
            if g not in guides
        )
        yield from (f"{name}.lam: guide {g} has no weight" for g in sorted(guides - set(section.lam)))


def group_of(name: str, section: ORC, after: str, values: dict[str, Any]) -> Iterator[str]:
    """A group of ORC that does not exist, lacks weights, or is smaller than the number of promoted students."""
    others: dict[str, Any] = values["assistants"] if section.group is None else section.group
    if section.init == "assistants":
        if after in (TEACHER, GROUP):
            yield (
                f"{name}.init: assistants requires methods.{name}.after to be a chain with trained assistants, such as "
                f"{CHAINS[-1]}, got {after}"
            )
            return
        if section.group is None and last_of(after, values) == "teacher":
            yield f"{name}.init: assistants requires a chain with trained assistants, but {after} ends in the teacher"
            return
        trained = assistants_of(after, values)
        others = trained if section.group is None else section.group
        for other, arch in others.items():
            where = f"{name}.group.{other}: init assistants requires"
            if other not in trained:
                has = f"which has {', '.join(trained) or 'none'}"
                yield f"{where} an assistant of this name in {after}, {has}"
            elif arch != trained[other]:
                yield f"{where} the architecture of the assistant, {trained[other]}, got {arch}"
    elif section.group is None and after != GROUP:
        yield f"{name}.group: auto requires methods.{name}.after to be {GROUP}"
    if section.promoted > 1 + len(others):
        yield f"{name}.promoted: must be at most the number of students ({1 + len(others)}), got {section.promoted}"


def last_of(after: str, values: dict[str, Any]) -> str:
    """The last network of a chain: teacher or an assistant.  after: its path."""
    return values["student"].after if after in CHAINS else after.split("/")[-1]


def assistants_of(after: str, values: dict[str, Any]) -> dict[str, str]:
    """The trained assistants of a chain, name -> architecture, from the teacher's successor on.  after: its path."""
    link = last_of(after, values)
    found: dict[str, str] = {}
    while link in values["assistants"] and link not in found:  # a circular chain has a line of its own
        found[link] = values["assistants"][link].arch
        link = values["assistants"][link].after
    return dict(reversed(found.items()))
