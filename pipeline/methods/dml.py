"""Deep mutual learning: peers from scratch teach each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.losses import cross_entropy, distill
from pipeline.core.vocabulary import Batch, Leg, Losses, Nets, Network, Train


@dataclass(frozen=True)
class DML:
    """Deep mutual learning (Zhang et al. 2018, arXiv 1706.00384), algorithm 1: the peers are updated in turn.

    L_k = CE_k + weight / (K - 1) sum_{l != k} tau^2 KL(p_l || p_k)    (eq. 7; weight = tau = 1 in the paper).

    After a peer's update its predictions are computed anew, as the algorithm says, before the next peer learns.
    Deviation: a peer teaches in evaluation mode, as every teacher here does.
    peers: name -> architecture; None means the assistants' architectures.
    """

    temperature: float
    weight: float
    peers: Mapping[str, str] | None

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        if self.peers is None:
            peers = {name: network.arch for name, network in start.items() if name != "teacher"}
        else:
            peers = self.peers
        return {"student": Network(student), **{name: Network(arch) for name, arch in peers.items()}}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        yield Leg(learners=tuple(nets))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        several = len(leg.learners) > 1
        said = {peer: nets[peer].teach(batch.x) for peer in leg.learners[1:]}
        for peer in leg.learners:
            z = nets[peer](batch.x)
            terms = {"ce": cross_entropy(z, batch.y)}
            for other in leg.learners:
                if other != peer:
                    kl = distill(z, said[other], self.temperature)
                    terms[f"kl/{other}"] = self.weight / (len(leg.learners) - 1) * kl
            yield {peer: terms}
            if several and peer != leg.learners[-1]:
                said[peer] = nets[peer].teach(batch.x)


METHOD = DML
