"""Learned variances in training: every kind of objective runs, and a pause changes nothing."""

import pytest
import torch

from tests.training.test_run import go, lines
from tests.training.tiny import (
    check_resume,
    parts_of,
    run_steps,
    tiny,
    training_of,
    with_levels,
)
from unnoise.errors import DataError
from unnoise.objectives import LossHistory
from unnoise.training import Checkpoints, Training

LEARNED = [
    "path.kind=chain", "path.steps=4", "path.betas=cosine", "model.predicts=v",
    "model.learned_variance=true",
]  # fmt: skip
HISTORY = "objective.times={kind: loss_history, keep: 1}"
KINDS = {
    "hybrid": ["objective.kind=hybrid"],
    "vlb": ["objective.kind=vlb"],
    "vlb by history": ["objective.kind=vlb", HISTORY],
    "hybrid by history": ["objective.kind=hybrid", HISTORY, "train.accumulate=2"],
}


def recipe_of(kind, *overrides):
    return tiny(*LEARNED, *KINDS[kind], "train.steps=14", *overrides)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_through_the_disk_is_the_uninterrupted_run(kind, tmp_path):
    recipe = recipe_of(kind)
    straight, resumed = check_resume(lambda: with_levels(recipe), tmp_path, 14, 8)
    kept = Checkpoints(tmp_path).names()
    files = {p.name for p in (tmp_path / "checkpoints" / kept[0]).iterdir()}
    assert ("objective.safetensors" in files) == ("history" in kind)
    if "history" in kind:
        assert isinstance(straight.objective.times, LossHistory)
        assert straight.objective.times.warm
        for name, value in straight.objective.state().items():
            assert torch.equal(value, resumed.objective.state()[name])


def test_a_history_of_another_length_is_refused():
    recipe = recipe_of("vlb by history")
    training = training_of(recipe)
    run_steps(training, 1)
    other = training_of(recipe_of("vlb by history", "objective.times.keep=3"))
    with pytest.raises(DataError, match="no loss history of 3"):
        other.load_state(training.state())


def test_measuring_held_out_data_leaves_the_history_alone():
    training = with_levels(recipe_of("vlb by history"))
    run_steps(training, 3)
    before = training.objective.state()
    per_sample, _ = training.held_out(parts_of(recipe_of("vlb"))["validation"])
    assert bool(torch.isfinite(per_sample).all())
    assert all(torch.equal(before[k], v) for k, v in training.objective.state().items())
    assert training.baseline_loss(torch.ones(3)) is None


def test_a_whole_run_and_sampling_with_its_own_variance(tmp_path):
    recipe = recipe_of(
        "hybrid", "sample.solver=ddpm:variance=learned", "sample.grid={kind: trailing}",
        "train.steps=3",
    )  # fmt: skip
    model = go(recipe, tmp_path / "m")
    assert lines(tmp_path / "m")[-1]["kind"] == "end"
    import unnoise

    loaded = unnoise.load(tmp_path / "m", "fp32")
    assert loaded.denoiser.learned_variance
    assert torch.equal(loaded.sample(2).x, model.sample(2).x)
    assert not torch.equal(loaded.sample(2, solver="ddpm").x, model.sample(2).x)
    go(recipe, tmp_path / "m", resume=True)  # recipes compare equal


def test_runs_of_earlier_releases_can_be_gone_on_with(tmp_path):
    """Their recipes lack the keys that came later."""
    recipe = tiny("train.schedule=constant", "train.steps=2")
    go(recipe, tmp_path / "a")
    kept = Checkpoints(tmp_path / "a")
    state, saved = kept.load()
    del saved["objective"]["kind"], saved["model"]["learned_variance"]
    kept.save(state, saved)
    longer = tiny("train.schedule=constant", "train.steps=3")
    assert go(longer, tmp_path / "a", resume=True).training["updates"] == 3


def test_the_variance_is_what_the_bound_trains():
    """Some updates of the pure bound lower the held-out bound."""
    recipe = recipe_of("vlb", "train.steps=60", "train.batch=32", "train.ema.gamma=1")
    training: Training = with_levels(recipe)
    validation = parts_of(recipe)["validation"]
    before = float(training.held_out(validation)[0].mean())
    run_steps(training, 60)
    assert float(training.held_out(validation)[0].mean()) < 0.9 * before
