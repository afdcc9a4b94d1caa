"""The figures that compare all methods: accuracies, differences, costs, learning curves, calibration and confusion.

The module decides what is compared with what. It does not compute metrics, and it draws by figures.py and panels.py.
"""

from collections.abc import Iterator

from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import compare_to_controls, compare_to_reference
from pipeline.evaluation.outcomes import Outcome
from pipeline.evaluation.page import figures, panels
from pipeline.evaluation.page.method_figures import CaptionedFigure
from pipeline.evaluation.page.panels import Curve, Interval
from pipeline.evaluation.page.results import Results
from pipeline.evaluation.statistics import Comparison

MOST_CLASSES = 20  # of a confusion matrix that can be read


def overview(results: Results) -> Iterator[CaptionedFigure]:
    """Yield the figures that compare all methods."""
    yield from accuracy_figures(results)
    yield from difference_figures(results)
    yield from group_figures(results)
    yield from cost_figures(results)
    for key, unit, cost in (("macs", "", "MACs"), ("latency_ms", "s", "latency")):
        points = accuracy_by_cost(results, key)
        if len(points) > 1:
            title = "multiply-accumulate operations (MACs)" if key == "macs" else "latency for one image"
            figure = panels.named_points(points, f"test accuracy by {cost}", title, "test top-1 (%)", unit)
            yield (f"Test top-1 of each network by {title}.", figure)
    if results.students:
        yield from student_figures(results)


def accuracy_figures(results: Results) -> Iterator[CaptionedFigure]:
    """Yield the test top-1 of every method that trains a student, with the reference's interval as a band."""
    rows = {o.name: accuracy_of(o) for o in in_order(results.students)}
    if not rows:
        return
    reference = rows.get(results.reference)
    seeds = "over seeds" if max(len(row.values) for row in rows.values()) > 1 else "over test images"
    caption = f"Test top-1 of the last weights with its 95 % interval {seeds}; a stroke for each seed."
    band = f" Squares are controls. The band is {results.reference}'s interval." if reference else ""
    figure = panels.intervals(
        rows,
        "test accuracy of every method",
        "test top-1 (%)",
        band=(reference.low, reference.high) if reference else None,
    )
    yield (caption + band, figure)


def difference_figures(results: Results) -> Iterator[CaptionedFigure]:
    """Yield the differences to the reference and to the controls that methods name, with their intervals."""
    margin = results.margin
    controls = {o.name for o in results.outcomes if o.control}
    compared = compare_to_reference(results.outcomes, results.reference, margin)
    ordered = [o.name for o in in_order(results.students) if o.name in compared]
    rows = {name: difference_of(compared[name], name in controls) for name in ordered}
    shaded = f"Within the band of ± {margin:g} points, methods count as equivalent."
    if rows:
        yield (
            f"Difference to {results.reference} with its 95 % interval. {shaded}",
            panels.intervals(
                rows,
                f"difference to {results.reference}",
                f"test top-1 minus {results.reference}'s (points)",
                (-margin, margin),
                0,
            ),
        )
    pairs = compare_to_controls(results.outcomes, results.reference, margin)
    rows = {f"{name} - {control}": difference_of(c) for (name, control), c in pairs.items()}
    if rows:
        yield (
            f"Difference to the control that a method names, which has the same simpler causes. {shaded}",
            panels.intervals(rows, "difference to controls", "difference of test top-1 (points)", (-margin, margin), 0),
        )


def group_figures(results: Results) -> Iterator[CaptionedFigure]:
    """Yield the accuracy of groups, between their members' before cooperation and with all data."""
    groups = [o for o in results.ended if not o.student]
    if not groups:
        return
    first = groups[0]
    rows = {o.name: accuracy_of(o) for o in groups}
    for part, name in (("before", "before cooperation"), ("all_data", "trained on all data")):
        values = list(first.top1(part=part).values())
        mean = sum(values) / len(values)
        rows = {**rows, name: Interval(mean, mean, mean, values, hollow=True)}
    yield (
        "Groups: test top-1, mean of the members, with its 95 % interval.",
        panels.intervals(rows, "test accuracy of groups", "test top-1, mean of members (%)"),
    )


