"""The measurements and their goals. Every figure is a ratio of two median times within one process."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks import field
from benchmarks.bench import Bench, Line
from benchmarks.ours import Ours, guide, with_stage_settings
from benchmarks.timing import Work, captured
from pipeline.core.interface import Network
from pipeline.core.losses import cross_entropy, distill
from pipeline.methods.dgkd import DGKD
from pipeline.methods.kd import KD
from pipeline.methods.orc import ORC
from pipeline.methods.scratch import Scratch
from pipeline.models.folding import fold

KD_ = KD(temperature=4.0, standardise=False, ce_weight=0.1, kd_weight=0.9, label_smoothing=0.0)
DGKD_ = DGKD(
    temperature=4.0, standardise=False, lam=0.9, normalise="sum", drop="bernoulli", survival=1.0, drop_teacher=False
)
ORC_ = ORC(
    beta=0.9,
    temperature=4.0,
    standardise=False,
    normalise="sum",
    mixup_alpha=1.0,
    feedback_only=False,
    pivot_lr_scale=0.01,
    pivot_statistics="mixtures",
    promoted=1,
    elect="batch",
    elect_momentum=0.9,
    feedback="loss",
    teachings={"intensive": True, "private": True, "group": True},
    guidance="individual",
    teaching_mode="train",
    init="scratch",
    group=None,
)


def augmentation(bench: Bench) -> Iterator[Line]:
    data, index = bench.data(), torch.arange(field.BATCH, device=bench.device)

    def ours() -> None:
        for epoch in range(10):
            bench.views(index, seed=0, epoch=epoch)

    seconds = bench.time({"pil": lambda: next(data), "ours": ours})
    ratio = seconds["pil"] / (seconds["ours"] / 10)
    yield Line("augmentation of 32x32 images, images per second", "a PIL DataLoader", ratio, bench.goal(">= 20"))


def kd(bench: Bench) -> Iterator[Line]:
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    field_step = field.kd_step(bench.theirs("cifar_resnet20"), bench.theirs("cifar_resnet56"), bench.data())
    eager = "CUDA graphs" if bench.device.type == "cuda" else "eager"
    works: dict[str, Work] = {
        "field": field_step,
        eager: Ours(KD_, networks, bench.views),
        "cached logits": Ours(KD_, networks, bench.views, cache=bench.cache("kd")).with_filled_cache(),
    }
    if bench.compile:
        works["compiled"] = Ours(KD_, networks, bench.views, compile=True)
        works["compiled, cached logits"] = Ours(
            KD_, networks, bench.views, compile=True, cache=bench.cache("compiled")
        ).with_filled_cache()
    goals = {
        eager: "<= 0.75",
        "cached logits": "<= 0.42",
        "compiled": "<= 0.60",
        "compiled, cached logits": "<= 0.33",
    }
    if bench.device.type == "cuda":
        goals = dict.fromkeys(goals, "-") | {"compiled": "<= 0.10"}
    peer = next(filter(None, (p.kd("resnet20", "resnet56", bench.data()) for p in bench.peers)), None)
    student = bench.ours("cifar_resnet20")
    alone = bare_step(torch.compile(student, dynamic=False) if bench.compile else student, *bench.resident())
    seconds = bench.time(works | {"alone": alone} | ({"peer": peer} if peer else {}))
    how = "compiled" if bench.compile else "eager"
    yield Line(f"bare training step of resnet20, {how}", "the usual loop", seconds["alone"] / seconds["field"], "-")
    for name in list(works)[1:]:
        work = f"KD step resnet56 -> resnet20, {name}"
        yield Line(work, "the usual loop", seconds[name] / seconds["field"], goals[name])
        if peer:
            yield Line(work, "RepDistiller's own code", seconds[name] / seconds["peer"], goals[name])


def bf16(bench: Bench) -> Iterator[Line]:
    """Compare a KD step in bf16 with the same step in fp32, on a GPU or a processor with bf16 instructions."""
    if bench.device.type == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        return
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    works: dict[str, Work] = {
        "fp32": Ours(KD_, networks, bench.views),
        "bf16": Ours(KD_, networks, bench.views, precision="bf16"),
    }
    seconds = bench.time(works)
    ratio = seconds["bf16"] / seconds["fp32"]
    over = "the same step in fp32" + (", as CUDA graphs" if bench.device.type == "cuda" else "")
    yield Line("KD step resnet56 -> resnet20 in bf16", over, ratio, bench.goal("<= 0.65"))


def floor(bench: Bench) -> Iterator[Line]:
    """Compare a KD step with its minimum: the student's forward and backward passes and the teacher's forward pass."""
    x, y = bench.resident()
    student, teacher = bench.ours("cifar_resnet20").train(), bench.ours("cifar_resnet56")
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    if bench.compile:
        student, teacher = (torch.compile(net, dynamic=False) for net in (student, fold(teacher)))
    else:
        teacher = fold(teacher)
    weights = list(student.parameters())

    def bare() -> None:
        for p in weights:
            p.grad = None
        with torch.no_grad():
            z_t = teacher(x)
        z = student(x)
        (0.1 * cross_entropy(z, y) + 0.9 * distill(z, z_t, 4.0)).backward()

    on_gpu = bench.device.type == "cuda"
    how = "compiled" if bench.compile else "CUDA graphs" if on_gpu else "eager"
    seconds = bench.time(
        {
            "bare": captured(with_stage_settings(bare)) if on_gpu else with_stage_settings(bare),
            "ours": Ours(KD_, networks, bench.views, compile=bench.compile),
        }
    )
    over = "a CUDA graph of its forward and backward passes" if on_gpu else "its forward and backward passes alone"
    ratio = seconds["ours"] / seconds["bare"]
    yield Line(f"KD step resnet56 -> resnet20, {how}", over, ratio, "<= 2.0" if on_gpu else "<= 1.05")


def dgkd(bench: Bench) -> Iterator[Line]:
    guides = {"teacher": "cifar_resnet26", "ta1": "cifar_resnet20", "ta2": "cifar_resnet14"}
    networks = {"student": Network("cifar_resnet8"), **{n: guide(a, bench.folder) for n, a in guides.items()}}
    published = field.dgkd_step(bench.theirs("cifar_resnet8"), list(map(bench.theirs, guides.values())), bench.data())
    works: dict[str, Work] = {
        "published": published,
        "first run": bench.engine(DGKD_, networks),
        "cached logits": bench.engine(DGKD_, networks, bench.cache("dgkd")).with_filled_cache(),
    }
    archs = ("resnet26", "resnet20", "resnet14")
    peer = next(filter(None, (p.dgkd("resnet8", archs, bench.data()) for p in bench.peers)), None)
    seconds = bench.time(works | ({"peer": peer} if peer else {}))
    for name, goal in (("first run", "<= 0.30"), ("cached logits", "<= 0.14")):
        work = f"DGKD step 26, 20, 14 -> 8, {'compiled, ' * bench.graphs}{name}"
        yield Line(work, "the published algorithm", seconds[name] / seconds["published"], bench.goal(goal))
        if peer:
            yield Line(work, "DGKD's own code", seconds[name] / seconds["peer"], bench.goal(goal))


def orc(bench: Bench) -> Iterator[Line]:
    archs = {"student": "cifar_resnet8", "ta1": "cifar_resnet20", "ta2": "cifar_resnet14"}
    pivot = guide("cifar_resnet26", bench.folder)
    start = {"teacher": pivot, **{name: Network(arch) for name, arch in archs.items() if name != "student"}}
    ours = bench.engine(ORC_, ORC_.networks(archs["student"], start))
    naive = field.orc_step(bench.theirs("cifar_resnet26"), list(map(bench.theirs, archs.values())), bench.data())
    seconds = bench.time({"naive": naive, "ours": ours, "bare": bare_orc(bench, list(archs.values()))})
    yield Line("ORC step 26 / 20, 14, 8", "the naive order", seconds["ours"] / seconds["naive"], bench.goal("<= 0.80"))
    ratio = seconds["ours"] / seconds["bare"]
    yield Line("ORC step 26 / 20, 14, 8", "its forward and backward passes alone", ratio, bench.goal("<= 1.05"))


def bare_orc(bench: Bench, archs: list[str]) -> Work:
    """The minimum of an ORC step: forward, backward and update of every network, and two teachers' forward passes."""
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

    return with_stage_settings(step)


