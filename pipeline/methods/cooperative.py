"""Cooperative distillation: whoever is right teaches whoever is wrong, by counterfactual instances."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline.core.inputs import descend
from pipeline.core.losses import cross_entropy
from pipeline.core.vocabulary import Batch, Images, Leg, Losses, Net, Nets, Network, Train

BASE = "base/"  # the members as they were before they cooperated; they only teach
SHOWN = 8  # counterfactuals of each member that are kept to be looked at
CHUNK = 256  # images whose counterfactuals are sought together


class Lesson(NamedTuple):
    """What reaches one member: rows [N] of the training split, and for each the member who teaches it."""

    rows: Tensor
    teachers: Tensor  # [N] positions in the members' order


@dataclass(frozen=True)
class Cooperative:
    """Cooperative knowledge distillation: a learner agnostic approach (Livanos et al. 2024, arXiv 2402.05942).

    Expertise S_i, deficiency R_{i->j} = S_i minus S_j, over training images:
      expertise "instance": S_i = {x: f_i is right on x};
      "class": S_i = the classes that f_i recalls to class_recall or more, and i teaches what it is right on.
    source "pooled": over all images that any member has; "own": over the teacher's own (models travel, data stays).

    Counterfactual: x' = argmin proximity |x' - x|_1 + |f(x') - y'|^2,  y' = f(x) + alpha (y - f(x)),
    with f(x) the softmax, by Adam on the pixels, clamped to valid ones, until |f(x') - y'| <= tolerance everywhere.
    f is the teacher f_i, as in the published notebook, or the student f_j (counterfactual_of).
    x' joins j's training set with its true label, and j is retrained from its initial weights.

    pool is the control: "counterfactual", or in its place the image itself ("raw"), the image plus uniform noise as
    far away as the counterfactual ("noise"), as many labelled images at random ("random"), or nothing ("none").

    Deviations: one teacher for each (j, x), the one most certain of y (the paper adds all and removes duplicates);
    proximity multiplies the distance, the paper's lambda the other term; an image whose target is met from the
    start still joins (the notebook drops it); augmentation applies to x' as to any image.
    """

    expertise: str
    class_recall: float
    source: str
    alpha: float
    steps: int
    step_size: float
    proximity: float
    tolerance: float
    counterfactual_of: str
    pool: str

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        members = {name: network for name, network in start.items() if "/" not in name}
        return {
            **{name: replace(network, weights=None, learns=True, apart=True) for name, network in members.items()},
            **{BASE + name: network for name, network in members.items()},
        }

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        members = [name for name in nets if not name.startswith(BASE)]
        pools = train.once("pools", lambda: self.pools(nets, train, members))
        for member in members:
            yield Leg(learners=(member,), extra=pools[member], fresh=True)

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        (member,) = leg.learners
        yield {member: {"ce": cross_entropy(nets[member](batch.x), batch.y)}}

    def pools(self, nets: Nets, train: Train, members: list[str]) -> dict[str, Images | None]:
        """For each member the images that join its training set."""
        if self.pool == "none":
            return dict.fromkeys(members)
        p = torch.stack([probabilities(nets[BASE + name], train) for name in members])
        lessons = self.lessons(p, train, members)
        return {name: self.lesson(name, lessons[name], nets, train, members) for name in members}

    def lessons(self, p: Tensor, train: Train, members: list[str]) -> dict[str, Lesson]:
        """R_{i->j} of every pair, and each image's most certain teacher.  p: [K, N, C] probabilities."""
        y = train.labels.to(p.device)
        right = p.argmax(2) == y  # [K, N]
        if self.expertise == "instance":
            expert = right
        else:
            of_class = one_hot(y, train.n_classes).to(p.dtype)
            recall = (right.to(p.dtype) @ of_class) / of_class.sum(0).clamp_min(1)
            expert = (recall >= self.class_recall)[:, y]
        has = torch.zeros_like(right)
        for k, name in enumerate(members):
            has[k, train.sees(name).to(p.device)] = True
        reachable = has if self.source == "own" else has.any(0).expand_as(has)
        can_teach = expert & right & reachable
        sure = p.gather(2, y.expand(len(members), -1)[..., None])[..., 0]  # p_i(y | x), [K, N]

        lessons = {}
        for j, name in enumerate(members):
            deficiency = can_teach & ~expert[j]
            for i, teacher in enumerate(members):
                if i != j:
                    train.note(name, f"qualified/{teacher}", float(deficiency[i].sum()))
            rows = deficiency.any(0).nonzero()[:, 0]
            teachers = torch.where(deficiency, sure, -1.0).argmax(0)[rows]
            lessons[name] = Lesson(rows.cpu(), teachers.cpu())
        return lessons

    def lesson(self, name: str, lesson: Lesson, nets: Nets, train: Train, members: list[str]) -> Images | None:
        """The images that join one member's training set; None where nobody is qualified to teach it."""
        rows, n = lesson.rows, len(lesson.rows)
        train.note(name, "taught", float(n))
        if n == 0:
            return None
        if self.pool == "random":
            candidates = torch.cat([train.sees(member) for member in members]).unique()
            rows = candidates[torch.randperm(len(candidates), generator=train.draw(f"random/{name}"))[:n]]
        if self.pool in ("raw", "random"):
            return Images(train.raw(train.images(rows)), train.labels[rows].cpu())

        chunks = []
        for i, teacher in enumerate(members):
            of = teacher if self.counterfactual_of == "teacher" else name
            chunks += [(of, part) for part in rows[lesson.teachers == i].split(CHUNK) if len(part)]
        mine = [
            self.move(nets[BASE + of], part, train) for of, part in (chunks[k] for k in train.world.share(len(chunks)))
        ]
        done = train.world.join(mine)
        x = torch.cat([part["x"] for part in done])
        if self.pool == "counterfactual":
            train.sheet(name, train.raw(train.images(rows_of(chunks)[:SHOWN])), x[:SHOWN])
        if self.pool == "noise":
            x = self.noise(x, torch.cat([part["distance"] for part in done]), rows_of(chunks), name, train)
        for term in ("success", "distance", "p_y/before", "p_y/after"):
            train.note(name, term, float(torch.cat([part[term] for part in done]).double().mean()))
        return Images(x, train.labels[rows_of(chunks)].cpu())

    def move(self, net: Net, rows: Tensor, train: Train) -> dict[str, Tensor]:
        """Counterfactuals of a chunk of images, and how each went.  x: [B, H, W, D] pixels; the rest [B]."""
        x, y = train.images(rows), train.labels[rows.to(train.labels.device)]
        with torch.no_grad():
            p = net.teach(x).softmax(1)
        target = p + self.alpha * (one_hot(y, p.shape[1]).to(p.dtype) - p)

        def objective(moved: Tensor) -> tuple[Tensor, Tensor]:
            gap = net.teach(moved).softmax(1) - target
            distance = (moved - x).abs().flatten(1).sum(1)
            return gap.square().sum(1) + self.proximity * distance, gap.detach().abs().amax(1) <= self.tolerance

        low, high = train.bounds()
        moved = descend(objective, x, steps=self.steps, step_size=self.step_size, low=low, high=high)
        with torch.no_grad():
            after = net.teach(moved).softmax(1)
        of_label = y[:, None]
        return {
            "x": train.raw(moved),
            "success": ((after - target).abs().amax(1) <= self.tolerance).cpu(),
            "distance": (moved - x).flatten(1).norm(dim=1).cpu(),
            "p_y/before": p.gather(1, of_label)[:, 0].cpu(),
            "p_y/after": after.gather(1, of_label)[:, 0].cpu(),
        }

    def noise(self, x: Tensor, distance: Tensor, rows: Tensor, name: str, train: Train) -> Tensor:
        """The images themselves plus uniform noise as long as their counterfactuals' moves; pixels, clamped."""
        low, high = train.bounds()
        clean = train.images(rows).cpu()
        noise = 2 * torch.rand(clean.shape, generator=train.draw(f"noise/{name}")) - 1
        noise *= (distance / noise.flatten(1).norm(dim=1))[:, None, None, None]
        return train.raw((clean + noise).clamp(low.cpu(), high.cpu()))


def rows_of(chunks: list[tuple[str, Tensor]]) -> Tensor:
    """The rows of all chunks, in order."""
    return torch.cat([rows for _, rows in chunks])


def probabilities(net: Net, train: Train) -> Tensor:
    """softmax of a network on every training image: [N, C]; the ranks share the work."""
    parts = torch.arange(len(train.labels)).split(CHUNK)
    with torch.no_grad():
        mine = [net.teach(train.images(parts[k])).softmax(1).cpu() for k in train.world.share(len(parts))]
    return torch.cat(train.world.join(mine))


METHOD = Cooperative
