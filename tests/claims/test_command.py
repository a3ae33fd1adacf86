"""`python -m claims`, which `make claims` runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from claims import known

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run():
    """run("one_pixel"): the command, from the project's folder, as the Makefile starts it."""

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "claims", *map(str, words)],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return call


def test_some_are_printed_kept_and_written(run, tmp_path):
    options = ["--out", tmp_path / "r", "--cache", tmp_path / "kept"]
    done = run("one_pixel", "sizes_of_pictures", *options)
    assert done.returncode == 0, done.stderr
    assert "[1/2] sizes_of_pictures" in done.stdout
    assert "x_t: 0.9192" in done.stdout
    tree = json.loads((tmp_path / "r/claims.json").read_text())
    assert [c["name"] for c in tree["claims"]] == ["sizes_of_pictures", "one_pixel"]
    assert "# The claims" in (tmp_path / "r/claims.md").read_text()
    assert "kept from" in run("one_pixel", "--cache", tmp_path / "kept").stdout


def test_a_chapter_is_listed(run):
    listed = run("schedules", "--list").stdout
    assert "one_pixel" in listed or "sizes_of_pictures" in listed
    assert all(name in known() for name in (line.split()[0] for line in listed.splitlines()[2:]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one_pixls"], "did you mean 'one_pixel'"),
        (["one_pixel", "--fresh", "--keep"], "give one of them"),
        (["one_pixel", "--out", Path(__file__)], "is a file"),
    ],
)
def test_bad_words_are_refused(run, words, message):
    refused = run(*words)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
