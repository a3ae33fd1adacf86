"""`unnoise compare`, and `unnoise evaluate` on samples without a model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_card import make_card
from unnoise.data import open_digits
from unnoise.evaluation import Metric, load_card

OLD = Path(__file__).parents[1] / "evaluation" / "cards" / "format-1.json"


@pytest.fixture
def two(tmp_path):
    """Folders of two comparable cards."""
    card = make_card()
    worse = Metric(9.0, 8.0, 10.0, 2.0, 1.0, 3.0, 0.5)
    card.save(tmp_path / "a")
    replace(card, metrics=card.metrics | {"frechet": worse}).save(tmp_path / "b")
    return tmp_path / "a", tmp_path / "b" / "card.json"


def test_two_cards_are_put_beside_one_another(run, two):
    said = run("compare", *two)
    assert said.code == 0, said.err
    assert said.out.startswith(f"A: {two[0]}\nB: {two[1]}\n")
    assert "A is better in 1 of 2 metrics, Fréchet distance (by 9." in said.out
    tree = json.loads(run("compare", *two, "--json").out)
    assert tree["metrics"]["frechet"]["better"] == "A"
    assert tree["a"] == str(two[0])
    assert run("compare", OLD, OLD).code == 0


def test_what_cannot_be_compared_ends_with_code_2(refused, two, tmp_path):
    other = replace(load_card(two[0]), features_hash="0" * 64, features="pca")
    other.save(tmp_path / "other")
    said = refused("compare", two[0], tmp_path / "other")
    assert "features_hash is 'ffffffffffff…' (penultimate layer)" in said
    assert "--features" in said
    assert "no metric card" in refused("compare", two[0], tmp_path / "nothing")
    (tmp_path / "broken.json").write_text('{"format": 2}')
    assert "lacks" in refused("compare", two[0], tmp_path / "broken.json")


def test_samples_are_measured_without_a_model(run, tmp_path):
    x = open_digits().values.numpy()
    np.save(tmp_path / "made.npy", x[:150, 0])
    np.save(tmp_path / "real.npy", x[150:, 0])
    made, real = tmp_path / "made.npy", tmp_path / "real.npy"
    said = run("evaluate", "--samples", made, "--data", real, "--out", "cards")
    assert said.code == 0, said.err
    card = load_card("cards")
    assert (card.samples, card.data) == (150, "real")
    assert said.out.strip() == Path("cards/card.md").read_text().strip()
    assert run("evaluate", "--samples", made, "--data", real, "--features", "pca").code == 0
    assert run("compare", "cards", ".").code == 0  # pca was what the data chose


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to measure"),
        (["--samples", "x.npy"], "needs --data"),
        (["model", "--samples", "x.npy", "--data", "digits"], "a model was given too"),
        (["--samples", "x.npy", "--data", "digits", "--steps", 3], "steps was given too"),
        (["--samples", "x.npy", "--data", "digits", "--device", "cpu"], "device was given too"),
        (
            ["--samples", "x.npy", "--data", "digits", "--precision", "bf16"],
            "precision was given too",
        ),
        (["model", "--data", "digits"], "--data goes with --samples"),
        (["model", "--reference", "digits"], "--reference goes with --samples"),
        (["--samples", "x.npy", "--data", "digits"], "there is no data"),
        (["--samples", "digits", "--data", "digits", "--features", "clip"], "unknown features"),
    ],
)
def test_what_cannot_be_measured_is_refused(refused, words, message):
    assert message in refused("evaluate", *words)
