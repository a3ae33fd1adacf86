import json

import numpy as np
import pytest

import unnoise


def test_tune_then_sample(run, model):
    said = run("tune", model, "--steps", 3, "--starts", 18, "--tries", 2)
    assert said.code == 0, said.err
    assert "steps-3.json" in said.out
    assert "--solver tuned --steps 3" in said.out
    tree = json.loads((model / "tuned" / "steps-3.json").read_text("utf-8"))
    assert tree["measured"]["starts"] == 18
    assert max(tree["measured"]["tuned"]) <= max(tree["measured"]["auto"]) * 1.01
    options = ["--n", 4, "--solver", "tuned", "--steps", 3, "--precision", "fp32"]
    said = run("sample", model, *options, "--out", "a.npy")
    assert said.code == 0, said.err
    expected = unnoise.load(model, "fp32").sample(4, solver="tuned", steps=3)
    assert np.abs(np.load("a.npy").astype(int) - expected.values.numpy()).max() <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 0], "steps is 0"),
        (["--steps", 3, "--starts", 5], "starts is 5"),
        (["--steps", 3, "--tries", 0], "tries is 0"),
        (["--steps", 3, "--guidance", "nan"], "guidance is nan"),
        ([], "--steps"),
    ],
)
def test_what_cannot_be_tuned_ends_with_code_2(refused, model, words, message):
    assert message in refused("tune", model, *words)


def test_no_model_and_nothing_tuned(refused, model):
    assert "there is no model" in refused("tune", "nowhere", "--steps", 3)
    assert "not tuned for 7 steps (tuned for: none)" in refused(
        "sample", model, "--solver", "tuned", "--steps", 7
    )
