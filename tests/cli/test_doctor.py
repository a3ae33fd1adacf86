"""`unnoise doctor` on the command line."""

import json

import pytest

from tests.training.tiny import tiny
from unnoise.training import train


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of four updates: broken, since nothing can be learned in them."""
    out = tmp_path_factory.mktemp("doctor") / "run"
    train(tiny(), out, quiet=True, tensorboard=False)
    return out


def test_a_fault_ends_in_exit_code_1_and_is_told_with_its_remedy(run, short):
    said = run("doctor", short, "-n", 20)
    assert said.code == 1
    assert "FAULT     length" in said.out
    assert "→ train longer" in said.out
    assert said.out.rstrip().splitlines()[-1].startswith("1 fault(s): length")


def test_json_on_the_output_and_in_a_file(run, short, tmp_path):
    said = run("doctor", short, "-n", 20, "--json", "--out", tmp_path / "said.json")
    assert said.code == 1
    tree = json.loads(said.out, parse_constant=pytest.fail)
    assert tree["faults"] == ["length"]
    assert json.loads((tmp_path / "said.json").read_text()) == tree
    assert {"check", "severity", "measured", "threshold", "remedy", "numbers"} <= set(
        tree["findings"][0]
    )


def test_a_model_without_a_fault_ends_in_exit_code_0(run, short, monkeypatch):
    from unnoise.pipelines.doctor import CHECKS

    fine = [name for name in CHECKS if name in ("data range", "data scale", "data structure")]
    for name in [n for n in CHECKS if n not in fine]:
        monkeypatch.delitem(CHECKS, name)
    said = run("doctor", short)
    assert said.code == 0
    assert said.out.rstrip().endswith("no fault was found")


def test_what_could_not_be_examined_is_no_clean_bill(run, short, monkeypatch):
    from unnoise.pipelines.doctor import CHECKS

    for name in [n for n in CHECKS if n not in ("learning rate", "data range")]:
        monkeypatch.delitem(CHECKS, name)
    said = run("doctor", short)  # four updates are too few for a course
    assert said.code == 0
    assert said.out.rstrip().endswith("no fault was found; 1 check(s) could not be done")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "give the folder of a run"),
        (["RUN", "-n", 0], "at least 20"),
        (["RUN", "--seed", -1], "seed is -1"),
        (["RUN", "--out", "no/such/folder/x.json"], "there is no folder"),
        (["RUN", "--out", "."], "a folder; give a file"),
    ],
)
def test_what_cannot_be_is_refused(refused, short, words, message):
    said = refused("doctor", *[short if word == "RUN" else word for word in words])
    assert message in " ".join(said.split())
