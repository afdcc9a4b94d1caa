"""What it takes to get a network: the multiply-adds of everything that was trained for it, by one convention.

Convention:
  - A cost is counted in multiply-adds (pipeline.models.count.macs), by images: a forward pass of n images counts n
    times the network's multiply-adds for one image, whatever the size of the batches and the number of processes.
  - A backward pass of a network that is trained counts as two forward passes: one for the gradients with respect to
    activations, and one for those with respect to weights.
  - A backward pass through a frozen network to the pixels of its input (Cooperative's counterfactuals) counts as one
    forward pass, because gradients with respect to weights are not computed.
  - A backward pass is counted when it takes place. A forward pass that nothing learns from has none.
  - Logits from the cache count as if they were computed: a cost must not depend on what another run has left there.
  - Validation and test are not counted. They measure networks, and no method learns from them.
  - Weights that were trained elsewhere (`teacher.pretrained`, `teacher.checkpoint`) count as zero, because what they
    took is unknown.

A training is named STAGE/seed-N/leg-K, or STAGE/seed-N/before-leg-K for what `Method.legs` computes from networks ahead
of a leg. The cost of a network maps every training that it needed, directly or through other networks, to its
multiply-adds. Costs are joined by name, so a teacher that two assistants learn from is counted once.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from pipeline.core.interface import Network
from pipeline.storage.bundle import Bundle

FORWARD, BACKWARD, TO_PIXELS = 0, 1, 2  # kinds of passes: forward, backward to weights, backward to pixels
FORWARDS = (1, 2, 1)  # forward passes that a pass of each kind counts as
UNUSED = (0, 0, 0)  # passes of a network that took no part
BEFORE = "before-"  # begins the name of a part of a run that is no leg
TEACHER = "pretrain/"  # begins the names of the trainings of the center teacher, by the stage `pretrain`

Passes = list[int]
"""Images that passed through a network, by kind of pass."""
RunPasses = dict[str, dict[str, Passes]]
"""Part of a run -> network -> passes."""
Cost = dict[str, int]
"""Training -> multiply-adds."""


def part_of_leg(number: int) -> str:
    """The name of the part of a run that trains a leg."""
    return f"leg-{number}"


def part_before_leg(number: int) -> str:
    """The name of the part of a run in which `Method.legs` computes what a leg needs."""
    return f"{BEFORE}leg-{number}"


def count_pass(passes: Passes, z: Tensor, backward: int) -> Tensor:
    """Count the forward pass that computed z, and its backward pass whenever one takes place. Returns z.

    z: [B, ...].  backward: the kind of its backward pass, BACKWARD or TO_PIXELS.
    """
    images = len(z)
    passes[FORWARD] += images
    if z.requires_grad:

        def count_backward(_: Tensor) -> None:
            passes[backward] += images

        z.register_hook(count_backward)
    return z


def add_passes(total: RunPasses, more: RunPasses) -> None:
    """Add passes to a total, in place: its lists stay the same objects, because networks count in them."""
    for part, of_part in more.items():
        for name, passes in of_part.items():
            counted = total.setdefault(part, {}).setdefault(name, [0, 0, 0])
            counted[:] = [before + new for before, new in zip(counted, passes)]


def sum_passes(of_ranks: Iterable[RunPasses]) -> RunPasses:
    """The passes of all ranks, each of which has counted its own, without networks that took no part."""
    total: RunPasses = {}
    for passes in of_ranks:
        add_passes(total, passes)
    return {part: took for part, of_part in total.items() if (took := {n: p for n, p in of_part.items() if any(p)})}


def multiply_adds(passes: Mapping[str, Passes], macs: Mapping[str, int]) -> int:
    """Multiply-adds of passes through networks.  macs: of each network's forward pass on one image."""
    return sum(macs[name] * sum(n * k for n, k in zip(counted, FORWARDS)) for name, counted in passes.items())


def costs_before(bundle: Bundle | None, networks: Mapping[str, Network]) -> dict[str, Cost]:
    """What the networks of a run had cost before it: those of a bundle what their records say, all others nothing.

    Raises DataError if a record has no cost.
    """
    known = {} if bundle is None else {k: r for k, r in bundle.networks.items() if r.weights is not None}
    of_file = {bundle.folder / str(record.weights): bundle.cost(name) for name, record in known.items() if bundle}
    return {name: {} if network.weights is None else of_file[network.weights] for name, network in networks.items()}


def cost_of(
    name: str,
    networks: Mapping[str, Network],
    passes: RunPasses,
    *,
    run: str,
    macs: Mapping[str, int],
    before: Mapping[str, Cost],
) -> Cost:
    """What a network of a run has cost: the run, and what the networks that took part in it had cost before.

    A network that is `independent` of the others needs only the legs that train it, and what was computed before legs.

    run: STAGE/seed-N.  macs: of each network's forward pass on one image.  before: see `costs_before`.
    """
    parts = passes
    if networks[name].independent:
        own = {part for part, of_part in passes.items() if of_part.get(name, UNUSED)[BACKWARD]}
        parts = {part: of_part for part, of_part in passes.items() if part in own or part.startswith(BEFORE)}
    cost = join_costs(before[n] for n in (name, *(n for of_part in parts.values() for n in of_part)))
    return cost | {f"{run}/{part}": multiply_adds(of_part, macs) for part, of_part in parts.items()}


def join_costs(costs: Iterable[Cost]) -> Cost:
    """The trainings of several costs, each once."""
    return {training: count for cost in costs for training, count in cost.items()}


def forward_equivalents(cost: Cost, student_macs: int) -> dict[str, float]:
    """A cost in forward passes of the student on one image.

    Returns from_nothing, of all trainings, and given_teacher, of all but those of the center teacher.
    """
    given = sum(count for training, count in cost.items() if not training.startswith(TEACHER))
    total = {"given_teacher": given, "from_nothing": sum(cost.values())}
    return {key: round(count / student_macs, 4) for key, count in total.items()}
