"""Expertise, deficiency and counterfactuals are what the paper says; each control is what it is called."""

from dataclasses import replace

import pytest
import torch
from cases import COOPERATIVE, SCRATCH, members
from workshop import Workshop

from pipeline.core.inputs import descend

MEMBERS = ["a", "b", "c"]


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


class Notes:
    """The training set of a run, with its notes kept."""

    def __init__(self, workshop, method):
        self.run = workshop.run(method, members(workshop))
        self.train = self.run.train_set
        self.labels = self.train.labels

    def right(self) -> dict[str, torch.Tensor]:
        rows = torch.arange(len(self.labels))
        with torch.no_grad():
            return {
                m: self.run.nets[f"base/{m}"].teach(self.train.images(rows)).argmax(1) == self.labels for m in MEMBERS
            }


def probabilities(world: Notes) -> torch.Tensor:
    rows = torch.arange(len(world.labels))
    with torch.no_grad():
        return torch.stack([world.run.nets[f"base/{m}"].teach(world.train.images(rows)).softmax(1) for m in MEMBERS])


def noted(world: Notes) -> dict[tuple[str, str], float]:
    return {(network, term): value for network, term, value in world.train.notes()}


def test_a_qualified_teacher_is_right_where_the_student_is_wrong(workshop):
    world = Notes(workshop, COOPERATIVE)
    lessons = COOPERATIVE.lessons(probabilities(world), world.train, MEMBERS)
    right, said = world.right(), noted(world)
    for j in MEMBERS:
        for i in set(MEMBERS) - {j}:
            assert said[j, f"qualified/{i}"] == int((right[i] & ~right[j]).sum())
        taught = set(lessons[j].rows.tolist())
        somebody = torch.stack([right[i] for i in MEMBERS if i != j]).any(0)
        assert taught == set((somebody & ~right[j]).nonzero()[:, 0].tolist())
        assert all(not right[j][row] for row in taught)
        assert all(right[MEMBERS[i]][row] for row, i in zip(*map(torch.Tensor.tolist, lessons[j])))


def test_of_several_teachers_the_most_certain_one_is_heard(workshop):
    world = Notes(workshop, COOPERATIVE)
    p = probabilities(world)
    for j, lesson in COOPERATIVE.lessons(p, world.train, MEMBERS).items():
        right = world.right()
        for row, i in zip(lesson.rows.tolist(), lesson.teachers.tolist()):
            sure = {k: float(p[k, row, world.labels[row]]) for k, m in enumerate(MEMBERS) if m != j and right[m][row]}
            assert sure[i] == max(sure.values())


def test_own_data_stay_with_their_owner(workshop):
    method = replace(COOPERATIVE, source="own")
    world = Notes(workshop, method)
    for lesson in method.lessons(probabilities(world), world.train, MEMBERS).values():
        for row, i in zip(lesson.rows.tolist(), lesson.teachers.tolist()):
            assert row in world.train.sees(MEMBERS[i]).tolist()


def test_class_expertise_passes_on_only_classes_that_the_student_lacks(workshop):
    method = replace(COOPERATIVE, expertise="class", class_recall=0.5)
    world = Notes(workshop, method)
    right, y = world.right(), world.labels
    recall = {m: torch.stack([right[m][y == c].float().mean() for c in range(3)]) for m in MEMBERS}
    for j, lesson in method.lessons(probabilities(world), world.train, MEMBERS).items():
        for row, i in zip(lesson.rows.tolist(), lesson.teachers.tolist()):
            assert recall[j][y[row]] < 0.5 <= recall[MEMBERS[i]][y[row]]
            assert right[MEMBERS[i]][row]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_counterfactual_moves_towards_its_target_and_stays_a_valid_image(workshop, alpha):
    method = replace(COOPERATIVE, alpha=alpha, steps=60, step_size=0.05, proximity=0.0)
    run = workshop.run(SCRATCH, {}, epochs=10)
    run.train()
    moved = method.move(run.nets["student"], torch.arange(20), run.train_set)
    assert moved["x"].min() >= 0 and moved["x"].max() <= 255 and moved["x"].shape == (20, 8, 8, 1)
    if alpha == 0:
        assert float(moved["distance"].max()) == 0 and bool(moved["success"].all())
    else:
        gain = moved["p_y/after"] - moved["p_y/before"]
        target = alpha * (1 - moved["p_y/before"])
        assert float(gain.mean()) > 0.5 * float(target.mean())
        assert bool((gain >= -1e-6).all())


