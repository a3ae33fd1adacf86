"""The pages that are tables: faults with tests that exist, campaigns as they were measured."""

from __future__ import annotations

import json
import re

import pytest

from tools.docs import tables

from .pages import ROOT

ROWS = tables.faults()
# the faults that must be there: leave none out
WANTED = {
    "Weights": 12,
    "Checkpoints": 4,
    "Data": 16,
    "Arguments": 7,
    "Training": 8,
    "Sampling to the disk": 6,
}


def test_no_fault_is_left_out():
    assert {section: len(rows) for section, rows in ROWS.items()} == WANTED


def _tests():
    return [(f, test) for rows in ROWS.values() for f, row in rows.items() for test in row["tests"]]


@pytest.mark.parametrize(("fault", "test"), _tests(), ids=lambda word: word)
def test_the_test_that_is_named_exists(fault, test):
    assert test != "missing", f"no test shows what happens with: {fault}"
    file, name = test.split("::")
    path = ROOT / file
    assert path.is_file(), f"{fault}: there is no {file}"
    text = path.read_text("utf-8")
    assert re.search(rf"^ *def {re.escape(name)}\(", text, re.MULTILINE), f"{fault}: no {test}"


def test_the_page_is_made_of_the_rows():
    page = (ROOT / "docs" / "faults.md").read_text("utf-8")
    assert page == tables.faults_page(ROWS), "run: python tools/docs/tables.py"


def test_the_campaigns_page_shows_what_was_measured():
    page = (ROOT / "docs" / "campaigns.md").read_text("utf-8")
    assert page == tables.campaigns_page(), "run: python tools/docs/tables.py"
    for path in (ROOT / "docs" / "campaigns").glob("*.json"):
        for number in _whole_numbers(json.loads(path.read_text("utf-8"))):
            assert re.search(rf"(?<!\d){number}(?!\d)", page), f"{path.name}: {number}"


def _whole_numbers(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        return [number for value in tree for number in _whole_numbers(value)]
    return [tree] if isinstance(tree, int) and not isinstance(tree, bool) else []


def test_a_campaign_of_any_form_is_shown(tmp_path):
    tree = {
        "title": "Kills", "command": "make campaigns", "runs": 200, "mean_seconds": 0.123456,
        "by_place": {"in a save": 41, "elsewhere": 159},
        "attacks": {"truncated": {"count": 50, "refused": 50, "slowest_seconds": 0.02}},
        "rows": [{"seed": 3, "ok": True}, {"seed": 4, "ok": False}], "problems": [],
        "many": [f"number {k}" for k in range(50)],
    }  # fmt: skip
    (tmp_path / "kill.json").write_text(json.dumps(tree), "utf-8")
    (tmp_path / "list.json").write_text("[1, 2]", "utf-8")
    page = tables.campaigns_page(tmp_path)
    for shown in (
        "## Kills", "| runs | 200 |", "| mean seconds | 0.1235 |", "| in a save | 41 |",
        "| truncated | 50 | 50 | 0.02 |", "| 3 | yes |", "| 4 | no |", "## List",
        "| problems | none |", "| number 39 |", "… and 10 more.",
    ):  # fmt: skip
        assert shown in page, f"{shown}\n{page}"
    assert "number 40" not in page
    assert tables.campaigns_page(tmp_path / "none").startswith("# Campaigns")
