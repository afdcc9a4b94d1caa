"""Expertise, deficiency and counterfactuals follow the paper, and each control does what its name says."""

from dataclasses import replace

import pytest
import torch
from cases import COOPERATIVE, SCRATCH, members

from pipeline.core.pixel_descent import descend
from pipeline.methods.cooperative import without_duplicates

MEMBERS = ["a", "b", "c"]


class ToyGroup:
    """A run of cooperative distillation, and its training set."""

    def __init__(self, toy, method):
        self.run = toy.run(method, members(toy))
        self.train = self.run.train_set
        self.labels = self.train.labels

    def right(self) -> dict[str, torch.Tensor]:
        """For each member, whether it classifies each training image correctly: [N] bool."""
        rows = torch.arange(len(self.labels))
        with torch.no_grad():
            return {
                m: self.run.nets[f"base/{m}"].teach(self.train.images(rows)).argmax(1) == self.labels for m in MEMBERS
            }


def probabilities(group: ToyGroup) -> torch.Tensor:
    """Softmax of every member on every training image: [K, N, C]."""
    rows = torch.arange(len(group.labels))
    with torch.no_grad():
        return torch.stack([group.run.nets[f"base/{m}"].teach(group.train.images(rows)).softmax(1) for m in MEMBERS])


def noted(group: ToyGroup) -> dict[tuple[str, str], float]:
    """Values that the method has noted, by network and term."""
    return {(network, term): value for network, term, value in group.train.take_notes()}


def test_a_qualified_teacher_is_right_where_the_student_is_wrong(toy):
    group = ToyGroup(toy, COOPERATIVE)
    lessons = COOPERATIVE.lessons(probabilities(group), group.train, MEMBERS)
    right, notes = group.right(), noted(group)
    for j in MEMBERS:
        for i in set(MEMBERS) - {j}:
            assert notes[j, f"qualified/{i}"] == int((right[i] & ~right[j]).sum())
        taught = set(lessons[j].rows.tolist())
        teachable = torch.stack([right[i] for i in MEMBERS if i != j]).any(0)
        assert taught == set((teachable & ~right[j]).nonzero()[:, 0].tolist())
        assert all(not right[j][row] for row in taught)
        assert all(right[MEMBERS[i]][row] for row, i in zip(*map(torch.Tensor.tolist, lessons[j])))


def test_the_most_certain_of_several_teachers_teaches(toy):
    group = ToyGroup(toy, COOPERATIVE)
    p = probabilities(group)
    for j, lesson in COOPERATIVE.lessons(p, group.train, MEMBERS).items():
        right = group.right()
        for row, i in zip(lesson.rows.tolist(), lesson.teachers.tolist()):
            certainty = {
                k: float(p[k, row, group.labels[row]]) for k, m in enumerate(MEMBERS) if m != j and right[m][row]
            }
            assert certainty[i] == max(certainty.values())


@pytest.mark.parametrize("source", ["pooled", "own"])
def test_every_qualified_teacher_teaches_if_teachers_is_all(toy, source):
    method = replace(COOPERATIVE, teachers="all", source=source)
    group = ToyGroup(toy, method)
    right, several = group.right(), 0
    for name, lesson in method.lessons(probabilities(group), group.train, MEMBERS).items():
        pairs = [
            (row, i)
            for row in range(len(group.labels))
            for i, teacher in enumerate(MEMBERS)
            if right[teacher][row] and not right[name][row]
            if source == "pooled" or row in group.train.sees(teacher)
        ]
        assert list(zip(lesson.rows.tolist(), lesson.teachers.tolist())) == pairs
        several += len(pairs) - len(set(lesson.rows.tolist()))
    assert several > 0 or source == "own"  # pooled: some images have several teachers


def test_each_teacher_makes_a_counterfactual_of_its_own_and_equal_ones_join_once(toy):
    method = replace(COOPERATIVE, teachers="all")
    group = ToyGroup(toy, method)
    for name, lesson in method.lessons(probabilities(group), group.train, MEMBERS).items():
        joined = method.lesson(name, lesson, group.run.nets, group.train, MEMBERS)
        expected = []
        for i, teacher in enumerate(MEMBERS):
            rows = lesson.rows[lesson.teachers == i]
            if len(rows):
                moved = method.move(group.run.nets[f"base/{teacher}"], rows, group.train)["x"]
                for row, x in zip(rows.tolist(), moved.tolist()):
                    if (row, x) not in expected:
                        expected.append((row, x))
        if joined is None:
            assert expected == []
            continue
        assert joined.x.tolist() == [x for _, x in expected]
        assert joined.y.tolist() == [int(group.labels[row]) for row, _ in expected]
        assert noted(group)[name, "duplicates"] == len(lesson.rows) - len(expected)


def test_images_that_no_teacher_moves_join_once(toy):
    joined = {}
    for teachers in ("certain", "all"):
        method = replace(COOPERATIVE, teachers=teachers, alpha=0.0)
        group = ToyGroup(toy, method)
        pools = method.pools(group.run.nets, group.train, MEMBERS)
        joined[teachers] = {name: sorted(zip(p.x.tolist(), p.y.tolist())) for name, p in pools.items() if p}
    assert joined["all"] == joined["certain"]
    assert sum(value for (_, term), value in noted(group).items() if term == "duplicates") > 0


