"""Comparison of all methods: the numbers behind the table, the page and results/summary.json.

The module does not format, draw or load a network, and it imports no torch.
"""

from typing import Any

import numpy as np

from pipeline.evaluation.outcomes import Outcome
from pipeline.evaluation.statistics import Comparison, compare, verdicts

MARGIN = 1.0  # percentage points; the default of report.margin
TRAINING_METRICS = {  # of the summary -> of pipeline.evaluation.records.TrainingErrors
    "teacher_errors": "teacher_errors",
    "passed_on": "passed_on",
    "passed_on_by_scratch": "by_scratch",
    "memorised": "memorised",
}
AVERAGED_METRICS = ("top5", "error1", "error5", "nll", "ece")


def compare_to_reference(all_outcomes: list[Outcome], reference: str, margin: float = MARGIN) -> dict[str, Comparison]:
    """Compare every method that trains a student with the reference, on the seeds that ended in both.

    Verdicts are corrected for the number of comparisons (Holm); methods and controls are two families.

    Args:
        all_outcomes: The outcomes of all methods.
        reference: The method to compare with, `report.reference` of params.yaml.
        margin: Differences below it, in percentage points, are equivalent: `report.margin`.

    Returns:
        The comparison of each method that has a seed in common with the reference; empty if there is no reference.
    """
    students = {o.name: o for o in all_outcomes if o.student}
    if reference not in students:
        return {}
    correct = students[reference].correct()
    found = {name: compare(o.correct(), correct, margin) for name, o in students.items() if name != reference}
    families = ({n: c for n, c in found.items() if c and students[n].control == control} for control in (False, True))
    judged = {name: c for family in families for name, c in verdicts(family).items()}
    return {name: judged[name] for name in found if name in judged}


def compare_to_controls(
    all_outcomes: list[Outcome], reference: str, margin: float = MARGIN
) -> dict[tuple[str, str], Comparison]:
    """Compare every method with the controls that it names, on the seeds that ended in both.

    Verdicts are corrected for the number of these comparisons (Holm). A student that names the reference has its
    verdict from `compare_to_reference`: a second one, of another family, could contradict it.

    Args:
        all_outcomes: The outcomes of all methods.
        reference: See `compare_to_reference`.
        margin: See `compare_to_reference`.

    Returns:
        (method, control) -> the comparison, for each control that is among the methods, has a seed in common with
        the method, produces as many networks and is not the reference.
    """
    known = {o.name: o for o in all_outcomes if not (o.name == reference and o.student)}
    pairs = [(o, known[control]) for o in all_outcomes for control in o.against if control in known]
    alike = [(o, control) for o, control in pairs if len(o.final_networks) == len(control.final_networks)]
    found = {(o.name, control.name): compare(o.correct(), control.correct(), margin) for o, control in alike}
    return verdicts({pair: c for pair, c in found.items() if c})


def no_comparison(all_outcomes: list[Outcome], reference: str) -> str | None:
    """Return why no method is compared with the reference, or None if methods are.

    Args:
        all_outcomes: The outcomes of all methods.
        reference: The method to compare with, `report.reference` of params.yaml.
    """
    students = {o.name: o for o in all_outcomes if o.student}
    start = f"no comparison: {reference} (report.reference)"
    if reference not in students:
        return f"{start} is not among the methods that train a student"
    return None if students[reference].seeds else f"{start} diverged in all seeds"


def summary(all_outcomes: list[Outcome], reference: str, margin: float = MARGIN) -> dict[str, Any]:
    """Return the content of results/summary.json: for every method its means over seeds and each seed's accuracy.

    Timings are left out, so that a rerun writes the same file.

    Args:
        all_outcomes: The outcomes of all methods.
        reference: The method to compare with, which names the key vs_REFERENCE.
        margin: See `compare_to_reference`.
    """
    comparisons = compare_to_reference(all_outcomes, reference, margin)
    controlled = compare_to_controls(all_outcomes, reference, margin)
    described: dict[str, Any] = {}
    for o in all_outcomes:
        values: dict[str, Any] = summary_of(o) if o.seeds else {"n": 0}
        if o.diverged:
            values["diverged"] = len(o.diverged)
        if o.name in comparisons:
            values[f"vs_{reference}"] = rounded(comparisons[o.name].to_dict())
        for control in o.against:
            if (o.name, control) in controlled:
                values[f"vs_{control}"] = rounded(controlled[o.name, control].to_dict())
        described[o.name] = values
    return described


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with floats rounded to six decimals, without those that are None."""
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items() if v is not None}


def summary_of(o: Outcome) -> dict[str, Any]:
    """Return the summary of a method over its seeds that ended, at least one, rounded to six decimals."""
    accuracy = o.accuracy
    validation = {"validation": o.validation("last"), "validation_best": o.validation("best")}
    values: dict[str, Any] = {name: np.mean(list(of_seeds.values())) for name, of_seeds in validation.items()}
    values["top1"] = accuracy.mean
    if accuracy.sd is not None:
        values["top1_sd"] = accuracy.sd
    values["top1_low"], values["top1_high"], values["n"] = accuracy.low, accuracy.high, accuracy.n
    values["top1_best"] = np.mean(list(o.top1("best").values()))
    for metric in AVERAGED_METRICS:
        values[metric] = np.mean([o.mean(result["networks"], "last", metric) for result in o.seeds.values()])
    for metric in ("agreement", "false_knowledge"):
        measured = [result[metric] for result in o.seeds.values() if metric in result]
        if measured:
            values[metric] = np.mean(measured)
    for metric, key in TRAINING_METRICS.items():
        if measured := list(o.training(key).values()):
            values[metric] = np.mean(measured)
    for part in ("before", "all_data"):
        if part in next(iter(o.seeds.values())):
            values[part] = np.mean(list(o.top1(part=part).values()))
    values = {k: round(float(v), 6) if k != "n" else v for k, v in values.items()}
    values["forward_equivalents"] = rounded(o.forward_equivalents)
    values["seeds"] = {
        str(seed): {
            **{name: round(of_seeds[seed], 6) for name, of_seeds in validation.items()},
            "top1": round(last, 6),
            "top1_best": round(o.top1("best")[seed], 6),
            **{m: round(o.training(key)[seed], 6) for m, key in TRAINING_METRICS.items() if seed in o.training(key)},
        }
        for seed, last in o.top1().items()
    }
    return values