def bare_step(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Work:
    """A training step without the training loop: forward, backward and update on a fixed batch."""
    optimizer = field.sgd(net.train())

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()

    return with_stage_settings(step)


def host(bench: Bench) -> Iterator[Line]:
    """The training loop's share of a step of scratch: augmentation, losses, and metrics."""
    x, y = bench.resident()
    ours = bench.engine(Scratch(ce_weight=1.0, label_smoothing=0.0), {"student": Network("cifar_resnet20")})
    bare = bare_step(bench.ours("cifar_resnet20"), x, y)
    seconds = bench.time({"bare": bare, "ours": ours})
    share = 1 - seconds["bare"] / seconds["ours"]
    yield Line(
        "overhead of the training loop, resnet20", "the whole training step", max(share, 0.0), bench.goal("<= 0.05")
    )


def sweep(bench: Bench) -> Iterator[Line]:
    """Twenty temperatures: the first run fills the logit cache, and the other nineteen read it."""
    networks = {"student": Network("cifar_resnet20"), "teacher": guide("cifar_resnet56", bench.folder)}
    alone = bench.engine(Scratch(ce_weight=1.0, label_smoothing=0.0), {"student": Network("cifar_resnet20")})
    first = bench.engine(KD_, networks)
    stored = bench.engine(KD_, networks, bench.cache("sweep")).with_filled_cache()
    seconds = bench.time({"alone": alone, "first": first, "cached logits": stored})
    ratio = (seconds["first"] + 19 * seconds["cached logits"]) / (20 * seconds["alone"])
    yield Line(
        "a sweep of 20 values of kd.temperature, resnet56 -> resnet20",
        "training 20 students from scratch",
        ratio,
        "<= 1.2",
    )


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
    yield Line("bare training step of resnet20, two threads", "one thread", seconds["two"] / seconds["one"], "-")


CASES: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "augmentation": augmentation,
    "kd": kd,
    "bf16": bf16,
    "floor": floor,
    "dgkd": dgkd,
    "orc": orc,
    "host": host,
    "sweep": sweep,
    "threads": threads,
}
