"""Cooperative distillation: learners that are right teach learners that are wrong, through counterfactual images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline.core.evolution import evolve
from pipeline.core.interface import Batch, Images, Leg, Losses, Net, Nets, Network, Train
from pipeline.core.losses import cross_entropy
from pipeline.core.pixel_descent import descend

BASE = "base/"  # prefix of the members as trained on their own; these only teach
N_SHEET = 8  # counterfactuals kept for visual inspection, for each member
CHUNK = 256  # images whose counterfactuals are computed in one batch


class Lesson(NamedTuple):
    """What one member is taught: rows [N], indices into the training split, and the teacher of each.

    A row occurs once for each member that teaches it.
    """

    rows: Tensor
    teachers: Tensor  # [N] indices into the list of members


@dataclass(frozen=True)
class Cooperative:
    """Cooperative knowledge distillation: a learner agnostic approach (Livanos et al. 2024, arXiv 2402.05942).

    Expertise S_i and deficiency R_{i->j} = S_i minus S_j are sets of training images:
      expertise "instance": S_i = {x: f_i classifies x correctly};
      expertise "class": S_i = the images of classes that f_i recalls at class_recall or above; of these, i teaches
      those that it classifies correctly.
    source "pooled": over the images of all members.  "own": over the teacher's (models are exchanged, data are not).

    Counterfactual: x' = argmin proximity |x' - x|_1 + |f(x') - y'|^2,  y' = f(x) + alpha (y - f(x)),
    where f(x) is the softmax.  Adam updates the pixels, clamped to the valid range, until |f(x') - y'| <= tolerance
    in every class.  f is the teacher f_i, as in the published notebook, or the student f_j (counterfactual_of).
    x' joins j's training set with its true label, and j is retrained from its initial weights.
    A learner without gradients, such as a forest, needs another search: search "evolution" minimises the same objective
    by an evolution strategy, with the same bounds and the same end; "auto" uses it for such learners alone.

    teachers "certain": each (j, x) has one teacher, the qualified one that is most certain of y.  "all": every
    qualified teacher makes its own counterfactual of x, and duplicates are removed: counterfactuals of one image whose
    pixels are equal join once.  Two teachers make equal ones if x meets the targets of both from the start, or if both
    counterfactuals are computed on f_j (counterfactual_of "student", for which "all" is "certain").

    pool "counterfactual" is the method.  The controls add other images: "raw" the image itself, once; "noise" the image
    plus uniform noise as far away as the counterfactual; "random" as many labelled images at random, one for each
    teacher of an image and at most all; "none" nothing.

    Deviations:
      - The default is teachers "certain".  The paper adds all and removes duplicates.
      - proximity multiplies the distance.  The paper's lambda multiplies the other term.
      - An image that meets its target from the start still joins.  The notebook drops it.
      - x' is augmented like any other image.
      - The recall that decides expertise "class" is measured on the whole training split, also with source "own", and
        also where the members see only a part of it.
    """

    expertise: str
    class_recall: float
    source: str
    teachers: str
    alpha: float
    search: str
    steps: int
    step_size: float
    proximity: float
    tolerance: float
    counterfactual_of: str
    pool: str

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """Each member twice: to be retrained from its initial weights, and as already trained, which only teaches."""
        members = {name: network for name, network in start.items() if "/" not in name}
        return {
            **{name: replace(n, weights=None, learns=True, independent=True) for name, n in members.items()},
            **{BASE + name: network for name, network in members.items()},
        }

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """One leg for each member, on its own images and the ones that it is taught."""
        members = [name for name in nets if not name.startswith(BASE)]
        pools = train.once("pools", lambda: self.pools(nets, train, members))
        for member in members:
            yield Leg(learners=(member,), extra=pools[member], fresh=True)

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy of the member, in one update."""
        (member,) = leg.learners
        yield {member: {"ce": cross_entropy(nets[member](batch.x), batch.y)}}

    def pools(self, nets: Nets, train: Train, members: list[str]) -> dict[str, Images | None]:
        """The images that join each member's training set, or None if it gets none."""
        if self.pool == "none":
            return dict.fromkeys(members)
        p = torch.stack([probabilities(nets[BASE + name], train) for name in members])
        lessons = self.lessons(p, train, members)
        return {name: self.lesson(name, lessons[name], nets, train, members) for name in members}

    def lessons(self, p: Tensor, train: Train, members: list[str]) -> dict[str, Lesson]:
        """Compute R_{i->j} for all pairs and choose the teachers of each image.  p: [K, N, C] probabilities."""
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
        certainty = p.gather(2, y.expand(len(members), -1)[..., None])[..., 0]  # p_i(y | x), [K, N]

        lessons = {}
        for j, name in enumerate(members):
            deficiency = can_teach & ~expert[j]
            for i, teacher in enumerate(members):
                if i != j:
                    train.note(name, f"qualified/{teacher}", float(deficiency[i].sum()))
            if self.teachers == "all" and self.counterfactual_of == "teacher" and self.pool != "raw":
                rows, teachers = deficiency.T.nonzero().T
            else:
                rows = deficiency.any(0).nonzero()[:, 0]
                teachers = torch.where(deficiency, certainty, -1.0).argmax(0)[rows]
            lessons[name] = Lesson(rows.cpu(), teachers.cpu())
        return lessons

    def lesson(self, name: str, lesson: Lesson, nets: Nets, train: Train, members: list[str]) -> Images | None:
        """The images that join one member's training set, or None if no member is qualified to teach it."""
        rows, n = lesson.rows, len(lesson.rows)
        train.note(name, "taught", float(len(rows.unique())))
        if n == 0:
            return None
        if self.pool == "random":
            candidates = torch.cat([train.sees(member) for member in members]).unique()
            rows = candidates[torch.randperm(len(candidates), generator=train.draw(f"random/{name}"))[:n]]
        if self.pool in ("raw", "random"):
            return Images(train.raw(train.images(rows)), train.labels[rows].cpu())

        chunks = []
        for i, teacher in enumerate(members):
            model = teacher if self.counterfactual_of == "teacher" else name
            chunks += [(model, part) for part in rows[lesson.teachers == i].split(CHUNK) if len(part)]
        assigned = [chunks[k] for k in train.world.rank_indices(len(chunks))]
        done = train.world.gather_objects([self.move(nets[BASE + model], part, train) for model, part in assigned])
        rows = torch.cat([part for _, part in chunks])
        made = {key: torch.cat([part[key] for part in done]) for key in done[0]}
        if self.teachers == "all":
            kept = without_duplicates(rows, made["x"])
            train.note(name, "duplicates", float(len(rows) - len(kept)))
            rows, made = rows[kept], {key: value[kept] for key, value in made.items()}
        x = made["x"]
        if self.pool == "counterfactual":
            train.sheet(name, train.raw(train.images(rows[:N_SHEET])), x[:N_SHEET])
        for model in dict.fromkeys(model for model, _ in chunks if self.evolves(nets[BASE + model])):
            of_model = [part for (m, _), part in zip(chunks, done) if m == model]
            for term in ("success", "distance"):
                train.note(name, f"{term}/{model}", float(torch.cat([p[term] for p in of_model]).double().mean()))
        if self.pool == "noise":
            x = self.noise(made["distance"], rows, name, train)
        for term in ("success", "distance", "p_y/before", "p_y/after"):
            train.note(name, term, float(made[term].double().mean()))
        return Images(x, train.labels[rows].cpu())

    def move(self, net: Net, rows: Tensor, train: Train) -> dict[str, Tensor]:
        """Counterfactuals of a chunk of images, with statistics of each.

        Returns x: [B, H, W, C_in] pixels in 0..255; success: [B] bool; distance: [B] Euclidean, in normalised pixels;
        p_y/before and p_y/after: [B] probability of the label.
        """
        x, y = train.images(rows), train.labels[rows.to(train.labels.device)]
        with torch.no_grad():
            p = net.teach(x).softmax(1)
        target = p + self.alpha * (one_hot(y, p.shape[1]).to(p.dtype) - p)

        def objective(moved: Tensor) -> tuple[Tensor, Tensor]:
            n = len(moved) // len(x)  # candidates of each image
            gap = net.teach(moved).softmax(1) - target.repeat(n, 1)
            distance = (moved - x.repeat(n, 1, 1, 1)).abs().flatten(1).sum(1)
            return gap.square().sum(1) + self.proximity * distance, gap.detach().abs().amax(1) <= self.tolerance

        low, high = train.bounds()
        if self.evolves(net):
            draw = train.draw("evolution")
            moved = evolve(objective, x, steps=self.steps, step_size=self.step_size, low=low, high=high, draw=draw)
        else:
            moved = descend(objective, x, steps=self.steps, step_size=self.step_size, low=low, high=high)
        with torch.no_grad():
            after = net.teach(moved).softmax(1)
        label = y[:, None]
        return {
            "x": train.raw(moved),
            "success": ((after - target).abs().amax(1) <= self.tolerance).cpu(),
            "distance": (moved - x).flatten(1).norm(dim=1).cpu(),
            "p_y/before": p.gather(1, label)[:, 0].cpu(),
            "p_y/after": after.gather(1, label)[:, 0].cpu(),
        }

    def evolves(self, net: Net) -> bool:
        """Whether the counterfactuals of a learner are searched by evolution."""
        return self.search == "evolution" or (self.search == "auto" and not net.differentiable)

    def noise(self, distance: Tensor, rows: Tensor, name: str, train: Train) -> Tensor:
        """Images plus uniform noise, scaled to the distances of their counterfactuals and clamped to valid pixels.

        distance: [B] Euclidean, in normalised pixels.  Returns [B, H, W, C_in] pixels in 0..255.
        """
        low, high = train.bounds()
        clean = train.images(rows).cpu()
        noise = 2 * torch.rand(clean.shape, generator=train.draw(f"noise/{name}")) - 1
        noise *= (distance / noise.flatten(1).norm(dim=1))[:, None, None, None]
        return train.raw((clean + noise).clamp(low.cpu(), high.cpu()))


def without_duplicates(rows: Tensor, x: Tensor) -> Tensor:
    """The first of each set of equal images that were made from the same row.

    rows: [N].  x: [N, ...] images.  Returns indices into both, ascending.
    """
    kept: dict[int, list[int]] = {}
    for k, row in enumerate(rows.tolist()):
        if not any(torch.equal(x[k], x[other]) for other in kept.setdefault(row, [])):
            kept[row].append(k)
    return torch.tensor(sorted(k for ks in kept.values() for k in ks))


def probabilities(net: Net, train: Train) -> Tensor:
    """Softmax of a network on every training image: [N, C]. The work is divided among the ranks."""
    parts = torch.arange(len(train.labels)).split(CHUNK)
    with torch.no_grad():
        p = [net.teach(train.images(parts[k])).softmax(1).cpu() for k in train.world.rank_indices(len(parts))]
    return torch.cat(train.world.gather_objects(p))


METHOD = Cooperative
