import json
import os
import subprocess
import sys

import pytest

import unnoise
from tests.training.tiny import parts_of, tiny
from unnoise.evaluation import ValuePCA
from unnoise.pipelines import measure
from unnoise.recipes import load_recipe, shipped

VERBS = ("train", "sample", "evaluate", "recipes", "demo")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run, verb):
    said = run(verb, "--help")
    assert said.code == 0
    assert f"unnoise {verb}" in said.out or verb in said.out
    assert len(said.out.splitlines()) > 4


def test_the_whole_explains_itself(run):
    for words in ([], ["--help"]):
        out = run(*words)
        assert all(verb in out.out + out.err for verb in VERBS)
    assert run("--version").out.strip() == f"unnoise {unnoise.__version__}"


def test_unknown_verbs_end_with_code_2(refused):
    assert "sampel" in refused("sampel")


def test_recipes_are_listed_and_printed(run, refused, tmp_path):
    said = run("recipes")
    assert said.code == 0
    assert all(name in said.out for name in shipped())
    printed = run("recipes", "digits")
    (tmp_path / "again.yaml").write_text(printed.out)
    assert load_recipe(tmp_path / "again.yaml") == load_recipe("digits")
    assert "did you mean 'digits'" in refused("recipes", "digit")


@pytest.fixture
def quick(monkeypatch):
    """Features that need no training."""
    features = ValuePCA(parts_of(tiny())["train"].values)
    name = measure.__module__
    monkeypatch.setattr(sys.modules[name], "named_features", lambda *_, **__: features)


def test_evaluate_leaves_a_card_beside_the_model(run, model, quick):
    said = run("evaluate", model, "--n", 20, "--steps", 2, "--part", "validation")
    assert said.code == 0, said.err
    card = json.loads((model / "card.json").read_text())
    assert card["data"] == "digits (validation part)"
    assert said.out.strip() == (model / "card.md").read_text().strip()
    assert "Fréchet" in said.out


def test_evaluate_into_another_folder(run, model, quick, tmp_path):
    before = sorted(p.name for p in model.iterdir())
    said = run("evaluate", model, "--n", 20, "--steps", 1, "--seed", 5, "--out", "cards/one")
    assert said.code == 0, said.err
    assert sorted(p.name for p in model.iterdir()) == before
    card = json.loads((tmp_path / "here" / "cards" / "one" / "card.json").read_text())
    assert card["provenance"]["seeds"] == [5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", 0], "n is 0"),
        (["--n", 10], "at least 20"),
        (["--steps", -1], "steps is -1"),
        (["--guidance", "nan"], "guidance is nan"),
        (["--solver", "none"], "unknown solver"),
        (["--part", "train"], "'test' or 'validation'"),
        (["--seed", -1], "seed is -1"),
        (["--out", "/dev/null"], "is a file"),
    ],
)
def test_what_cannot_be_evaluated_ends_with_code_2(refused, model, quick, words, message):
    assert message in refused("evaluate", model, *words)


def test_python_m_unnoise_is_the_command(tmp_path):
    command = [sys.executable, "-m", "unnoise", "sample", "nothing"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: there is no model at nothing;")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
