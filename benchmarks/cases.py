"""What is measured, and what it must reach. Every figure is a ratio of medians within one process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import field
from benchmarks.ours import CLASSES, Ours, as_in_a_stage, guide, network, views
from benchmarks.peers import Peer
from benchmarks.timing import Clock, Work, captured
from pipeline.core.frozen import Frozen, fold
from pipeline.core.logits import LogitStore
from pipeline.core.losses import cross_entropy, distill
from pipeline.core.vocabulary import Method, Network
from pipeline.methods.dgkd import DGKD
from pipeline.methods.kd import KD
from pipeline.methods.orc import ORC
from pipeline.methods.scratch import Scratch

IMAGES = {"cpu": 8 * field.BATCH, "cuda": 200 * field.BATCH}
MEAN, STD = (0.507, 0.487, 0.441), (0.268, 0.257, 0.276)
KD_ = KD(temperature=4.0, alpha=0.9, scale=1.0)
DGKD_ = DGKD(temperature=4.0, lam=0.9, normalise="sum", survival=1.0, drop_teacher=False)
ORC_ = ORC(
    beta=0.9,
    temperature=4.0,
    mixup_alpha=1.0,
    pivot_lr_scale=0.01,
    promoted=1,
    feedback="loss",
    teachings={"intensive": True, "private": True, "group": True},
    guidance="individual",
    group=None,
)


@dataclass(frozen=True)
class Line:
    """One line of the table. value: the ratio; goal: what it is to reach, in words."""

    work: str
    over: str
    value: float
    goal: str


class Bench:
    """The data and settings that all cases share."""

    def __init__(self, folder: Path, *, repeats: int, compile: bool, device: torch.device, peers: Sequence[Peer] = ()):
        n = IMAGES[device.type]
        draw = np.random.default_rng(0)
        images, labels = draw.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), draw.integers(0, CLASSES, n)
        self.folder, self.compile, self.device, self.peers = folder, compile, device, peers
        self.graphs = compile and device.type == "cuda"
        self.pictures = field.Pictures(images, labels, MEAN, STD)
        self.views = views(images, labels, device)
        self.time = Clock(device, repeats)

    def data(self) -> Iterator[tuple[Tensor, Tensor]]:
        return field.batches(self.pictures, self.device)

    def resident(self) -> tuple[Tensor, Tensor]:
        """A batch that is there."""
        index = torch.arange(field.BATCH, device=self.device)
        return self.views.plain(index), self.views.labels[index]

    def ours(self, arch: str) -> nn.Module:
        return network(arch).to(self.device, memory_format=torch.channels_last)

    def theirs(self, arch: str) -> nn.Module:
        return field.as_written(network(arch)).to(self.device)

    def engine(self, method: Method, networks: Mapping[str, Network], store: LogitStore | None = None) -> Ours:
        """This project's, on a GPU as compiled as it is to be measured."""
        return Ours(method, networks, self.views, store=store, compile=self.graphs)

    def goal(self, on_a_processor: str) -> str:
        """A GPU has other goals."""
        return on_a_processor if self.device.type == "cpu" else "-"

    def store(self, name: str) -> LogitStore:
        return LogitStore(self.folder / "logits" / name, kind="fp32", gib=1.0, about={})


def augmentation(bench: Bench) -> Iterator[Line]:
    data, index = bench.data(), torch.arange(field.BATCH, device=bench.device)

    def ours() -> None:
        for epoch in range(10):
            bench.views(index, seed=0, epoch=epoch)

    seconds = bench.time({"pil": lambda: next(data), "ours": ours})
    ratio = seconds["pil"] / (seconds["ours"] / 10)
    yield Line("images per second, augmenting 32x32", "a PIL DataLoader", ratio, bench.goal(">= 20"))