def test_only_equal_images_of_the_same_row_are_duplicates():
    rows = torch.tensor([4, 2, 4, 4, 2, 4])
    x = torch.tensor([1.0, 1.0, 2.0, 1.0, 3.0, 2.0])[:, None, None, None]
    assert without_duplicates(rows, x).tolist() == [0, 1, 2, 4]


def test_with_source_own_a_teacher_teaches_only_its_own_images(toy):
    method = replace(COOPERATIVE, source="own")
    group = ToyGroup(toy, method)
    for lesson in method.lessons(probabilities(group), group.train, MEMBERS).values():
        for row, i in zip(lesson.rows.tolist(), lesson.teachers.tolist()):
            assert row in group.train.sees(MEMBERS[i]).tolist()


def test_class_expertise_teaches_only_classes_that_the_student_lacks(toy):
    method = replace(COOPERATIVE, expertise="class", class_recall=0.5)
    group = ToyGroup(toy, method)
    right, y = group.right(), group.labels
    recall = {m: torch.stack([right[m][y == c].float().mean() for c in range(3)]) for m in MEMBERS}
    for j, lesson in method.lessons(probabilities(group), group.train, MEMBERS).items():
        for row, i in zip(lesson.rows.tolist(), lesson.teachers.tolist()):
            assert recall[j][y[row]] < 0.5 <= recall[MEMBERS[i]][y[row]]
            assert right[MEMBERS[i]][row]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_counterfactual_moves_towards_its_target_and_stays_a_valid_image(toy, alpha):
    method = replace(COOPERATIVE, alpha=alpha, steps=60, step_size=0.05, proximity=0.0)
    run = toy.run(SCRATCH, {}, epochs=10)
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


def test_proximity_shortens_the_distance_of_a_counterfactual(toy):
    far, near = (replace(COOPERATIVE, steps=60, step_size=0.05, proximity=p, tolerance=0.0) for p in (0.0, 1.0))
    group = ToyGroup(toy, far)
    net, rows = group.run.nets["base/a"], torch.arange(20)
    distance = [float(m.move(net, rows, group.train)["distance"].mean()) for m in (far, near)]
    assert distance[1] < distance[0]


def test_images_of_one_chunk_do_not_influence_each_other(toy):
    group = ToyGroup(toy, COOPERATIVE)
    net = group.run.nets["base/a"]
    together = COOPERATIVE.move(net, torch.arange(6), group.train)["x"]
    alone = torch.cat([COOPERATIVE.move(net, torch.tensor([k]), group.train)["x"] for k in range(6)])
    torch.testing.assert_close(together, alone, atol=0.2, rtol=0)


@pytest.mark.parametrize("of", ["teacher", "student"])
def test_a_counterfactual_is_computed_on_the_network_that_counterfactual_of_names(toy, of):
    method = replace(COOPERATIVE, counterfactual_of=of)
    group = ToyGroup(toy, method)
    calls = []
    for name, net in group.run.nets.items():
        teach = net.teach
        net.teach = lambda x, name=name, teach=teach: (calls.append((name, x.requires_grad)), teach(x))[1]
    lesson = method.lessons(probabilities(group), group.train, MEMBERS)["a"]
    calls.clear()
    method.lesson("a", lesson, group.run.nets, group.train, MEMBERS)
    moved_by = {name for name, gradient in calls if gradient}
    teachers = {f"base/{MEMBERS[i]}" for i in lesson.teachers.tolist()}
    assert moved_by == (teachers if of == "teacher" else {"base/a"})


def test_every_pool_keeps_the_true_labels_and_raw_keeps_the_pixels(toy):
    for pool in ("counterfactual", "raw", "noise"):
        method = replace(COOPERATIVE, pool=pool)
        group = ToyGroup(toy, method)
        lesson = method.lessons(probabilities(group), group.train, MEMBERS)["a"]
        images = method.lesson("a", lesson, group.run.nets, group.train, MEMBERS)
        assert sorted(images.y.tolist()) == sorted(group.labels[lesson.rows].tolist())
        if pool == "raw":
            expected = group.train.views.images[lesson.rows].float()
            torch.testing.assert_close(images.x, expected, atol=1e-2, rtol=0)


def test_noise_is_as_far_away_as_the_counterfactual(toy):
    method = replace(COOPERATIVE, pool="noise")
    group = ToyGroup(toy, method)
    rows = torch.arange(10)
    distance = torch.full((10,), 0.3)
    x = group.train.images(rows)
    noisy = method.noise(distance, rows, "a", group.train)
    back = (noisy.permute(0, 3, 1, 2) / 255 - 0.3) / 0.2
    measured = (back - x).flatten(1).norm(dim=1)
    assert (
        bool((measured <= 0.3 + 1e-4).all()) and float(measured.mean()) > 0.2
    )  # clamping to valid pixels shortens some


def test_descent_finds_the_minimum_of_a_quadratic_within_its_bounds():
    goal = torch.full((2, 1, 3, 3), 0.7)
    low, high = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5)

    def objective(x):
        gap = (x - goal).square().flatten(1).sum(1)
        return gap, torch.zeros(2, dtype=torch.bool)

    unbounded = descend(objective, torch.zeros_like(goal), steps=300, step_size=0.05, low=low - 9, high=high + 9)
    torch.testing.assert_close(unbounded, goal, atol=1e-3, rtol=0)
    bounded = descend(objective, torch.zeros_like(goal), steps=300, step_size=0.05, low=low, high=high)
    torch.testing.assert_close(bounded, torch.full_like(goal, 0.5))
