"""The page is self-contained, draws every figure and escapes every name."""

import html
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline.errors import DataError
from pipeline.evaluation.notes import notes
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.page import method_figures
from pipeline.evaluation.page.history import History
from pipeline.evaluation.page.method_figures import METHOD_FIGURES
from pipeline.evaluation.page.overview import accuracy_by_cost, accuracy_of, overview
from pipeline.evaluation.page.page import render, write_confusion, write_curves
from pipeline.evaluation.page.panels import Interval, spread
from pipeline.evaluation.page.results import Results
from pipeline.params.load import load, validated
from results import IMAGES, LABELS, N, entries, write_results

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def compared(tmp_path):
    return outcomes(entries(write_results(tmp_path / "results", [0, 1])), [0, 1], tmp_path / "results")


def evil_page(results: Results) -> str:
    said = [*notes(results.outcomes, "kd", LABELS, True), "<i>note</i>"]
    return render(results, {"data": {"root": "<i>evil</i>"}}, notes=said, images=IMAGES)


@pytest.fixture
def page(tmp_path, compared) -> Path:
    file = tmp_path / "report.html"
    file.write_text(evil_page(Results(tmp_path / "results", compared, "kd")))
    return file


class Tags(HTMLParser):
    """Collects the tags and the addresses of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]


def test_the_page_has_no_script_and_loads_nothing(page):
    tags = Tags(page.read_text())
    assert not {"script", "link", "iframe", "i", "b"} & set(tags.tags)
    assert all(address.startswith(("#", "data:")) for address in tags.addresses)
    assert tags.tags.count("svg") >= 12 and tags.tags.count("table") == 4


def test_names_are_escaped(page):
    text = page.read_text()
    assert "<script>" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.startswith("<!doctype html>")
    assert "&lt;i&gt;evil" in text and "&lt;i&gt;note" in text and "&lt;b&gt;bold" in text
    assert "a &amp; b" in text and "$x_2$" in text


def test_no_two_figures_share_an_identifier(page):
    found = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(found) == len(set(found)) > 50


def test_the_same_results_give_the_same_page(tmp_path, compared, page):
    assert evil_page(Results(tmp_path / "results", compared, "kd")) == page.read_text()


def test_every_method_has_its_figures(page):
    text = page.read_text()
    for caption in (
        "Temporary teacher: share of each epoch",
        "It gets private teaching in these batches",
        "Test top-1 of the last weights with its 95 % interval over seeds",
        "Difference to kd with its 95 % interval",
        "Groups: test top-1, mean of the members",
        "Reliability on the test split",
        "Pivot (validation)",
        "Guide survival: share of batches in which each guide is kept",
        "images that member i classifies correctly and member j does not",
        "share within the tolerance of the target",
        "Counterfactuals for a member: mean probability of the label by their teachers, from the original",
        "Counterfactuals that teach a",
    ):
        assert caption in text


@pytest.mark.parametrize(("of", "whose"), [("teacher", "their teachers"), ("student", "the member")])
def test_the_probability_of_the_label_goes_from_the_original_to_the_counterfactual(
    tmp_path, compared, monkeypatch, of, whose
):
    drawn = []
    monkeypatch.setattr(method_figures.panels, "intervals", lambda rows, *_: drawn.append(rows) or "")
    group = next(o for o in compared if o.name == "cooperative")
    group = replace(group, cost=group.cost | {"parameters": {"cooperative": {"counterfactual_of": of}}})
    history = History(tmp_path / "results/train/cooperative/history.csv", 0)
    captions = [caption for caption, _ in METHOD_FIGURES["cooperative"](group, history, tmp_path / "results")]
    assert drawn == [{"a": Interval(0.65, 0.3, 0.65)}]  # no image of member b was moved
    assert any(f"probability of the label by {whose}, from" in caption for caption in captions)


def test_a_figure_whose_every_bar_is_one_is_not_drawn(tmp_path, compared, page):
    history = tmp_path / "results/train/sdgkd/history.csv"
    dgkd = next(o for o in compared if o.name == "sdgkd")
    assert "Guide survival" in page.read_text()
    history.write_text(re.sub(r"(survived/\w+),0.7", r"\1,1.0", history.read_text()))
    (caption, _), *others = METHOD_FIGURES["dgkd"](dgkd, History(history, 0), tmp_path / "results")
    assert caption == "Distillation loss towards each guide." and not others


def test_an_assistant_of_two_chains_has_a_point_for_each(tmp_path, compared):
    for k, o in enumerate(o for o in compared if o.name in ("sdgkd", "orc")):
        seed = o.seeds[0]
        seed["guides"]["ta1"] = json.loads(json.dumps(seed["guides"]["teacher"]))
        seed["guides"]["ta1"]["last"]["top1"] = 50.0 + k
        o.cost["networks"]["ta1"] = {"macs": 100}
    points = accuracy_by_cost(Results(tmp_path / "results", compared, "kd"), "macs")
    assert points["ta1 (sdgkd)"] == (100, 50.0) and points["ta1 (orc)"] == (100, 51.0) and "ta1" not in points
    assert "student (kd)" in points and not [name for name in points if name.startswith("teacher (")]


def test_the_pivot_starts_at_the_accuracy_of_the_teacher(tmp_path, compared, monkeypatch):
    orc = next(o for o in compared if o.name == "orc")
    history = History(tmp_path / "results/train/orc/history.csv", 0)
    epochs, top1 = history.of("pivot", "validation/top1")
    drawn = []
    monkeypatch.setattr(method_figures.figures, "lines", lambda series, *_: drawn.append(series["top-1"]) or "")
    captions = [caption for caption, _ in METHOD_FIGURES["orc"](orc, history, tmp_path)]
    assert drawn == [([0, *epochs], [90.0, *top1])] and epochs[0] == 1
    assert "Pivot (validation); at epoch 0 it is the teacher." in " ".join(captions)
    orc.seeds[0]["guides"]["teacher"]["validation"] = None  # as that of a network whose validation was not measured
    captions = [caption for caption, _ in METHOD_FIGURES["orc"](orc, history, tmp_path)]
    assert drawn[1:] == [(epochs, top1)] and "epoch 0" not in " ".join(captions)


def test_a_hundred_classes_get_no_confusion_matrix_and_the_most_frequent_feedback(tmp_path, compared):
    results = Results(tmp_path / "results", compared, "kd")
    captions = [caption for caption, _ in overview(results)]
    assert "Confusion matrix of kd (test)." in captions
    results.classes = [str(k) for k in range(100)]
    results.logits = lambda o: (np.random.default_rng(0).normal(size=(N, 100)), LABELS)
    assert "Confusion matrix of kd (test)." not in [caption for caption, _ in overview(results)]
    rows = [f"0,0,1,pivot,feedback/{k},{k}.0" for k in range(100)]
    file = tmp_path / "history.csv"
    file.write_text("\n".join(["seed,leg,epoch,network,term,value", *rows, ""]))
    names = [f"class {k}" for k in range(98)] + ["a class of a long name", "a class of a longer name"]
    orc = replace(next(o for o in compared if o.name == "orc"), classes=names)
    ((caption, markup),) = METHOD_FIGURES["orc"](orc, History(file, 0), tmp_path)
    assert "the 12 most frequent" in caption and ">class 88<" in markup and ">class 87<" not in markup
    assert ">a class of ...<" in markup and ">99<" in markup  # the second of two names that are shortened alike


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.1, 0.9], [0.9, 0.31, 0.3, 0.32], [0.2]])
def test_names_beside_points_keep_their_order_and_never_overlap(heights):
    placed = spread(heights, 0.06)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= 0.06 - 1e-12).all()
    assert np.isclose(np.mean(placed), np.mean(heights))


def test_the_intervals_of_the_page_are_those_of_the_table(compared):
    for o in compared:
        row = accuracy_of(o)
        assert (row.mean, row.low, row.high) == (o.accuracy.mean, o.accuracy.low, o.accuracy.high)
        assert list(row.values) == list(o.top1().values()) and row.low < row.mean < row.high


def test_the_data_of_dvcs_plots_is_written(tmp_path, compared):
    results = Results(tmp_path / "results", compared, "kd")
    write_curves(results, tmp_path / "curves.csv")
    curves = pl.read_csv(tmp_path / "curves.csv")
    assert curves.columns == ["method", "epoch", "top1"]
    assert curves["method"].unique(maintain_order=True).to_list() == [o.name for o in results.students]
    kd = curves.filter(method="kd")
    assert kd["epoch"].to_list() == [1, 2, 3, 4] and kd["top1"].to_list() == [60.0, 70.0, 80.0, 90.0]
    write_confusion(results, tmp_path / "confusion.csv")
    counts = pl.read_csv(tmp_path / "confusion.csv")
    z, y = results.logits(next(o for o in results.students if o.name == "kd"))
    pairs = Counter((results.classes[a], results.classes[b]) for a, b in zip(y, z.argmax(1), strict=True))
    assert {(label, prediction): images for label, prediction, images in counts.iter_rows()} == pairs


ALL = ("scratch", "kd", "sdgkd", "orc", "cooperative")
EVERYTHING = {name: [0, 1] for name in ALL}


@pytest.mark.parametrize(
    "diverged",
    [
        {"scratch": [0, 1]},
        {"kd": [0, 1]},
        {"kd": [0], "cooperative": [1]},
        EVERYTHING,
        {"scratch": [0]},
    ],
    ids=["first", "reference", "some seeds", "all", "one seed of the first"],
)
def test_the_report_leaves_out_the_figures_of_methods_that_diverged(tmp_path, diverged):
    root = tmp_path / "results"
    results = Results(root, outcomes(entries(write_results(root, [0, 1], diverged)), [0, 1], root), "kd")
    said = notes(results.outcomes, "kd", LABELS, True)
    text = render(results, {}, notes=said, images=IMAGES)
    gone = {name for name, seeds in diverged.items() if len(seeds) == 2}
    write_curves(results, tmp_path / "curves.csv")
    assert {*pl.read_csv(tmp_path / "curves.csv")["method"]} == {*ALL} - gone - {"cooperative"}
    write_confusion(results, tmp_path / "confusion.csv")
    counts = pl.read_csv(tmp_path / "confusion.csv", schema_overrides={"images": pl.Int64})
    assert counts["images"].sum() == (0 if gone == {*ALL} else 60)
    assert all(html.escape(note) in text for note in said) and "diverged" in text
    assert ("<svg" in text) == ("Figures show" in text) == ('id="errors"' in text) == (gone != {*ALL})
    if diverged == {"kd": [0], "cooperative": [1]}:
        assert "Figures show seed 0 (kd: seed 1)." in text and "Errors of kd" in text
    if gone == {"kd"}:
        assert "Errors of scratch" in text and "Verdicts come from" not in text


def test_wrongly_classified_images_are_shown_with_their_names(tmp_path, compared, page):
    text = page.read_text()
    results = Results(tmp_path / "results", compared, "kd")
    z, y = results.logits(results.representative)
    shown = min(24, int((z.argmax(1) != y).sum()))
    assert 0 < shown == text.count('<img src="data:image/png;base64,')
    assert "Wrongly classified test images (seed 0)" in text and "Most frequent confusions" in text
    streamed = render(results, {}, notes=[], images=None)
    assert "<img" not in streamed and "Accuracy by class" in streamed
    with pytest.raises(DataError, match="has 59 test images, but results/predictions is of 60: run `dvc repro`"):
        render(results, {}, notes=[], images=IMAGES[:-1])


def test_the_parameters_on_the_page_are_those_of_params_yaml(tmp_path, compared, monkeypatch):
    monkeypatch.chdir(ROOT)
    document = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text())
    sections = ("methods", "seeds", "data", "train", "teacher", "student", "assistants", "report")
    kept = [replace(o, cost=o.cost | {"parameters": load(o.name).plain()}) for o in compared]
    text = render(Results(tmp_path / "results", kept, "kd"), load(*sections).plain(), notes=[], images=None)
    block = html.unescape(re.search(r"<summary>Parameters</summary><pre>(.*?)</pre>", text, re.S)[1])
    shown = json.loads(block)
    assert shown["methods"]["kd"]["is"] == "kd" and "is_" not in block
    assert set(shown) == {*sections, *ALL}
    for entry in document["methods"].values():  # the optional keys
        entry.setdefault("control", False)
        entry.setdefault("against", "none")
        entry.setdefault("weights_of", "none")
    for member in document["cooperative"]["members"].values():
        member |= {"options": {}, "copies": 0}
    assert shown == {name: document[name] for name in shown}
    assert validated({**document, **shown})


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_draws_every_figure(page, tmp_path, width, scheme):
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("dialog", lambda dialog: errors.append(dialog.message))
        tab.on("request", lambda request: errors.append(request.url) if "file:" not in request.url else None)
        tab.goto(page.as_uri())
        drawn = tab.evaluate(
            """[...document.querySelectorAll("figure svg")].map(svg => {
                const box = svg.getBoundingClientRect()
                return [box.width, box.height, svg.querySelectorAll("path, use, image").length]
            })"""
        )
        overflow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()
    assert errors == []
    assert len(drawn) >= 12 and all(w > 100 and h > 50 and parts > 5 for w, h, parts in drawn)
    assert overflow <= 0
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 22, 22)")
    assert (tmp_path / "page.png").stat().st_size > 10_000