def kd(bench: Bench) -> Iterator[Line]:
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    field_step = field.kd_step(bench.theirs("cifar_resnet20"), bench.theirs("cifar_resnet56"), bench.data())
    works: dict[str, Work] = {
        "field": field_step,
        "eager": Ours(KD_, networks, bench.views),
        "stored": Ours(KD_, networks, bench.views, store=bench.store("kd")).filled(),
    }
    if bench.compile:
        works["compiled"] = Ours(KD_, networks, bench.views, compile=True)
        works["compiled and stored"] = Ours(
            KD_, networks, bench.views, compile=True, store=bench.store("compiled")
        ).filled()
    goals = {"eager": "<= 0.75", "stored": "<= 0.42", "compiled": "<= 0.60", "compiled and stored": "<= 0.33"}
    if bench.device.type == "cuda":
        goals = dict.fromkeys(goals, "-") | {"compiled": "<= 0.10"}
    peer = next(filter(None, (p.kd("resnet20", "resnet56", bench.data()) for p in bench.peers)), None)
    student = bench.ours("cifar_resnet20")
    alone = bare_step(torch.compile(student, dynamic=False) if bench.compile else student, *bench.resident())
    seconds = bench.time(works | {"alone": alone} | ({"peer": peer} if peer else {}))
    how = "compiled" if bench.compile else "eager"
    yield Line(f"resnet20's {how} step alone, no engine", "the field's loop", seconds["alone"] / seconds["field"], "-")
    for name in list(works)[1:]:
        work = f"KD step resnet56 -> resnet20, {name}"
        yield Line(work, "the field's loop", seconds[name] / seconds["field"], goals[name])
        if peer:
            yield Line(work, "RepDistiller's checkout", seconds[name] / seconds["peer"], goals[name])


def floor(bench: Bench) -> Iterator[Line]:
    """What a KD step cannot do without: the student's forward and backward and the teacher's forward, no more."""
    x, y = bench.resident()
    student, teacher = bench.ours("cifar_resnet20").train(), bench.ours("cifar_resnet56")
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    if bench.compile:
        student, teacher = (torch.compile(net, dynamic=False) for net in (student, fold(teacher)))
    else:
        teacher = Frozen(teacher)
    weights = list(student.parameters())

    def bare() -> None:
        for p in weights:
            p.grad = None
        with torch.no_grad():
            z_t = teacher(x)
        z = student(x)
        (0.1 * cross_entropy(z, y) + 0.9 * distill(z, z_t, 4.0)).backward()

    on_gpu, how = bench.device.type == "cuda", "compiled" if bench.compile else "eager"
    seconds = bench.time(
        {
            "bare": captured(as_in_a_stage(bare)) if on_gpu else as_in_a_stage(bare),
            "ours": Ours(KD_, networks, bench.views, compile=bench.compile),
        }
    )
    over = "a captured graph of its forwards and backward" if on_gpu else "its own forwards and backward"
    ratio = seconds["ours"] / seconds["bare"]
    yield Line(f"KD step resnet56 -> resnet20, {how}", over, ratio, "<= 2.0" if on_gpu else "<= 1.05")


def dgkd(bench: Bench) -> Iterator[Line]:
    guides = {"teacher": "cifar_resnet26", "ta1": "cifar_resnet20", "ta2": "cifar_resnet14"}
    networks = {"student": Network("cifar_resnet8"), **{n: guide(a, bench.folder) for n, a in guides.items()}}
    published = field.dgkd_step(bench.theirs("cifar_resnet8"), list(map(bench.theirs, guides.values())), bench.data())
    works: dict[str, Work] = {
        "published": published,
        "first run": bench.engine(DGKD_, networks),
        "stored": bench.engine(DGKD_, networks, bench.store("dgkd")).filled(),
    }
    archs = ("resnet26", "resnet20", "resnet14")
    peer = next(filter(None, (p.dgkd("resnet8", archs, bench.data()) for p in bench.peers)), None)
    seconds = bench.time(works | ({"peer": peer} if peer else {}))
    for name, goal in (("first run", "<= 0.30"), ("stored", "<= 0.14")):
        work = f"DGKD step 26, 20, 14 -> 8, {'compiled, ' * bench.graphs}{name}"
        yield Line(work, "the published way", seconds[name] / seconds["published"], bench.goal(goal))
        if peer:
            yield Line(work, "DGKD's checkout", seconds[name] / seconds["peer"], bench.goal(goal))


