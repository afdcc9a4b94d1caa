"""The progress display: two lines in a terminal, few lines elsewhere, and a tracker that gets every number."""

import io
import re
import sys

import pytest
from cases import METHODS
from rich.console import Console
from toy_run import ToyRuns, same

from pipeline.core.interface import Leg
from pipeline.errors import ParamsError
from pipeline.progress import SECONDS_BETWEEN_LINES, Progress, duration
from pipeline.tracking import open_tracker

KD = Leg(("student",), guides=("teacher",), epochs=40)
ORC = Leg(("student", "ta1", "ta2", "pivot"), epochs=40)
TERMS = {
    "student": {"ce": 0.2104, "group/pivot": 0.4017, "group/temporary": 0.3772, "private": 0.1266, "promoted": 0.21},
    "ta1": {"ce": 0.1893, "group/pivot": 0.3621, "group/temporary": 0.3514, "private": 0.1082, "promoted": 0.44},
    "ta2": {"ce": 0.1967, "group/pivot": 0.3702, "group/temporary": 0.3593, "private": 0.1127, "promoted": 0.35},
    "pivot": {"intensive": 0.3349, "feedback/0": 3.2, "feedback/1": 2.9},
}
TOP1 = {"student": 93.25, "ta1": 94.5, "ta2": 94.0, "pivot": 97.75}


class Clock:
    """A clock that stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Tracked:
    """A tracker that keeps what it is sent."""

    def __init__(self):
        self.calls = []

    def log(self, values, step):
        self.calls.append((step, values))


def rows_of(leg, epoch, number=0):
    rows = [(number, epoch, name, term, v) for name in leg.learners for term, v in TERMS.get(name, {"ce": 1.5}).items()]
    return rows + [(number, epoch, name, "validation/top1", TOP1[name]) for name in leg.learners]


def plain(label="distill-kd seed 0", **options):
    """A progress without a terminal, its clock and its output."""
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=False, highlight=False, soft_wrap=True)
    return Progress(label, console=console, clock=clock, **options), clock, out


def terminal(width, label="distill-orc seed 0"):
    """A progress in a terminal of a width, its clock and its output."""
    clock, out = Clock(), io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=True, highlight=False, soft_wrap=True, _environ={"TERM": "xterm"}
    )
    return Progress(label, console=console, clock=clock), clock, out


def train(progress, clock, leg, *, seconds, epochs=None, n_steps=4, number=0):
    """Epochs of a leg, each of which takes some seconds."""
    progress.begin_leg(leg, n_steps=n_steps)
    for epoch in range(1, leg.epochs + 1) if epochs is None else epochs:
        for _ in range(n_steps):
            clock.now += seconds / n_steps
            progress.step()
        progress.epoch(epoch, leg, rows_of(leg, epoch, number))


def shown(progress, width) -> list[str]:
    """The live lines as text."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    console.print(progress.screen(width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def epochs_in(out) -> list[int]:
    return [int(k) for k in re.findall(r": epoch (\d+)/", out.getvalue())]


def test_line_has_epoch_losses_accuracy_rate_and_time_left():
    progress, clock, out = plain()
    train(progress, clock, KD, seconds=2.0, epochs=[1])
    assert out.getvalue() == (
        "distill-kd seed 0: epoch 1/40 | student ce 0.210 group/pivot 0.402 group/temporary 0.377 private 0.127 "
        "val 93.2% promoted 21% | 2 steps/s | 1 min left\n"
    )


@pytest.mark.parametrize(("seconds", "printed"), [(1.0, [1, 21, 40]), (0.1, [1, 40]), (30.0, list(range(1, 41)))])
def test_without_a_terminal_lines_are_some_time_apart_except_for_the_first_and_the_last_epoch(seconds, printed):
    progress, clock, out = plain()
    assert SECONDS_BETWEEN_LINES == 20
    train(progress, clock, KD, seconds=seconds)
    assert epochs_in(out) == printed
    assert all(line.endswith(" left") for line in out.getvalue().splitlines())
    assert out.getvalue().endswith("| 0 s left\n")


def test_every_leg_prints_its_first_and_its_last_epoch():
    progress, clock, out = plain()
    for number in range(3):
        train(progress, clock, Leg(("student",), epochs=5), seconds=0.1, number=number)
    assert epochs_in(out) == [1, 5, 1, 5, 1, 5]


def test_leg_without_epochs_and_leg_of_one_epoch_print_one_line():
    progress, clock, out = plain()
    train(progress, clock, Leg(("student",), epochs=0), seconds=0.0, epochs=[0], n_steps=0)
    train(progress, clock, Leg(("student",), epochs=1), seconds=1.0)
    assert epochs_in(out) == [0, 1] and out.getvalue().count("| 0 s left") == 2


