"""Synthetic results of five methods in a folder, as the stages before `report` write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.evaluation import metrics
from pipeline.evaluation.false_knowledge import describe
from pipeline.evaluation.predictions import write_predictions
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.evaluation.testing import no_predictions, no_training_answers, pack, predictions, training_answers
from pipeline.params.schema import Entry
from pipeline.storage.documents import write_json
from pipeline.storage.folders import file_digest

EVIL = ["<script>alert(1)</script>", "a & b", "$x_2$", '"quoted"']
N, C, EPOCHS = 60, len(EVIL), 4
STUDENTS = {"scratch": "scratch", "kd": "kd", "sdgkd": "dgkd", "orc": "orc"}
LABELS = np.arange(N) % C
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 1)).astype(np.uint8)
WHERE = {"network": "student", "term": "ce", "leg": 0, "epoch": 3, "step": 17}


def entries(names: Sequence[str], controls: Sequence[str] = ()) -> dict[str, Entry]:
    """`methods` of params.yaml, as far as the report reads it."""
    return {n: Entry.model_validate({"is": n, "after": "models/teacher", "control": n in controls}) for n in names}


def logits(seed: int, good: float) -> np.ndarray:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(N, C))
    z[np.arange(N), LABELS] += good
    return z.astype(np.float32)


def network(z: np.ndarray) -> dict:
    summary = metrics.summary(z, LABELS)
    return {
        "arch": "a",
        "parameters": 868,
        "last": summary,
        "best": summary,
        "validation": {"last": 90.0, "best": 90.0, "best_epoch": 4},  # as in `terms`
    }


def write_method(results: Path, name: str, kind: str, seeds: list[int], diverged: Sequence[int] = ()) -> None:
    seeds = [seed for seed in seeds if seed not in diverged]
    student = None if kind == "cooperative" else "student"
    members = [] if student else ["a", "b"]
    evaluated, tables = {}, []
    for seed in seeds:
        zs = {n: logits(100 * seed + 7 * k + len(name), 2.0) for k, n in enumerate([student] if student else members)}
        result = {"networks": {n: network(z) for n, z in zs.items()}}
        right = np.concatenate([z.argmax(1) == LABELS for z in zs.values()])
        result["right"] = pack(right)
        if student:
            result |= {"guides": {"teacher": network(logits(1, 4.0))}, "agreement": 0.9, "false_knowledge": 0.01}
        else:
            result |= {part: {n: network(logits(5, 1.0)) for n in members} for part in ("before", "all_data")}
        evaluated[str(seed)] = result
        tables += [predictions(seed, n, z, LABELS) for n, z in zs.items()]
    for folder in ("eval", "cost", "predictions", f"train/{name}"):
        (results / folder).mkdir(parents=True, exist_ok=True)
    about = {"method": name, "is": kind, "student": student, "members": members, "seeds": evaluated}
    about |= {"classes": EVIL, "n_images": N}
    if diverged:
        about["diverged"] = {str(seed): WHERE | {"network": student or "a"} for seed in diverged}
    write_json(results / "eval" / f"{name}.json", about)
    own = {"parameters": 868, "macs": 13944, "latency_ms": {"1": 0.07, "64": 0.3}}
    cost = {
        "seeds": {
            str(seed): {
                "seconds": 2.0,
                "steps": 480,
                "images_per_second": 1000.0,
                "forward_equivalents_per_step": 3.0,
                "forward_equivalents": {"given_teacher": 46080.0, "from_nothing": 1234567.5},
            }
            for seed in seeds
        },
        "networks": {"student": own, "teacher": own | {"macs": 99000}} if seeds else {},
        "environment": {"world_size": 1, "threads": 1, "device": "x", "precision": "fp32", "versions": {"torch": "2"}},
        "parameters": {name: {"survival": 0.75, "note": "<b>bold</b>"}},
    }
    write_predictions(results / "predictions" / f"{name}.parquet", tables or [no_predictions(C)])
    rows = [
        (seed, 0, e, n, t, v) for seed in seeds for e in range(1, EPOCHS + 1) for n, t, v in terms(kind, student, e)
    ]
    columns = ["seed", "leg", "epoch", "network", "term", "value"]
    pl.DataFrame(rows, columns, orient="row").write_csv(results / "train" / name / "history.csv")
    if kind == "cooperative" and seeds:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 1)).astype(np.uint8)
        np.savez_compressed(results / "train" / name / "sheets.npz", a=pixels)
    cost["sha256"] = {file.name: file_digest(file) for file in (results / "train" / name).iterdir()}
    write_json(results / "cost" / f"{name}.json", cost)


def terms(kind: str, student: str | None, epoch: int) -> list[tuple[str, str, float]]:
    if kind == "cooperative":
        own = [("b", "qualified/a", 12.0), ("a", "qualified/b", 7.0), ("a", "success", 0.8), ("a", "distance", 1.5)]
        own += [("a", "p_y/before", 0.3), ("a", "p_y/after", 0.65), ("b", "p_y/before", 0.4), ("b", "p_y/after", 0.4)]
        return [(n, t, v) for n, t, v in own if epoch == 1]
    found = [(str(student), "validation/top1", 50.0 + 10 * epoch), (str(student), "ce", 1 / epoch)]
    if kind == "dgkd":
        found += [(str(student), f"survived/{g}", 0.7) for g in ("teacher", "ta1")]
        found += [(str(student), f"kd/{g}", 2.0 / epoch) for g in ("teacher", "ta1")]
    if kind == "orc":
        found += [(str(student), "promoted", 0.4), ("ta1", "promoted", 0.6), ("pivot", "intensive", 1.0)]
        found += [("pivot", "validation/top1", 95.0), ("pivot", "validation/confidence", 0.9)]
        found += [("pivot", f"feedback/{c}", float(c)) for c in range(C)]
    return found


def write_results(results: Path, seeds: list[int], diverged: Mapping[str, Sequence[int]] | None = None) -> list[str]:
    """Write the results of five methods. Returns the names of the methods.

    diverged: the seeds in which a method diverged.
    """
    kinds = {**STUDENTS, "cooperative": "cooperative"}
    for name, kind in kinds.items():
        write_method(results, name, kind, seeds, (diverged or {}).get(name, ()))
    return list(kinds)


def write_recipe(results: Path, name: str, recipe: Mapping, guides: Mapping[str, str]) -> None:
    """Give the results of a method the parameters and the guides (name -> architecture) of a params.yaml."""
    cost, evaluated = read_cost(results / "cost" / f"{name}.json"), read_evaluation(results / "eval" / f"{name}.json")
    write_json(results / "cost" / f"{name}.json", cost | {"parameters": dict(recipe)})
    for result in evaluated["seeds"].values():
        if "guides" in result:
            result["guides"] = {name: result["guides"]["teacher"] | {"arch": arch} for name, arch in guides.items()}
    write_json(results / "eval" / f"{name}.json", evaluated)


def drawn(seed: int, n: int = 500, classes: int = 7) -> tuple[np.ndarray, ...]:
    """Student, teachers, labels and true labels that often agree with each other."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, classes, n)
    student, teachers, labels = (np.where(draw.random(n) < 0.6, true, draw.integers(0, classes, n)) for _ in range(3))
    return np.where(draw.random(n) < 0.3, teachers, student), teachers, labels, true


def write_training(results: Path, errs: bool = True, noise: bool = True) -> dict[tuple[str, int], tuple]:
    """Add what `evaluate` says of training images to the results of five methods. Returns the cases."""
    cases = {}
    for k, (name, kind) in enumerate({"scratch": 0, "kd": 1, "sdgkd": 1, "orc": 1}.items()):
        file = results / "eval" / f"{name}.json"
        content, parts = read_evaluation(file), []
        for seed in content["seeds"]:
            student, teachers, labels, true = drawn(10 * k + int(seed), 40, 4)
            _, _, labels, true = drawn(int(seed), 40, 4)  # the same images for all methods
            labels = labels if noise else true
            teachers = (teachers if errs else true) if kind else None
            cases[name, int(seed)] = student, teachers, labels, true
            content["seeds"][seed]["training"] = describe(student, teachers, labels, true)
            parts.append(training_answers(int(seed), np.arange(40), true, student, teachers))
        write_json(file, content)
        write_predictions(results / "predictions" / f"{name}.training.parquet", parts or [no_training_answers()])
    return cases
