"""The README and docs are correct: the results table, the links, and the parameters that commands set."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SUMMARY = json.loads((ROOT / "results/summary.json").read_text())


def test_readme_table_equals_the_recorded_results():
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \| ([^|]*)\|", PAGES[0].read_text(), re.M)
    assert {row[0] for row in rows} == set(SUMMARY)
    for name, top1, low, high, best in rows:
        expected = SUMMARY[name]
        assert (top1, low, high) == (
            f"{expected['top1']:.2f}",
            f"{expected['top1_low']:.1f}",
            f"{expected['top1_high']:.1f}",
        )
        if "vs_kd" in expected:
            assert best.strip() == f"{expected['top1_best']:.2f}"
            assert (
                f"| {expected['vs_kd']['difference']:+.2f} | {expected['vs_kd']['verdict']} |" in PAGES[0].read_text()
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert link.startswith("https://") or (page.parent / link).exists(), link


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