def cost_figures(results: Results) -> Iterator[CaptionedFigure]:
    """Yield the accuracy of every method that trains a student by what it takes to get one from nothing."""
    points = {o.name: (o.forward_equivalents["from_nothing"], o.accuracy.mean) for o in in_order(results.students)}
    if points:
        label = "training from nothing (forward passes of the student)"
        yield (
            "Test top-1 of each method by what it takes to get a student from nothing: multiply-adds of all training, "
            "also of teachers and assistants, in forward passes of the student on one image. Means over seeds.",
            panels.named_points(points, "test accuracy by cost of training", label, "test top-1 (%)", ""),
        )


def student_figures(results: Results) -> Iterator[CaptionedFigure]:
    """Yield learning curves, calibration and confusion of students."""
    reference = next((o for o in results.students if o.name == results.reference), None)
    others = [o for o in results.students if o is not reference] or results.students
    curves = {o.name: learning_curve(results, o) for o in others}
    gray = f" Gray: {reference.name}." if reference and reference not in others else ""
    yield (
        f"Validation top-1 of the student over epochs ({results.shown_seeds}).{gray}",
        panels.small_multiples(
            curves,
            "learning curves",
            "epoch",
            "validation top-1 (%)",
            against=learning_curve(results, reference) if gray and reference else None,
        ),
    )
    if not results.has_predictions:
        return
    methods = [o for o in results.students if not o.control] or results.students
    yield (
        "Reliability on the test split: accuracy by confidence. Below the diagonal, a network is overconfident. "
        "Bars show how many images a bin has, relative to the fullest.",
        panels.small_multiples(
            {o.name: reliability(results, o) for o in methods},
            "reliability diagrams",
            "confidence",
            "accuracy",
            diagonal=True,
        ),
    )
    o = results.representative
    if o is not None and len(results.classes) <= MOST_CLASSES:
        counts = metrics.confusion(*results.logits(o))
        figure = figures.heatmap(counts, results.classes, f"confusion matrix of {o.name}", "prediction", "label")
        yield (f"Confusion matrix of {o.name} (test).", figure)


def in_order(students: list[Outcome]) -> list[Outcome]:
    """Return the methods, then the controls, each from the most accurate down."""
    return sorted(students, key=lambda o: (o.control, -o.accuracy.mean))


def accuracy_of(o: Outcome) -> Interval:
    """Return the test top-1 of a method in percent, with its seeds' values if it has several."""
    accuracy, values = o.accuracy, list(o.top1().values())
    return Interval(accuracy.mean, accuracy.low, accuracy.high, values if len(values) > 1 else (), o.control)


def difference_of(c: Comparison, control: bool = False) -> Interval:
    """Return a difference in percentage points."""
    return Interval(c.difference, c.low, c.high, hollow=control)


def learning_curve(results: Results, o: Outcome) -> Curve:
    """Return the validation top-1 of a student, in percent, by epoch."""
    return Curve(*results.histories[o.name].of(str(o.student), "validation/top1"))


def reliability(results: Results, o: Outcome) -> Curve:
    """Return the reliability curve of a student, with the number of images in each bin."""
    z, y = results.logits(o)
    confidence, accuracy = metrics.reliability_curve(z, y)
    counts = metrics.bin_counts(z, y)
    return Curve(confidence, accuracy, counts.tolist(), [(k + 0.5) / len(counts) for k in range(len(counts))])


def accuracy_by_cost(results: Results, key: str) -> dict[str, tuple[float, float]]:
    """Return the cost and the test top-1 (percent) of the representative's student and of every guide.

    A name with several accuracies, as that of an assistant of two chains, has a point for each, with the first method
    that has it.

    Args:
        results: The results to read.
        key: The cost, "macs" (operations per image) or "latency_ms" (returned in seconds, for one image).
    """
    costs: dict[str, float] = {}
    top1: dict[str, dict[float, str]] = {}  # by network: its accuracies, each with the first method that has it
    for o in [results.representative, *results.ended]:
        if o is None:
            continue
        result = o.seeds[results.seeds[o.name]]
        student = {o.student: result["networks"][o.student]} if o is results.representative else {}
        for name, tested in {**student, **result.get("guides", {})}.items():
            cost = o.cost["networks"].get(name, {}).get(key)
            if cost:
                costs.setdefault(name, cost["1"] / 1e3 if isinstance(cost, dict) else cost)
            top1.setdefault(name, {}).setdefault(tested["last"]["top1"], o.name)
    own = results.representative.student if results.representative else None
    return {
        f"{name} ({method})" if len(found) > 1 or name == own else name: (costs[name], accuracy)
        for name, found in top1.items()
        if name in costs
        for accuracy, method in found.items()
    }