def test_proximity_keeps_a_counterfactual_near(workshop):
    far, near = (replace(COOPERATIVE, steps=60, step_size=0.05, proximity=p, tolerance=0.0) for p in (0.0, 1.0))
    world = Notes(workshop, far)
    net, rows = world.run.nets["base/a"], torch.arange(20)
    distance = [float(m.move(net, rows, world.train)["distance"].mean()) for m in (far, near)]
    assert distance[1] < distance[0]


def test_images_of_one_chunk_do_not_influence_each_other(workshop):
    world = Notes(workshop, COOPERATIVE)
    net = world.run.nets["base/a"]
    together = COOPERATIVE.move(net, torch.arange(6), world.train)["x"]
    alone = torch.cat([COOPERATIVE.move(net, torch.tensor([k]), world.train)["x"] for k in range(6)])
    torch.testing.assert_close(together, alone, atol=0.2, rtol=0)


@pytest.mark.parametrize("of", ["teacher", "student"])
def test_the_counterfactual_is_of_the_network_that_is_named(workshop, of):
    method = replace(COOPERATIVE, counterfactual_of=of)
    world = Notes(workshop, method)
    asked = []
    for name, net in world.run.nets.items():
        teach = net.teach
        net.teach = lambda x, name=name, teach=teach: (asked.append((name, x.requires_grad)), teach(x))[1]
    lesson = method.lessons(probabilities(world), world.train, MEMBERS)["a"]
    asked.clear()
    method.lesson("a", lesson, world.run.nets, world.train, MEMBERS)
    moved_by = {name for name, gradient in asked if gradient}
    teachers = {f"base/{MEMBERS[i]}" for i in lesson.teachers.tolist()}
    assert moved_by == (teachers if of == "teacher" else {"base/a"})


def test_every_pool_keeps_the_true_labels_and_raw_keeps_the_pixels(workshop):
    for pool in ("counterfactual", "raw", "noise"):
        method = replace(COOPERATIVE, pool=pool)
        world = Notes(workshop, method)
        lesson = method.lessons(probabilities(world), world.train, MEMBERS)["a"]
        images = method.lesson("a", lesson, world.run.nets, world.train, MEMBERS)
        assert sorted(images.y.tolist()) == sorted(world.labels[lesson.rows].tolist())
        if pool == "raw":
            expected = world.train.views.images[lesson.rows].float()
            torch.testing.assert_close(images.x, expected, atol=1e-2, rtol=0)


def test_noise_is_as_far_away_as_the_counterfactual(workshop):
    method = replace(COOPERATIVE, pool="noise")
    world = Notes(workshop, method)
    rows = torch.arange(10)
    distance = torch.full((10,), 0.3)
    x = world.train.images(rows)
    noisy = method.noise(x, distance, rows, "a", world.train)
    back = (noisy.permute(0, 3, 1, 2) / 255 - 0.3) / 0.2
    measured = (back - x).flatten(1).norm(dim=1)
    assert bool((measured <= 0.3 + 1e-4).all()) and float(measured.mean()) > 0.2  # clamping shortens some


def test_descent_finds_the_minimum_of_a_quadratic_within_its_bounds():
    goal = torch.full((2, 1, 3, 3), 0.7)
    low, high = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5)

    def objective(x):
        gap = (x - goal).square().flatten(1).sum(1)
        return gap, torch.zeros(2, dtype=torch.bool)

    free = descend(objective, torch.zeros_like(goal), steps=300, step_size=0.05, low=low - 9, high=high + 9)
    torch.testing.assert_close(free, goal, atol=1e-3, rtol=0)
    held = descend(objective, torch.zeros_like(goal), steps=300, step_size=0.05, low=low, high=high)
    torch.testing.assert_close(held, torch.full_like(goal, 0.5))
