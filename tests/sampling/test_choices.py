"""Choices made when sampling: solver options, a grid of one's own, stopping, the device."""

import numpy as np
import pytest
import torch

from tests.training.tiny import tiny
from unnoise.artifacts import Model
from unnoise.errors import InvalidArgument
from unnoise.recipes import build_denoiser, build_objective, open_parts
from unnoise.solvers import DDIM, get


@pytest.fixture(scope="module")
def model():
    recipe = tiny()
    spec = open_parts(recipe)[1]["train"].spec
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec)
    with torch.no_grad():  # a network that says something: its last layer starts at zero
        for parameter in denoiser.parameters():
            parameter.add_(0.02 * torch.ones_like(parameter))
    return Model({"denoiser": denoiser.eval()}, recipe, spec)


def test_a_solver_with_options_in_one_text():
    assert get("ddim:eta=0.5") == get("ddim", eta=0.5) == DDIM(0.5)
    assert get("unipc:order=3,lens=eps") == get("unipc", order=3, lens="eps")
    for wrong in ("ddim:eta", "ddim:", "ddim:=1", "ddim:etta=1"):
        with pytest.raises(InvalidArgument):
            get(wrong)


def test_options_of_a_solver_change_the_samples(model):
    plain, noisy = (model.sample(3, solver=s, steps=4).x for s in ("ddim", "ddim:eta=1"))
    assert not torch.allclose(plain, noisy)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_grid_of_ones_own(model, kind):
    times = [0.98, 0.7, 0.3, 0.0]
    seen = []
    made = model.sample(
        2, grid=kind(times), guidance=1, on_step=lambda k, p: seen.append(float(p.t))
    )
    assert seen == pytest.approx(times[:-1])
    assert made.nfe == 3
    with pytest.raises(InvalidArgument, match="leave steps out"):
        model.sample(2, grid=kind(times), steps=7)
    with pytest.raises(InvalidArgument, match="decrease"):
        model.sample(2, grid=kind([0.1, 0.5]))


def test_stopping_says_that_it_stopped(model):
    made = model.sample(5, batch=2, steps=6, on_step=lambda k, p: k < 2)
    assert not made.finished
    assert len(made.values) == len(made.labels) == 2  # the batch that was begun
    assert model.sample(5, batch=2, steps=6).finished


def test_an_unknown_device_is_named(model, tmp_path):
    model.save(tmp_path)
    with pytest.raises(InvalidArgument, match="device 'tpu9'"):
        Model.load(tmp_path, device="tpu9")


def test_edm_weight_takes_the_deviation_of_the_data():
    recipe = tiny("objective.weight=edm")
    assert build_objective(recipe.objective, 0.5).weight.parameter == 0.5
    assert build_objective(recipe.objective, 1.0).weight.parameter == 1.0
    given = tiny("objective.weight=edm", "objective.weight_parameter=0.25")
    assert build_objective(given.objective, 1.0).weight.parameter == 0.25


def test_one_update_learns_something():
    from unnoise.training import Player, Training

    recipe = tiny("train.steps=1")
    parts = open_parts(recipe)[1]
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, parts["train"].spec)
    before = [p.detach().clone() for p in denoiser.parameters()]
    training = Training(
        Player.of(denoiser, build_objective(recipe.objective), recipe.train),
        parts["train"],
        recipe.train,
    )
    rates = [update.rate for update in training.updates()]
    assert rates[0] > 0
    changed = [not torch.equal(a, b) for a, b in zip(before, denoiser.parameters(), strict=True)]
    assert any(changed)
