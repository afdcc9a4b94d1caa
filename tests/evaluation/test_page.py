"""The page is whole without a network, draws every figure, and believes no name."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import DataError
from pipeline.evaluation.comparison import outcomes, summary
from pipeline.evaluation.page.page import Results, render, write_confusion, write_curves
from pipeline.evaluation.table import tables
from results import EVIL, write_results

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def compared(tmp_path):
    return outcomes(write_results(tmp_path / "results", [0, 1]), [0, 1], tmp_path / "results")


@pytest.fixture
def page(tmp_path, compared) -> Path:
    file = tmp_path / "report.html"
    file.write_text(render(Results(tmp_path / "results", compared, EVIL), {"data": {"root": "<i>evil</i>"}}))
    return file


class Tags(HTMLParser):
    """Every tag, and every address."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]


def test_the_page_has_no_script_and_asks_for_nothing(page):
    tags = Tags(page.read_text())
    assert not {"script", "link", "iframe", "i", "b"} & set(tags.tags)
    assert all(address.startswith(("#", "data:")) for address in tags.addresses)
    assert tags.tags.count("svg") >= 12 and tags.tags.count("table") == 2


def test_names_are_text(page):
    text = page.read_text()
    assert "<script>" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;i&gt;evil" in text and "&lt;b&gt;bold" in text
    assert "a &amp; b" in text and "$x_2$" in text


def test_no_two_figures_share_an_identifier(page):
    found = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(found) == len(set(found)) > 50


def test_the_same_results_give_the_same_page(tmp_path, compared, page):
    again = render(Results(tmp_path / "results", compared, EVIL), {"data": {"root": "<i>evil</i>"}})
    assert again == page.read_text()


def test_every_method_has_its_story(page):
    text = page.read_text()
    for said in (
        "Who was the temporary teacher",
        "How often each teaching fired",
        "The pivot on validation",
        "How often each guide was kept",
        "images that i has right and j has wrong",
        "share that reached the target",
        "Counterfactuals that teach a",
    ):
        assert said in text


def test_what_dvc_plots_is_written(tmp_path, compared):
    results = Results(tmp_path / "results", compared, EVIL)
    write_curves(results, tmp_path / "curves")
    curve = pl.read_csv(tmp_path / "curves/kd.csv")
    assert curve.columns == ["epoch", "top1"] and curve["top1"].to_list() == [60.0, 70.0, 80.0, 90.0]
    write_confusion(results, tmp_path / "confusion.csv")
    assert pl.read_csv(tmp_path / "confusion.csv").height == 60


def test_summary_and_table_tell_means_and_spreads(compared):
    said = summary(compared)
    assert said["kd"]["n"] == 2 and set(said["kd"]["seeds"]) == {"0", "1"}
    own = [said["kd"]["seeds"][s]["top1"] for s in ("0", "1")]
    assert said["kd"]["top1"] == pytest.approx(sum(own) / 2)
    assert "vs_kd" in said["orc"] and "vs_kd" not in said["kd"] and "before" in said["cooperative"]
    methods, members = tables(compared)
    assert [row[0] for row in methods.rows] == ["scratch", "kd", "sdgkd", "orc"]
    assert "mean ± sd of n=2 seeds" in methods.title and "±" in methods.rows[0][1]
    assert [row[0] for row in members.rows] == ["before cooperation", "cooperative", "trained on all data"]


def test_a_missing_result_is_one_line(tmp_path, compared):
    with pytest.raises(DataError, match=r"results/eval/kd\.json has no seed 2: run `dvc repro`"):
        outcomes(["kd"], [2], tmp_path / "results")
    (tmp_path / "results/cost/kd.json").unlink()
    with pytest.raises(DataError, match=r"results/cost/kd\.json is missing: run `dvc repro`"):
        outcomes(["kd"], [0], tmp_path / "results")


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
