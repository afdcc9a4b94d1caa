"""What the README and the pages of docs say is so: their figures are results, their links lead somewhere."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SUMMARY = json.loads((ROOT / "results/summary.json").read_text())


def test_the_readmes_table_is_the_recorded_run():
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \| ([^|]*)\|", PAGES[0].read_text(), re.M)
    assert {row[0] for row in rows} == set(SUMMARY)
    for name, top1, low, high, best in rows:
        said = SUMMARY[name]
        assert (top1, low, high) == (f"{said['top1']:.2f}", f"{said['top1_low']:.1f}", f"{said['top1_high']:.1f}")
        if "vs_kd" in said:
            assert best.strip() == f"{said['top1_best']:.2f}"
            assert f"| {said['vs_kd']['difference']:+.2f} | {said['vs_kd']['verdict']} |" in PAGES[0].read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_parameter_that_a_page_sets_exists(page):
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    text = page.read_text()
    for name in re.findall(r"-S '?\"?([a-z_][\w.]*)=", text):
        inside = document
        if f"\n{name.split('.')[0]}:\n" in text:  # the page adds that section
            continue
        for part in name.split("."):
            assert part in inside, name
            inside = inside[part]
