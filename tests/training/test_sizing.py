"""The network that fits the time: the largest that leaves the updates a run needs."""

import numpy as np
import pytest
import torch

from tests.training.tiny import parts_of, tiny
from unnoise.data import load_data
from unnoise.errors import OutOfMemory, RecipeError, Unsupported
from unnoise.recipes import choose, load_recipe
from unnoise.training import fit_to_time, sizing
from unnoise.training.sizing import FACTORS, LEAST, scaled, seconds_per_update, wanted_updates


def pretend(monkeypatch, unit, asked=None):
    """A machine on which an update takes unit × the square of the first width, in seconds."""

    def seconds(recipe, data, most=float("inf")):
        if asked is not None:
            asked.append(recipe.network.widths[0])
        return unit * recipe.network.widths[0] ** 2

    monkeypatch.setattr(sizing, "seconds_per_update", seconds)


@pytest.mark.parametrize("unit", [1e-6, 7e-6, 2e-5, 3e-5, 1e-4, 4e-4])
@pytest.mark.parametrize("budget", [60, 300, 7200])
def test_the_largest_size_that_leaves_enough_updates_is_taken(monkeypatch, unit, budget):
    pretend(monkeypatch, unit)
    recipe = tiny("train.steps=null", f"train.budget={budget}", "network.widths=[64, 128]")
    sizes = [scaled(recipe, factor).network.widths for factor in FACTORS]
    fitting = [w for w in sizes if budget / (unit * w[0] ** 2) >= wanted_updates(budget)]
    expected = fitting[-1] if fitting else sizes[0]
    fit = fit_to_time(recipe, load_data("digits"))
    assert fit.recipe.network.widths == expected
    assert fit.seconds == unit * expected[0] ** 2
    assert fit.updates == int(budget / fit.seconds)
    assert fit.recipe.train == recipe.train


def test_few_sizes_are_tried_and_each_once(monkeypatch):
    asked = []
    pretend(monkeypatch, 1e-5, asked)
    recipe = tiny("train.steps=null", "train.budget=5m", "network.widths=[64, 128]")
    fit = fit_to_time(recipe, load_data("digits"))
    assert len(asked) == len(set(asked)) == len(fit.tried) <= 5
    assert f"unet {fit.recipe.network.widths}" in " ".join(fit.tried)


def test_more_time_gives_more_updates_and_larger_ones():
    assert wanted_updates(480) == 2 * wanted_updates(120)
    assert wanted_updates(1e-3) == 300
    assert 480 / wanted_updates(480) > 120 / wanted_updates(120)


def test_too_little_time_for_the_smallest_network_is_refused_with_what_would_do(monkeypatch):
    pretend(monkeypatch, 2.0 / 16**2)  # two seconds an update of the smallest
    recipe = tiny("train.steps=null", "train.budget=3m", "network.widths=[64, 128]")
    with pytest.raises(RecipeError, match=f"180 s holds 90 updates.*at least {2 * LEAST} s"):
        fit_to_time(recipe, load_data("digits"))
    with pytest.raises(RecipeError, match=r"train\.budget is not set"):
        fit_to_time(tiny(), load_data("digits"))


def test_what_cannot_be_trained_is_said_before_anything_is_measured(monkeypatch):
    asked = []
    pretend(monkeypatch, 1e-5, asked)
    with pytest.raises(Unsupported, match="eps says nothing"):
        fit_to_time(
            tiny("train.steps=null", "train.budget=60", "model.predicts=eps"), load_data("digits")
        )
    assert asked == []


def test_widths_scale_in_steps_that_vectors_and_heads_need(tmp_path):
    recipe = tiny("network.widths=[32, 64, 128]")
    assert scaled(recipe, 1.5).network.widths == [48, 96, 192]
    assert scaled(recipe, 0.1).network.widths == [8, 8, 16]
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 3)).astype("f4"))
    assert scaled(choose(str(tmp_path / "v.npy")), 0.5).network.width == 128
    assert load_recipe(scaled(recipe, 3).model_dump(mode="json")).network.widths == [96, 192, 384]
    for head, widths in ((None, [16, 32, 64]), (16, [16, 32, 64]), (32, [32, 32, 64])):
        dit = tiny("network={kind: dit, width: 32, depth: 1}", f"network.head={head or 'null'}")
        assert [scaled(dit, factor).network.width for factor in (0.5, 1, 2)] == widths


@pytest.mark.parametrize(
    ("fitting", "error"),
    [(16, MemoryError()), (64, OutOfMemory("no")), (8, RuntimeError("CUDA out of memory"))],
)
def test_sizes_that_do_not_fit_into_memory_are_passed_over(monkeypatch, fitting, error):
    def seconds(recipe, data, most=float("inf")):
        if recipe.network.widths[0] > fitting:
            raise error
        return 1e-6

    monkeypatch.setattr(sizing, "seconds_per_update", seconds)
    recipe = tiny("train.steps=null", "train.budget=5m", "network.widths=[64, 128]")
    if fitting < 16:  # the smallest
        with pytest.raises(OutOfMemory):
            fit_to_time(recipe, load_data("digits"))
        return
    fit = fit_to_time(recipe, load_data("digits"))
    assert fit.recipe.network.widths[0] == fitting
    assert "does not fit into memory" in " ".join(fit.tried)


def test_updates_are_really_made_and_leave_no_trace(monkeypatch):
    made = []
    update = sizing.Training._round
    monkeypatch.setattr(sizing.Training, "_round", lambda self: made.append(1) or update(self))
    recipe, before = tiny("train.steps=null", "train.budget=60"), torch.get_rng_state()
    data = parts_of(tiny())["train"]
    assert seconds_per_update(recipe, data) > 0
    assert len(made) == 1 + sizing.MEASURED
    assert torch.equal(torch.get_rng_state(), before)
    made.clear()
    assert seconds_per_update(recipe, data, most=1e-9) > 0
    assert len(made) == 1
