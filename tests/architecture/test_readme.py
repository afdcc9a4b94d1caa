"""The README and docs are correct: the results table, the links, and the parameters that commands set."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDY_PAGES = sorted((ROOT / "studies").rglob("README.md"))
SUMMARY = json.loads((ROOT / "results/summary.json").read_text())
STUDIES = {n: ROOT / "studies" / n / "results" for n in ("cifar100", "cifar100_tuned", "cifar100_15_epochs")}
SHOWN = [  # page, study, number of its tables, at least
    ("README.md", "cifar100_15_epochs", 3),
    ("docs/results.md", "cifar100_15_epochs", 3),
    ("docs/results.md", "cifar100_tuned", 3),
    ("docs/results.md", "cifar100", 3),
    ("studies/orc_teachings/README.md", "orc_teachings", 3),
]
COMPARED = ("Methods", "Controls", "Cooperative", "Against the control")  # tables of the study that pages repeat


@pytest.mark.parametrize(("page", "study", "least"), SHOWN)
def test_tables_of_a_study_are_those_of_its_committed_results(page, study, least):
    table = (ROOT / "studies" / study / "results/table.md").read_text()
    parts = re.findall(r"^\*\*[^\n]+\n\n(?:\|[^\n]*\n)+", table, re.M)
    compared = [part for part in parts if part[2:].startswith(COMPARED)]
    assert len(compared) >= least and all(part in (ROOT / page).read_text() for part in compared)


@pytest.mark.parametrize(("study", "methods"), [("cifar100_tuned", 6), ("cifar100_15_epochs", 5)])
def test_false_knowledge_of_a_tuned_study_is_that_of_its_committed_results(study, methods):
    table = (STUDIES[study] / "table.md").read_text().split("**False knowledge", 1)[1].split("\n\n**", 1)[0]
    assert table.rstrip().count("\n| ") >= methods and table.rstrip() in (ROOT / "docs/results.md").read_text()


def test_differences_in_all_studies_are_those_of_their_summaries():
    header = "| method | 5 epochs, the papers' parameters (pp) | 5 epochs, tuned (pp) | 15 epochs, tuned (pp) |"
    rows = (ROOT / "docs/results.md").read_text().split(header, 1)[1].split("\n\n", 1)[0].strip().splitlines()[1:]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in STUDIES.values()]
    assert len(rows) >= 5
    for row in rows:
        name, *cells = (cell.strip() for cell in row.strip().removeprefix("|").removesuffix("|").split("|"))
        for cell, summary in zip(cells, summaries, strict=True):
            found = summary.get(name, {}).get("vs_kd")
            assert cell == (f"{found['difference']:+.2f} [{found['low']:+.1f}, {found['high']:+.1f}]" if found else "")


def test_the_differences_beside_the_claims_of_the_papers_are_those_of_the_studies():
    text = (ROOT / "docs/results.md").read_text()
    rows = text.split("| paper | claim | decided by |", 1)[1].split("\n\n", 1)[0].strip().splitlines()[2:]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in STUDIES.values()]
    compared = 0
    for row in rows:
        _, _, decided_by, *cells = (cell.strip() for cell in row.strip().strip("|").split("|"))
        for cell, summary in zip(cells, summaries, strict=False):
            if cell.endswith("]"):
                method, control = decided_by.strip("`").split(" - ")
                found = summary[method][f"vs_{control}"]
                assert cell == f"{found['difference']:+.2f} [{found['low']:+.1f}, {found['high']:+.1f}]", row
                compared += 1
    assert compared >= 10


def test_readme_tables_of_the_default_equal_the_recorded_results():
    text = PAGES[0].read_text().split("<details><summary>Tables of the default run", 1)[1].split("</details>", 1)[0]
    rows = {
        name: (top1, best.strip())
        for name, top1, best in re.findall(r"^\| (\w+) \| ([\d.]+ (?:± [\d.]+|\[[\d., ]+\])) \| ([^|]*)\|", text, re.M)
    }
    assert rows.keys() == SUMMARY.keys()
    for name, (top1, best) in rows.items():
        expected = SUMMARY[name]
        low, high = f"{expected['top1_low']:.1f}", f"{expected['top1_high']:.1f}"
        spread = f"± {expected['top1_sd']:.2f}" if expected["n"] > 1 else f"[{low}, {high}]"
        assert top1 == f"{expected['top1']:.2f} {spread}"
        if "vs_kd" in expected:
            assert best == f"{expected['top1_best']:.2f}"
            vs = expected["vs_kd"]
            difference = f"{vs['difference']:+.2f} [{vs['low']:+.1f}, {vs['high']:+.1f}]"
            assert f"| {difference} | {vs['verdict']} |" in text


def test_committed_metrics_in_the_outputs_that_pages_show_are_the_recorded_ones():
    text = "\n".join(page.read_text() for page in PAGES)
    recorded = {}  # dotted name to number, as DVC names metrics
    parts = [("", SUMMARY), ("", YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text()))]
    while parts:
        prefix, part = parts.pop()
        for key, value in part.items():
            parts += [(f"{prefix}{key}.", value)] if isinstance(value, dict) else []
            recorded[f"{prefix}{key}"] = value
    shown = re.findall(r"^results/summary.json +(\S+) +(\S+)", text, re.M)  # dvc metrics diff, column HEAD
    for header, row in re.findall(r"^\| Experiment +\|(.*)\n\|[-|]+\n\| main +\|(.*)$", text, re.M):  # dvc exp show
        names, cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row))
        shown += zip(names, cells, strict=True)
    assert len(shown) >= 20
    for name, value in shown:
        assert float(value) == pytest.approx(recorded[name], rel=5e-5, abs=5e-6), name  # DVC rounds to five decimals


@pytest.mark.parametrize("page", [*PAGES, *STUDY_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link, section in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", prose):
        target = page.parent / link if link else page
        assert link.startswith("https://") or target.exists(), link
        if section and target.suffix == ".md":
            assert section in sections_of(target), f"{link}#{section}"


def sections_of(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parameters_set_in_commands_exist(page):
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    text = page.read_text()
    for name in re.findall(r"-S '?\"?([a-z_][\w.]*)=", text):
        inside = document
        if f"\n{name.split('.')[0]}:\n" in text:  # the page itself adds the section
            continue
        for part in name.split("."):
            assert part in inside, name
            inside = inside[part]
