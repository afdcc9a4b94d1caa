"""Deep mutual learning: peers that start from random weights teach each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.core.interface import Batch, Leg, Losses, Nets, Network, Train
from pipeline.core.losses import cross_entropy, distill


@dataclass(frozen=True)
class DML:
    """Deep mutual learning (Zhang et al. 2018, arXiv 1706.00384), algorithm 1: the peers are updated in turn.

    L_k = CE_k + weight / (K - 1) sum_{l != k} tau^2 KL(p_l || p_k)    (eq. 7; weight = tau = 1 in the paper).

    After each update the peer's predictions are recomputed before the next peer learns, as in algorithm 1.
    teaching_mode: the mode in which a peer teaches, "train" as in the authors' code, or "eval". In evaluation mode
    BatchNorm answers with running statistics, which lag behind weights that still change fast.
    standardise: standardise the logits of the KL terms (Sun et al. 2024, arXiv 2403.01427); not in the paper.
    peers: name -> architecture.  None (`auto` in params.yaml) uses the assistants' architectures.
    """

    temperature: float
    standardise: bool
    weight: float
    teaching_mode: str
    peers: Mapping[str, str] | None

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The student and its peers, all from random weights."""
        if self.peers is None:
            peers = {name: network.arch for name, network in start.items() if name != "teacher"}
        else:
            peers = self.peers
        return {"student": Network(student), **{name: Network(arch) for name, arch in peers.items()}}

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg, in which all peers learn together."""
        yield Leg(learners=tuple(nets))

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """One update for each peer, in turn."""
        has_peers = len(leg.learners) > 1
        z_peer = {peer: nets[peer].teach(batch.x, mode=self.teaching_mode) for peer in leg.learners[1:]}
        for peer in leg.learners:
            z = nets[peer](batch.x)
            terms = {"ce": cross_entropy(z, batch.y)}
            for other in leg.learners:
                if other != peer:
                    kl = distill(z, z_peer[other], self.temperature, standardise=self.standardise)
                    terms[f"kl/{other}"] = self.weight / (len(leg.learners) - 1) * kl
            yield {peer: terms}
            if has_peers and peer != leg.learners[-1]:
                z_peer[peer] = nets[peer].teach(batch.x, mode=self.teaching_mode)


METHOD = DML