def orc(bench: Bench) -> Iterator[Line]:
    archs = {"student": "cifar_resnet8", "ta1": "cifar_resnet20", "ta2": "cifar_resnet14"}
    pivot = guide("cifar_resnet26", bench.folder)
    start = {"teacher": pivot, **{name: Network(arch) for name, arch in archs.items() if name != "student"}}
    ours = bench.engine(ORC_, ORC_.networks(archs["student"], start))
    naive = field.orc_step(bench.theirs("cifar_resnet26"), list(map(bench.theirs, archs.values())), bench.data())
    seconds = bench.time({"naive": naive, "ours": ours, "bare": bare_orc(bench, list(archs.values()))})
    yield Line("ORC step 26 / 20, 14, 8", "the naive order", seconds["ours"] / seconds["naive"], bench.goal("<= 0.80"))
    ratio = seconds["ours"] / seconds["bare"]
    yield Line("ORC step 26 / 20, 14, 8", "its own forwards and backwards", ratio, bench.goal("<= 1.05"))


def bare_orc(bench: Bench, archs: list[str]) -> Work:
    """What an ORC step cannot do without, on a resident batch: every network's training forward, backward and update,
    and the two teachers' forwards.
    """
    x, y = bench.resident()
    nets = list(map(bench.ours, ("cifar_resnet26", *archs)))
    works = [bare_step(net, x, y) for net in nets]

    def step() -> None:
        for work in works:
            work()
        with torch.no_grad():
            for net in nets[:2]:
                net.eval()
                net(x)
                net.train()

    return as_in_a_stage(step)


def bare_step(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Work:
    optimizer = field.sgd(net.train())

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()

    return as_in_a_stage(step)


def host(bench: Bench) -> Iterator[Line]:
    """The engine's own share of a step from scratch: augmentation, losses, bookkeeping."""
    x, y = bench.resident()
    ours = bench.engine(Scratch(label_smoothing=0.0), {"student": Network("cifar_resnet20")})
    bare = bare_step(bench.ours("cifar_resnet20"), x, y)
    seconds = bench.time({"bare": bare, "ours": ours})
    share = 1 - seconds["bare"] / seconds["ours"]
    yield Line("host time of a step, resnet20", "the whole step", max(share, 0.0), bench.goal("<= 0.05"))


def sweep(bench: Bench) -> Iterator[Line]:
    """Twenty temperatures: the first fills the store, nineteen read it."""
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    alone = bench.engine(Scratch(label_smoothing=0.0), {"student": Network("cifar_resnet20")})
    first = bench.engine(KD_, networks)
    stored = bench.engine(KD_, networks, bench.store("sweep")).filled()
    seconds = bench.time({"alone": alone, "first": first, "stored": stored})
    ratio = (seconds["first"] + 19 * seconds["stored"]) / (20 * seconds["alone"])
    yield Line("a sweep of 20 values of kd.temperature, resnet56 -> resnet20", "20 students alone", ratio, "<= 1.2")


def threads(bench: Bench) -> Iterator[Line]:
    if bench.device.type == "cuda":
        return
    x, y = bench.resident()
    bare = bare_step(bench.ours("cifar_resnet20"), x, y)

    def with_two() -> None:
        torch.set_num_threads(2)
        bare()
        torch.set_num_threads(1)

    seconds = bench.time({"one": bare, "two": with_two})
    yield Line("a training step with two threads, resnet20", "one thread", seconds["two"] / seconds["one"], "-")


CASES: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "augmentation": augmentation,
    "kd": kd,
    "floor": floor,
    "dgkd": dgkd,
    "orc": orc,
    "host": host,
    "sweep": sweep,
    "threads": threads,
}
