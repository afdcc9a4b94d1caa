"""The page is self-contained, draws every figure and escapes every name."""

import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from pipeline.errors import DataError
from pipeline.evaluation.comparison import outcomes, summary
from pipeline.evaluation.page.page import Results, render, write_confusion, write_curves
from pipeline.evaluation.table import WIDTH, tables
from pipeline.params.schema import Entry
from results import write_results

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def entries(names: list[str], controls: tuple[str, ...] = ()) -> dict[str, Entry]:
    """`methods` of params.yaml, as far as the report reads it."""
    return {n: Entry.model_validate({"is": n, "after": "models/teacher", "control": n in controls}) for n in names}


@pytest.fixture
def compared(tmp_path):
    return outcomes(entries(write_results(tmp_path / "results", [0, 1])), [0, 1], tmp_path / "results")


@pytest.fixture
def page(tmp_path, compared) -> Path:
    file = tmp_path / "report.html"
    file.write_text(render(Results(tmp_path / "results", compared), {"data": {"root": "<i>evil</i>"}}))
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
    assert tags.tags.count("svg") >= 12 and tags.tags.count("table") == 2


def test_names_are_escaped(page):
    text = page.read_text()
    assert "<script>" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;i&gt;evil" in text and "&lt;b&gt;bold" in text
    assert "a &amp; b" in text and "$x_2$" in text


def test_no_two_figures_share_an_identifier(page):
    found = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(found) == len(set(found)) > 50


def test_the_same_results_give_the_same_page(tmp_path, compared, page):
    again = render(Results(tmp_path / "results", compared), {"data": {"root": "<i>evil</i>"}})
    assert again == page.read_text()


def test_every_method_has_its_figures(page):
    text = page.read_text()
    for caption in (
        "Temporary teacher: share of each epoch",
        "Teachings: share of all batches",
        "Pivot (validation)",
        "Guide survival: share of batches in which each guide is kept",
        "images that member i classifies correctly and member j does not",
        "share that reaches the target class",
        "Counterfactuals that teach a",
    ):
        assert caption in text


def test_the_data_of_dvcs_plots_is_written(tmp_path, compared):
    results = Results(tmp_path / "results", compared)
    write_curves(results, tmp_path / "curves")
    curve = pl.read_csv(tmp_path / "curves/kd.csv")
    assert curve.columns == ["epoch", "top1"] and curve["top1"].to_list() == [60.0, 70.0, 80.0, 90.0]
    write_confusion(results, tmp_path / "confusion.csv")
    assert pl.read_csv(tmp_path / "confusion.csv").height == 60


def test_summary_and_tables_contain_means_and_standard_deviations(compared):
    summarized = summary(compared)
    assert summarized["kd"]["n"] == 2 and set(summarized["kd"]["seeds"]) == {"0", "1"}
    accuracies = [summarized["kd"]["seeds"][s]["top1"] for s in ("0", "1")]
    assert summarized["kd"]["top1"] == pytest.approx(sum(accuracies) / 2)
    assert "vs_kd" in summarized["orc"] and "vs_kd" not in summarized["kd"] and "before" in summarized["cooperative"]
    methods, members = tables(compared)
    assert [row[0] for row in methods.rows] == ["scratch", "kd", "sdgkd", "orc"]
    assert "mean ± sd of n=2 seeds" in methods.title and "±" in methods.rows[0][1]
    assert [row[0] for row in members.rows] == ["before cooperation", "cooperative", "trained on all data"]


def test_a_method_is_in_the_table_of_controls_if_and_only_if_its_entry_says_so(tmp_path):
    names = write_results(tmp_path / "results", [0, 1])
    methods, controls, _ = tables(outcomes(entries(names, ("scratch", "orc")), [0, 1], tmp_path / "results"))
    assert controls.title == "Controls" and [row[0] for row in controls.rows] == ["scratch", "orc"]
    assert [row[0] for row in methods.rows] == ["kd", "sdgkd"]


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_no_table_is_cut_off_in_the_terminal(tmp_path, seeds):
    names = write_results(tmp_path / "results", seeds)
    console = Console(width=WIDTH, file=io.StringIO())
    for table in tables(outcomes(entries(names, ("orc",)), seeds, tmp_path / "results")):
        table.print(console)
    assert "no difference shown" in console.file.getvalue() and "…" not in console.file.getvalue()


def test_a_missing_result_is_an_error_that_names_it(tmp_path, compared):
    with pytest.raises(DataError, match=r"results/eval/kd\.json has no seed 2: run `dvc repro`"):
        outcomes(entries(["kd"]), [2], tmp_path / "results")
    (tmp_path / "results/cost/kd.json").unlink()
    with pytest.raises(DataError, match=r"results/cost/kd\.json is missing: run `dvc repro`"):
        outcomes(entries(["kd"]), [0], tmp_path / "results")


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