def test_resumed_leg_prints_its_first_epoch_and_estimates_from_there():
    progress, clock, out = plain()
    progress.resumed(0, 31, 2)
    progress.begin_leg(KD, n_steps=4)
    for _ in range(2):
        clock.now += 1.0
        progress.step()
    progress.epoch(31, KD, rows_of(KD, 31))
    assert "resuming from checkpoint: leg 0, epoch 31, step 2" in out.getvalue()
    assert epochs_in(out) == [31]
    assert out.getvalue().endswith("| 1 steps/s | 36 s left\n")  # 9 epochs of 4 steps


def test_resumed_leg_of_a_terminal_begins_where_it_was_and_the_next_leg_at_zero():
    progress, _, _ = terminal(80)
    progress.resumed(1, 31, 2)
    progress.begin_leg(KD, n_steps=4)
    first, second = shown(progress, 80)
    assert "122/160" in first and second == "epoch 31/40"
    progress.begin_leg(KD, n_steps=4)
    assert "  0/160" in shown(progress, 80)[0]
    progress.close()


def test_time_left_is_unknown_before_the_first_step_and_while_no_time_has_passed():
    progress, _, _ = plain()
    progress.begin_leg(KD, n_steps=4)
    assert progress.time_left() == "-- left"
    progress.step()
    assert progress.time_left() == "-- left" and progress.rate() == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (12.4, "12 s"), (59.4, "59 s"), (59.6, "1 min"), (180, "3 min"), (5960, "99 min"), (6000, "1.7 h")],
)
def test_duration_is_rounded(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_shows_label_leg_bar_steps_and_time_in_every_epoch_of_orc(width):
    progress, clock, _ = terminal(width)
    progress.begin_leg(ORC, n_steps=1000)
    for epoch in range(1, 40):
        for _ in range(1000):
            progress.step()
        clock.now += 60.0
        progress.epoch(epoch, ORC, rows_of(ORC, epoch))
        first, second = shown(progress, width)
        assert len(first) <= width and len(second) <= width
        assert re.fullmatch(
            r"distill-orc seed 0 student, ta1, ta2, pivot [━╸╺]{10,} +\d+/40000 \d+ (min|s) left", first
        )
        assert second.startswith(f"epoch {epoch}/40 | val student 93.2% ta1 94.5% ta2 94.0% pivot 97.8%")
        losses = {80: " | student ce …", 120: " | student ce 0.210 group/pivot 0.402 group/temporary …"}
        assert second.endswith(losses[width])
    progress.close()


def test_bar_is_longer_in_a_wider_terminal_and_the_second_line_is_not_cut_if_it_fits():
    progress, clock, _ = terminal(80)
    train(progress, clock, KD, seconds=2.0, epochs=[1])
    bars = [len(re.findall("[━╸╺]", shown(progress, width)[0])) for width in (80, 120, 200)]
    assert bars == sorted(set(bars)) and bars[1] - bars[0] == 40
    assert shown(progress, 200)[1] == (
        "epoch 1/40 | val student 93.2% | student ce 0.210 group/pivot 0.402 group/temporary 0.377 private 0.127 "
        "promoted 21%"
    )
    progress.close()


def test_long_leg_is_cut_so_that_the_bar_stays():
    progress, _, _ = terminal(80)
    leg = Leg(("student",), guides=tuple(f"assistant{k}" for k in range(9)), epochs=40)
    progress.begin_leg(leg, n_steps=100)
    first, _ = shown(progress, 80)
    assert first.startswith("distill-orc seed 0 student <- assistant0") and "…" in first
    assert len(re.findall("[━╸╺]", first)) >= 10 and first.endswith("-- left") and len(first) <= 80
    progress.close()


@pytest.mark.parametrize("width", [20, 40])
def test_narrow_terminal_still_has_two_lines(width):
    progress, clock, _ = terminal(width)
    train(progress, clock, ORC, seconds=2.0, epochs=[1])
    lines = shown(progress, width)
    assert len(lines) == 2 and all(len(line) <= width for line in lines)
    progress.close()


def test_label_with_brackets_is_shown_as_it_is():
    progress, _, _ = terminal(80, label="distill-[bold]x seed 0")
    progress.begin_leg(KD, n_steps=4)
    assert shown(progress, 80)[0].startswith("distill-[bold]x seed 0 student <- teacher")
    progress.close()


def test_end_of_a_leg_leaves_one_line_in_the_terminal():
    progress, clock, out = terminal(80)
    train(progress, clock, Leg(("student",), epochs=2), seconds=1.0)
    assert progress.live is None
    assert epochs_in(out) == [2]
    assert out.getvalue().endswith(
        "distill-orc seed 0: epoch 2/2 | student ce 0.210 group/pivot 0.402 group/temporary 0.377 private 0.127 "
        "val 93.2% promoted 21%\n"
    )


def test_terminal_without_cursor_control_gets_lines():
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert Progress("x", console=console).lines


def test_quiet_rank_prints_lines_of_the_leg_that_it_trains_alone():
    progress, clock, out = plain(quiet=True)
    train(progress, clock, KD, seconds=1.0)
    assert out.getvalue() == ""
    alone = progress.for_independent_leg()
    assert alone.lines and not alone.quiet and alone.label == progress.label and alone.clock is clock
    loud, _, _ = plain()
    assert loud.for_independent_leg() is loud


def test_tracker_gets_every_row_of_every_epoch_with_epochs_counted_over_the_legs():
    tracker = Tracked()
    progress, clock, out = plain(tracker=tracker)
    train(progress, clock, Leg(("student",), epochs=3), seconds=0.1, number=0)
    train(progress, clock, Leg(("ta1", "pivot"), epochs=2), seconds=0.1, number=1)
    assert [step for step, _ in tracker.calls] == [1, 2, 3, 4, 5]
    assert tracker.calls[0][1] == {f"student/{k}": v for k, v in TERMS["student"].items()} | {
        "student/validation/top1": TOP1["student"]
    }
    assert tracker.calls[4][1]["pivot/feedback/1"] == 2.9 and tracker.calls[4][1]["ta1/validation/top1"] == 94.5
    assert len(epochs_in(out)) == 4  # fewer lines than epochs


def test_tracker_of_a_resumed_run_counts_the_legs_before():
    tracker = Tracked()
    progress, clock, _ = plain(tracker=tracker)
    progress.resumed(2, 4, 0)
    train(progress, clock, Leg(("student",), epochs=5), seconds=0.1, epochs=[4, 5], number=2)
    assert [step for step, _ in tracker.calls] == [14, 15]


def test_tracker_of_a_quiet_rank_gets_only_the_legs_that_it_trains_alone():
    tracker = Tracked()
    progress, clock, _ = plain(quiet=True, tracker=tracker)
    train(progress, clock, Leg(("student",), epochs=2), seconds=0.1)
    assert tracker.calls == []
    alone = progress.for_independent_leg()
    alone.console = progress.console
    train(alone, clock, Leg(("student",), epochs=2), seconds=0.1, number=1)
    assert [step for step, _ in tracker.calls] == [3, 4]


def test_display_and_tracker_change_no_number(tmp_path):
    tracker = Tracked()
    results = []
    for progress in (None, terminal(80)[0], plain(tracker=tracker)[0]):
        run = ToyRuns(tmp_path).run(METHODS["orc"])
        if progress:
            run.progress = run.loop.progress = run.checkpointing.progress = progress
        results.append(run.train())
    for result in results[1:]:
        assert result.history == results[0].history
        assert all(same(net.last, results[0].networks[name].last) for name, net in result.networks.items())
    sent = {(step, key): v for step, values in tracker.calls for key, v in values.items()}
    assert sent == {(epoch, f"{network}/{term}"): v for _, epoch, network, term, v in results[0].history if epoch}


def test_no_tracker_is_none(tmp_path):
    assert open_tracker("none", tmp_path, "distill-kd seed 0") is None


def test_unknown_tracker_is_an_error_of_one_line(tmp_path):
    with pytest.raises(ParamsError, match=r"^runtime\.tracker: must be none or tensorboard, got wandb$"):
        open_tracker("wandb", tmp_path, "x")


def test_tensorboard_that_is_not_installed_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        ParamsError, match=r"^runtime\.tracker: tensorboard is not installed: run `uv add tensorboard`$"
    ):
        open_tracker("tensorboard", tmp_path, "x")
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_every_value(tmp_path):
    pytest.importorskip("tensorboard")
    from accelerate import Accelerator
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Accelerator(cpu=True)
    progress, clock, _ = plain(tracker=open_tracker("tensorboard", tmp_path, "distill-kd seed 0"))
    train(progress, clock, Leg(("student",), epochs=3), seconds=0.1)
    events = EventAccumulator(str(tmp_path / "distill-kd seed 0")).Reload()
    assert set(events.Tags()["scalars"]) == {f"student/{term}" for term in (*TERMS["student"], "validation/top1")}
    points = events.Scalars("student/validation/top1")
    assert [point.step for point in points] == [1, 2, 3] and points[0].value == pytest.approx(93.25)
