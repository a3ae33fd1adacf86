"""Score matching, maximum likelihood and optimal couplings in training, saving and going on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unnoise
from tests.training.test_run import go
from tests.training.tiny import check_resume, run_steps, tiny, training_of, with_levels
from unnoise.errors import InvalidArgument
from unnoise.paths import Coupled, Flow

SMALL = ["network={kind: mlp, width: 16, depth: 1}", "train.batch=8", "train.accumulate=2"]
FLOW = ["objective.kind=maximum_likelihood", "objective.steps=2", "objective.tableau=midpoint"]
KINDS = {
    "sliced": ["objective.kind=score_matching"],
    "finite difference": ["objective.kind=score_matching", "objective.method=finite_difference"],
    "implicit": ["objective.kind=score_matching", "objective.method=implicit"],
    "optimal": ["objective.coupling=optimal"],
    "entropic": ["objective.coupling={kind: optimal, entropy: 0.1}"],
    "flow": [*FLOW, "objective.trace=hutchinson"],
}
DETERMINISTIC = ("optimal", "entropic", "flow")


def recipe_of(kind, *overrides):
    return tiny(*SMALL, *KINDS[kind], "train.steps=4", *overrides)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_through_the_disk_is_the_uninterrupted_run(kind, tmp_path):
    recipe = recipe_of(kind)
    check_resume(lambda: with_levels(recipe), tmp_path, 4, 2)


@pytest.mark.parametrize("kind", ["sliced", "entropic", "flow"])
def test_a_whole_run_and_its_artifact(kind, tmp_path):
    recipe = recipe_of(kind, "train.steps=2", "objective.drop=0.5")
    model = go(recipe, tmp_path / "m")
    loaded = unnoise.load(tmp_path / "m", "fp32")
    assert loaded.recipe == recipe
    assert loaded.denoiser.path == (Coupled(Flow()) if kind in DETERMINISTIC else Flow())
    assert torch.equal(loaded.sample(4).x, model.sample(4).x)
    if kind in DETERMINISTIC:
        with pytest.raises(InvalidArgument, match="use a deterministic solver"):
            loaded.sample(2, solver="ddpm")
        with pytest.raises(InvalidArgument, match="use a deterministic solver"):
            loaded.sample(2, solver="DPM++ 2M SDE Karras")
    else:
        assert loaded.sample(2, solver="ddpm").x.isfinite().all()
    go(recipe, tmp_path / "m", resume=True)  # recipes compare equal


def test_held_out_data_keep_their_condition_and_have_no_baseline():
    for kind in KINDS:
        recipe = recipe_of(kind, "objective.drop=1")
        training = with_levels(recipe)
        assert training.objective.condition_dropout == 1
        assert training.objective.held_out().condition_dropout == 0
        assert training.baseline_loss(torch.ones(3)) is None


def test_unets_are_differentiated_twice():
    for kind in ("sliced", "flow"):
        recipe = tiny(*KINDS[kind], "network.widths=[8]", "train.batch=4", "train.steps=2")
        assert all(np.isfinite(run_steps(with_levels(recipe), 2)))


def test_discrete_data_are_spread_over_their_steps():
    recipe = recipe_of("flow", "objective.drop=0")
    training, bare = with_levels(recipe), training_of(recipe)
    batch, noise = training.batch(0, 8)
    u = noise.purpose("dequantise").uniform(*batch.x0.shape[1:])
    low_high = torch.tensor([0, 1], dtype=torch.uint8).reshape(2, 1, 1, 1)
    low, high = bare.data.spec.normalise(low_high.expand(2, *bare.data.spec.shape))
    step = high - low
    spread = replace(batch, x0=batch.x0 + (u - 0.5) * step)
    loss = training.objective(training.denoiser, batch, noise).per_sample
    torch.testing.assert_close(loss, bare.objective(training.denoiser, spread, noise).per_sample)
    assert not torch.allclose(loss, bare.objective(training.denoiser, batch, noise).per_sample)
