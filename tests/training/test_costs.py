"""What it takes to get a network equals a count on paper, and does not depend on how it was computed.

Multiply-adds of a forward pass on one image of 8x8x1, for a network "W1 M W2 G" and 3 classes: 3x3 convolutions at 64
and, after pooling, at 16 positions, and the head: 9 * 1 * W1 * 64 + 9 * W1 * W2 * 16 + W2 * 3.

All images: 44 in batches of 8 are 5 batches, in 2 epochs 80 images. A network that is trained takes 3 forward passes
for each image, forward and twice that for the backward pass.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import COOPERATIVE, DGKD_, DML_, KD_, METHODS, ORC_, SCRATCH, SWITOKD, TAKD_
from run_endings import killed_at, quiet_checkpoint

from pipeline.core.interface import Network
from pipeline.errors import DataError
from pipeline.methods.switokd import SwitOKD
from pipeline.models.count import macs
from pipeline.storage.bundle import Bundle, add_record, copy_network, write_network
from pipeline.storage.documents import read_json, write_json
from pipeline.storage.logit_cache import LogitCache
from pipeline.storage.records import Networks
from pipeline.storage.store import Store
from pipeline.training.cost import costs_before
from pipeline.training.latency import Latency
from pipeline.training.participants import initial_networks
from pipeline.training.run_outputs import RunOutputs
from pipeline.training.stage import content_of

META = SimpleNamespace(in_chans=1, image_size=(8, 8), num_classes=3)
STUDENT, MIDDLE, LARGE = "tiny_plain2_12", "tiny_plain2_16", "tiny_plain2_32"
SMALL = 13860  # "6 M 12 G": 9 * 6 * 64 + 9 * 6 * 12 * 16 + 12 * 3 = 3456 + 10368 + 36
MEDIUM = 23088  # "8 M 16 G": 9 * 8 * 64 + 9 * 8 * 16 * 16 + 16 * 3 = 4608 + 18432 + 48
BIG = 83040  # "16 M 32 G": 9 * 16 * 64 + 9 * 16 * 32 * 16 + 32 * 3 = 9216 + 73728 + 96
ALL = 80  # images of a training on all images
TEACHER = {"pretrain/seed-0/leg-0": 3 * BIG * ALL}
CHAIN = {
    **TEACHER,
    "assist-dgkd-ta1/seed-0/leg-0": (3 * MEDIUM + BIG) * ALL,
    "assist-dgkd-ta2/seed-0/leg-0": (3 * SMALL + BIG + MEDIUM) * ALL,
}


class Stages:
    """Trains runs as the stages do, each from the bundle of an earlier one.

    options: of every run.
    """

    def __init__(self, toy, folder: Path, **options):
        self.toy, self.folder, self.options = toy, folder, options
        self.latency = Latency(Store(folder / "store", grouped=True, log=print), {"threads": 1}, META)

    def train(self, stage, method, start: Path | None = None, *, arch=STUDENT, student="student", **options) -> Path:
        """The outputs of seed 0 of a stage."""
        networks = options.pop("networks", None) or method.networks(arch, initial_networks(start))
        run = self.toy.run(method, networks=networks, **self.options | options)
        outputs = RunOutputs(
            META,
            {"threads": 1},
            self.latency,
            name=f"{stage}/seed-0",
            before=costs_before(start and Bundle.read(start), networks),
            student_arch=STUDENT,
        )
        (self.folder / stage / "networks").mkdir(parents=True)
        outputs.write(self.folder / stage, run, run.train(), {"student": student, "seed": 0})
        return self.folder / stage

    def teacher(self) -> Path:
        """The bundle of the teacher."""
        networks = {"teacher": Network(LARGE)}
        return self.train("pretrain", SCRATCH, student="teacher", networks=networks) / "networks"

    def assist(self, name: str, start: Path, arch: str) -> Path:
        """The bundle of a chain that is one assistant longer."""
        outputs = self.train(f"assist-dgkd-{name}", DGKD_, start, arch=arch)
        longer = self.folder / f"chain-{name}"
        longer.mkdir()
        for known in Bundle.read(start).networks:
            copy_network(start, known, longer, known)
        copy_network(outputs / "networks", "student", longer, name)
        return longer

    def chain(self) -> Path:
        """The bundle of the teacher and two assistants, each of which learns from all networks before it."""
        return self.assist("ta2", self.assist("ta1", self.teacher(), MIDDLE), STUDENT)


@pytest.fixture
def stages(toy, tmp_path):
    return Stages(toy, tmp_path / "stages")


def cost_of(outputs: Path, name: str = "student") -> dict[str, int]:
    """The cost in the record of a network."""
    return Bundle.read(outputs / "networks").cost(name)


def equivalents(outputs: Path) -> dict[str, float]:
    return json.loads((outputs / "cost.json").read_text())["forward_equivalents"]


def test_the_multiply_adds_of_the_networks_are_those_on_paper(toy):
    nets = toy.run(DGKD_).nets
    counted = {name: macs(nets[name].module, 1, (8, 8)) for name in ("student", "ta1", "teacher")}
    assert counted == {"student": SMALL, "ta1": MEDIUM, "teacher": BIG}


def test_scratch_takes_three_forwards_for_each_image(stages):
    outputs = stages.train("distill-scratch", SCRATCH)
    assert cost_of(outputs) == {"distill-scratch/seed-0/leg-0": 3 * SMALL * ALL}
    assert equivalents(outputs) == {"given_teacher": 240.0, "from_nothing": 240.0}


def test_kd_takes_its_own_run_given_a_teacher_and_the_teachers_too_from_nothing(stages):
    outputs = stages.train("distill-kd", KD_, stages.teacher())
    own = (3 * SMALL + BIG) * ALL  # 124,620 * 80 = 9,969,600
    assert cost_of(outputs) == {**TEACHER, "distill-kd/seed-0/leg-0": own}
    assert equivalents(outputs) == {
        "given_teacher": 719.3074,  # 9,969,600 / 13,860
        "from_nothing": 2157.2294,  # (9,969,600 + 3 * 83,040 * 80) / 13,860 = 29,899,200 / 13,860
    }


@pytest.mark.parametrize("name", ["dkd", "dist", "wttm"])
def test_another_loss_on_the_teachers_logits_costs_what_kd_costs(stages, name):
    outputs = stages.train(f"distill-{name}", METHODS[name], stages.teacher())
    assert cost_of(outputs) == {**TEACHER, f"distill-{name}/seed-0/leg-0": (3 * SMALL + BIG) * ALL}


class Paused(SwitOKD):
    """SwitOKD whose teacher is paused in every step."""

    def is_too_far_ahead(self, z_s, z_t, batch) -> bool:
        return True


@pytest.mark.parametrize("paused", [False, True])
def test_switokd_takes_the_training_of_its_teacher_except_while_it_is_paused(stages, paused):
    method = Paused(**vars(SWITOKD)) if paused else replace(SWITOKD, pause=False)
    outputs = stages.train("distill-switokd", method, stages.teacher())
    own = (3 * SMALL + (1 if paused else 3) * BIG) * ALL  # a paused teacher answers, and does not learn
    assert cost_of(outputs) == {"distill-switokd/seed-0/leg-0": own}  # the teacher starts from random weights


def test_every_network_of_a_chain_is_counted_once_though_several_learn_from_it(stages):
    outputs = stages.train("distill-dgkd", DGKD_, stages.chain())
    own = (3 * SMALL + BIG + MEDIUM + SMALL) * ALL  # student, and three guides
    assert cost_of(outputs) == {**CHAIN, "distill-dgkd/seed-0/leg-0": own}
    assert equivalents(outputs)["given_teacher"] == round((own + sum(CHAIN.values()) - 3 * BIG * ALL) / SMALL, 4)
    assert equivalents(outputs)["from_nothing"] == round((own + sum(CHAIN.values())) / SMALL, 4)


def test_several_teachers_cost_their_forward_passes_and_what_they_had_taken(stages):
    outputs = stages.train("distill-many", METHODS["multiteacher"], stages.chain())
    assert cost_of(outputs) == {**CHAIN, "distill-many/seed-0/leg-0": (3 * SMALL + BIG + MEDIUM + SMALL) * ALL}


def test_a_method_needs_only_the_networks_that_take_part_and_what_they_needed(stages):
    chain = stages.chain()
    takd = stages.train("distill-takd", TAKD_, chain)  # learns from ta2, which had learned from teacher and ta1
    assert cost_of(takd) == {**CHAIN, "distill-takd/seed-0/leg-0": (3 * SMALL + SMALL) * ALL}
    never = replace(DGKD_, survival=0.0)  # drops every assistant in every batch
    alone = stages.train("distill-sdgkd", never, chain)
    assert cost_of(alone) == {**TEACHER, "distill-sdgkd/seed-0/leg-0": (3 * SMALL + BIG) * ALL}


def test_dml_needs_no_teacher(stages):
    group = stages.teacher()
    for name in ("ta1", "ta2"):
        add_record(group, name, {"arch": MIDDLE})
    outputs = stages.train("distill-dml", DML_, group)
    # Each peer learns. The peers after the student teach from the start of a step; all but the last after their update.
    own = (SMALL * (3 + 1) + MEDIUM * (3 + 1 + 1) + MEDIUM * (3 + 1)) * ALL
    assert cost_of(outputs) == cost_of(outputs, "ta1") == {"distill-dml/seed-0/leg-0": own}
    assert equivalents(outputs) == dict.fromkeys(("given_teacher", "from_nothing"), round(own / SMALL, 4))


def test_orc_takes_the_training_of_the_whole_group_and_of_the_pivot(stages):
    method = replace(ORC_, group={"a": STUDENT, "b": STUDENT})
    outputs = stages.train("distill-orc", method, stages.teacher())
    # Three students and the pivot learn; the pivot teaches once in a step, and so does the temporary teacher.
    own = (3 * SMALL * 3 + SMALL + BIG * (3 + 1)) * ALL
    assert cost_of(outputs) == cost_of(outputs, "b") == {**TEACHER, "distill-orc/seed-0/leg-0": own}


def test_orc_that_starts_from_the_assistants_takes_what_they_had_taken(stages):
    outputs = stages.train("distill-orc", replace(ORC_, init="assistants"), stages.chain())
    own = (3 * (SMALL + MEDIUM + SMALL) + SMALL + BIG * (3 + 1)) * ALL  # one of the small networks is the best
    cost = cost_of(outputs)
    assert cost.keys() == {*CHAIN, "distill-orc/seed-0/leg-0"} and cost.items() >= CHAIN.items()
    # The temporary teacher is whichever student is the best in a step: one of two that cost SMALL, or ta1.
    assert own <= cost["distill-orc/seed-0/leg-0"] <= own + (MEDIUM - SMALL) * ALL


def members(stages) -> Path:
    """The bundle of three members, each trained without one class, and of their architecture, trained on all images.

    Afterwards member k is given weights with which it answers class k to every image.
    """
    labels = stages.toy.train.labels.numpy()
    networks = {
        name: Network(STUDENT, sees=(labels != k).nonzero()[0], independent=True) for k, name in enumerate("abc")
    }
    networks[f"all/{STUDENT}"] = Network(STUDENT, independent=True)
    trained = stages.train("members", SCRATCH, student=None, networks=networks) / "networks"
    index = read_json(trained / "networks.json", Networks)
    bundle = stages.folder / "constant"
    for k, name in enumerate("abc"):
        state = {
            key: torch.zeros_like(value) for key, value in stages.toy.run(SCRATCH, {}).nets["student"].weights().items()
        }
        state |= {key: torch.ones_like(value) for key, value in state.items() if key.endswith("running_var")}
        state[next(key for key in reversed(state) if key.endswith("bias"))] = 4.0 * torch.eye(3)[k]
        record = {key: value for key, value in index[name].items() if key not in ("weights", "best", "sees", "sha256")}
        write_network(bundle, name, record, last=state, sees=networks[name].sees)
    return bundle


@pytest.mark.parametrize("pool", ["counterfactual", "raw", "none"])
def test_cooperative_takes_members_counterfactuals_and_retraining(stages, pool):
    start = members(stages)
    # 15, 15 and 14 images of the three classes: the members are trained on 29, 29 and 30, of which 3 batches of 8 fill
    # an epoch: 2 * 3 * 8 = 48 images each. The network that is trained on all images is needed by no member.
    bases = {f"members/seed-0/leg-{k}": 3 * SMALL * 48 for k in range(3)}
    assert [Bundle.read(start).cost(name) for name in "abc"] == [{key: value} for key, value in bases.items()]
    method = replace(COOPERATIVE, pool=pool, tolerance=1e-9)
    outputs = stages.train("distill-cooperative", method, start, student=None)
    # Each member is right on the images of one class alone, so it is taught the 29, 29 and 30 images of the others.
    # An image that is moved: a forward pass for its target, 5 steps of forward and backward pass to the pixels (5 * 2),
    # and a forward pass at the end. All members classify all 44 images to find out who teaches whom.
    moving = {"counterfactual": (29 + 29 + 30) * (1 + 5 * 2 + 1), "raw": 0, "none": 0}[pool]
    asking = 3 * 44 if pool != "none" else 0
    # With the images that it is taught a member has 58, 58 or 60: 7 batches of 8 fill an epoch, 2 * 7 * 8 = 112 images.
    images = 48 if pool == "none" else 112
    legs = {f"distill-cooperative/seed-0/leg-{k}": 3 * SMALL * images for k in range(3)}
    before = {"distill-cooperative/seed-0/before-leg-0": (asking + moving) * SMALL} if asking else {}
    group = {**legs, **before, **(bases if asking else {})}  # without a pool, the members of before take no part
    joined = {key: value for name in "abc" for key, value in cost_of(outputs, name).items()}
    assert joined == group
    total = sum(group.values()) / SMALL  # counterfactual: 3 * 3 * 112 + 3 * 3 * 48 + 3 * 44 + 88 * 12 = 2628
    assert equivalents(outputs) == {"given_teacher": total, "from_nothing": total}
    assert total == {"counterfactual": 2628, "raw": 1572, "none": 432}[pool]


@pytest.mark.parametrize("name", ["kd", "dgkd", "sdgkd", "multiteacher"])
def test_a_cost_does_not_depend_on_the_cache_of_logits(toy, tmp_path, name):
    def cache():
        return LogitCache(tmp_path / "logits", kind="fp32", gib=1.0, key={})

    computed, stored, read = (
        toy.run(METHODS[name], toy.start, cache=kind).train() for kind in (None, cache(), cache())
    )
    assert computed.passes == stored.passes == read.passes
    assert computed.passes["leg-0"]["student"] == [80, 80, 0]


@pytest.mark.parametrize("minutes", [0.0, 10.0])
def test_a_cost_does_not_depend_on_kills(stages, tmp_path, minutes):
    """minutes: 0 saves a checkpoint after every batch, 10 after every epoch."""
    start = members(stages)
    method = replace(COOPERATIVE, steps=2)
    networks = method.networks(STUDENT, initial_networks(start))
    whole = stages.toy.run(method, networks=networks).train()
    checkpoint = quiet_checkpoint(tmp_path)
    kills = 0
    for update in (3, 5, 8, 8, 9, 10):
        kills += killed_at(stages.toy.run(method, networks=networks, checkpoint=checkpoint, minutes=minutes), update)
    assert kills >= 4
    resumed = stages.toy.run(method, networks=networks, checkpoint=checkpoint, minutes=minutes).train()
    assert resumed.passes == whole.passes


def test_weights_from_elsewhere_cost_nothing(stages):
    """A teacher that is taken from a file as it is has no epochs."""
    networks = {"teacher": Network(LARGE, checkpoint=str(stages.toy.start["teacher"].weights))}
    taken = stages.train("pretrain", SCRATCH, student="teacher", networks=networks, epochs=0) / "networks"
    outputs = stages.train("distill-kd", KD_, taken)
    assert Bundle.read(taken).cost("teacher") == {}
    assert cost_of(outputs) == {"distill-kd/seed-0/leg-0": (3 * SMALL + BIG) * ALL}


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        (None, "network teacher has no cost"),
        (
            {"pretrain/seed-0/leg-0": -1},
            "teacher.cost.pretrain/seed-0/leg-0: Input should be greater than or equal to 0",
        ),
        ({"pretrain/seed-0/leg-0": "1"}, "teacher.cost.pretrain/seed-0/leg-0: Input should be a valid integer"),
        ({"pre train": 1}, "teacher.cost.pre train.[key]: String should match pattern"),
        ([], "teacher.cost: Input should be an object"),
    ],
    ids=["missing", "negative", "text", "name", "list"],
)
def test_a_missing_or_damaged_cost_gives_one_line(stages, cost, reason):
    bundle = stages.teacher()
    index = json.loads((bundle / "networks.json").read_text())
    index.pop("content.sha256")
    index["teacher"]["cost"] = cost
    if cost is None:
        del index["teacher"]["cost"]
    write_json(bundle / "networks.json", index)
    with pytest.raises(DataError) as error:
        content_of(bundle)
    line = str(error.value)
    assert line.startswith(f"{bundle}/networks.json is damaged ({reason}") and len(line.splitlines()) == 1
    assert line.endswith("run `dvc repro` to write it again")


def test_an_edited_cost_is_not_used(stages):
    bundle = stages.teacher()
    text = (bundle / "networks.json").read_text()
    (bundle / "networks.json").write_text(text.replace(str(3 * BIG * ALL), "1"))
    with pytest.raises(DataError, match="its content does not have its checksum"):
        content_of(bundle)
