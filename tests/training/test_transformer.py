"""A transformer through the whole of it: trained, paused, saved, loaded, sampled, tampered with."""

import pytest
import torch

import unnoise
from tests.artifacts.edit import edit
from tests.training.tiny import check_resume, model_of, run_steps, tiny, training_of
from unnoise.errors import ArtifactError

DIT = ("network={kind: dit, width: 16, depth: 2, head: 8, patch: 2}",)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_pause_changes_nothing(tmp_path, positions):
    recipe = tiny(*DIT, f"network.positions={positions}", "train.steps=5")
    straight, resumed = check_resume(lambda: training_of(recipe), tmp_path, 5, 2)
    assert straight.denoiser.network.positions == resumed.denoiser.network.positions == positions


def test_it_learns(tmp_path):
    training = training_of(tiny(*DIT, "train.steps=60", "train.batch=32"))
    losses = run_steps(training, 60)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    parts = [type(part).__name__ for part in training.leader.optimizers.parts]
    assert parts == ["Muon", "AdamW"]
    assert len(training.leader.optimizers.parts[0].whole) == 2 * 4


def test_what_is_loaded_is_what_was_saved(tmp_path):
    model = model_of(tiny(*DIT))
    loaded = unnoise.load(model.save(tmp_path / "m"), "fp32")
    made, again = (m.sample(12, seed=3, steps=3).x for m in (model, loaded))
    assert torch.equal(made, again)
    alone = loaded.sample(3, seed=3, steps=3, first=9).x
    torch.testing.assert_close(alone, made[9:], rtol=1e-3, atol=1e-4)
    assert made.std() > 0.1


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("depth", 512, "at least 3072"),
        ("depth", 3, "layers.2"),
        ("width", 24, r"is \(11, 16\), the network"),
        ("patch", 9, "patch is 9"),
        ("width", 2**20, "network.width"),
        ("head", 3, "does not divide"),
        ("positions", "learned", "place"),
        ("positions", "import os", "network.positions"),
    ],
)
def test_a_tampered_model_is_refused(tmp_path, key, value, says):
    folder = model_of(tiny(*DIT)).save(tmp_path / "m")

    def change(tree):
        tree["recipe"]["network"][key] = value

    edit(folder, change)
    with pytest.raises(ArtifactError, match=says):
        unnoise.load(folder)
