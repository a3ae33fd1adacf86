"""Each "add a …" page is true: its files, put into a copy of the tree, pass their own tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from .pages import ROOT, blocks

ADDITIONS = sorted((ROOT / "docs" / "howto" / "add").glob("*.md"))
# what the name is good for, once all five pages are followed
NAMED = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from unnoise import load, load_recipe, train
from unnoise.cli import main
from unnoise.support import PATHS
from unnoise.solvers import PRESETS
assert "linear_log_snr" in PATHS and "averaged" in PRESETS
recipe = load_recipe("digits", [
    "train.steps=2", "train.reports=1", "path.kind=linear_log_snr", "network.kind=wrapped",
    "objective.kind=antithetic", "sample.solver=averaged", "sample.grid.kind=uniform",
    "sample.steps=3",
])
train(recipe, Path("run"), quiet=True, tensorboard=False)
model = load("run")
assert str(model.denoiser.path).startswith("LinearLogSnr"), model.denoiser.path
assert type(model.denoiser.network).__name__ == "Wrapped"
assert model.sample(2).nfe > 3
main(["train", "--data", "chessboard", "--quiet", "--out", "board", "train.steps=2"])
"""


@pytest.fixture(scope="session")
def followed(shared):
    """A copy of the library with all five pages followed, and the outcome of the new tests."""
    copy = shared("followed", follow_all)
    outcome: dict[str, list[str]] = {}
    for case in ElementTree.parse(copy / "said.xml").iter("testcase"):
        file = str(case.get("classname")).replace(".", "/") + ".py"
        bad = [part.get("message") or "" for part in case if part.tag in ("failure", "error")]
        outcome.setdefault(file, []).append(f"{case.get('name')}: {bad[0]}" if bad else "")
    return copy, outcome, (copy / "said.txt").read_text("utf-8")


def environment(copy):
    return {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}


def follow_all(copy):
    """Copy the library, follow every page in the copy, run the tests that the pages hold."""
    leave = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "src", copy / "src", ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "tests").mkdir()
    for file in ("conftest.py", "exact.py", "small.py"):
        shutil.copy(ROOT / "tests" / file, copy / "tests")
    tests = [file for page in ADDITIONS for file in follow(page, copy)]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--junitxml=said.xml"]
    made = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy, env=environment(copy), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    (copy / "said.txt").write_text(made.stdout + made.stderr, "utf-8")


def follow(page, copy):
    """Write a page's files and make its changes in `copy`; the tests among them."""
    written = []
    for block in blocks(page):
        if block.file is None:
            continue
        target = copy / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        if block.language == "diff":
            target.write_text(changed(target.read_text("utf-8"), block), "utf-8")
        else:
            assert not target.exists(), f"{block.where}: {block.file} is there already"
            target.write_text(block.text, "utf-8")
            if block.file.startswith("tests/"):
                written.append(block.file)
    assert len(written) == 1, f"{page.name} has {len(written)} tests; one file and its test"
    return written


def changed(text, block):
    """The text with a diff's hunks applied, each found at exactly one place."""
    for hunk in block.text.strip("\n").split("@@\n"):
        lines = [line or " " for line in hunk.strip("\n").split("\n")]
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        assert before, f"{block.where}: a hunk needs a line that is there"
        where = re.findall(rf"(?m)^{re.escape(before)}", text)
        assert len(where) == 1, f"{block.where}: {block.file} has {len(where)} places for:\n{hunk}"
        at = re.search(rf"(?m)^{re.escape(before)}", text).start()
        text = text[:at] + after + text[at + len(before) :]
    return text


@pytest.mark.parametrize("page", ADDITIONS, ids=lambda page: page.stem)
def test_its_file_passes_its_test(page, followed):
    _, outcome, said = followed
    (test,) = (b.file for b in blocks(page) if re.match(r"tests/\w+/test_", b.file or ""))
    assert outcome.get(test), f"no test of {test} ran:\n{said[-3000:]}"
    assert not any(outcome[test]), "\n".join(filter(None, outcome[test]))


def test_the_names_are_known_to_recipes(followed, tmp_path):
    copy, _, _ = followed
    made = subprocess.run(
        [sys.executable, "-c", NAMED], cwd=tmp_path, env=environment(copy), capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    assert (tmp_path / "board" / "model.safetensors").is_file()


def test_every_kind_of_part_has_its_page():
    assert [p.stem for p in ADDITIONS] == ["data_set", "network", "objective", "path", "solver"]
