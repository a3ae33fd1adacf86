"""The objective section: its kinds, what each passes on, and what is refused."""

import pytest
import torch
import yaml

from tests.training.tiny import TREE, parts_of, tiny
from unnoise.errors import RecipeError, UnnoiseError
from unnoise.objectives import Denoising, Ladder, LossHistory, OneLevel, Uniform, Variational
from unnoise.recipes import (
    build_denoiser,
    build_objective,
    check,
    dump,
    levels_of,
    load_recipe,
    shipped,
)

CHAIN = ["path.kind=chain", "path.steps=20", "model.predicts=v"]
LEARNED = [*CHAIN, "model.learned_variance=true"]


def test_recipes_that_say_no_kind_are_denoising():
    assert tiny().objective.kind == "denoising"
    for name in shipped():
        recipe = load_recipe(name)
        assert recipe.objective.kind == "denoising"
        assert isinstance(build_objective(recipe.objective), Denoising)
        assert not recipe.model.learned_variance
    assert (
        load_recipe({k: v for k, v in TREE.items() if k != "objective"}).objective.condition_dropout
        == 0.1
    )


def test_another_kind_forgets_the_keys_of_denoising_but_not_the_drop():
    tree = TREE | {"objective": {"weight": "min_snr", "weight_parameter": 4, "drop": 0.3}}
    recipe = load_recipe(tree, [*LEARNED, "objective.kind=vlb"])
    assert recipe.objective.model_dump() == {
        "kind": "vlb", "variance": "learned", "steps": None, "condition_dropout": 0.3,
        "times": {"kind": "uniform", "stratified": True},
    }  # fmt: skip
    back = load_recipe(recipe.model_dump(mode="json"), ["objective.kind=denoising"])
    assert (back.objective.weight, back.objective.condition_dropout) == ("velocity", 0.3)
    same = load_recipe(tree, ["objective.kind=denoising"])
    assert same.objective.weight == "min_snr"


@pytest.mark.parametrize("kind", ["hybrid", "vlb"])
def test_resolved_recipes_read_back(kind, tmp_path):
    recipe = tiny(*LEARNED, f"objective.kind={kind}", "objective.times={kind: loss_history}")
    (tmp_path / "r.yaml").write_text(dump(recipe))
    assert load_recipe(tmp_path / "r.yaml") == recipe


def test_every_key_of_the_bounds_reaches_them():
    made = build_objective(
        tiny(
            *LEARNED, "objective.kind=hybrid", "objective.weight=min_snr", "objective.scale=0.1",
            "objective.weight_parameter=3", "objective.steps=7", "objective.drop=0.25",
            "objective.times={kind: loss_history, keep: 4, uniform: 0.01}",
        ).objective
    )  # fmt: skip
    assert isinstance(made, Variational)
    assert (made.weight.name, made.weight.parameter, made.scale) == ("min_snr", 3, 0.1)
    assert (made.steps, made.condition_dropout, made.variance) == (7, 0.25, "learned")
    assert isinstance(made.times, LossHistory)
    assert (made.times.keep, made.times.uniform) == (4, 0.01)
    made = build_objective(
        tiny(
            *CHAIN, "objective.kind=vlb", "objective.variance=transition",
            "objective.times.stratified=false",
        ).objective
    )  # fmt: skip
    assert (made.weight, made.scale, made.variance) == (None, 1.0, "transition")
    assert made.times == Uniform(False)
    assert build_objective(tiny("objective.kind=hybrid").objective).scale == 0.001
    edm = tiny("objective.kind=hybrid", "objective.weight=edm").objective
    assert build_objective(edm, 0.7).weight.parameter == 0.7


def test_every_distribution_of_times_can_be_asked_for():
    made = build_objective(
        tiny("objective.times={kind: ladder, levels: 5, sigma_min: 0.1, sigma_max: 9}").objective
    )
    assert made.times == Ladder(True, 5, 0.1, 9.0)
    made = build_objective(tiny("objective.times={kind: ladder, levels: null}").objective)
    assert made.times == Ladder(True, None)
    made = build_objective(tiny("objective.times={kind: one_level, sigma: 0.3}").objective)
    assert made.times == OneLevel(sigma=0.3)


@pytest.mark.parametrize(
    "network", ["{kind: unet, widths: [8], blocks: 1}", "{kind: mlp, width: 8}"]
)
def test_a_learned_variance_doubles_the_networks_channels(network):
    recipe = tiny(*LEARNED, f"network={network}", "objective.kind=hybrid")
    spec = parts_of(recipe)["train"].spec
    model = build_denoiser(recipe.path, recipe.network, recipe.model, spec)
    said = model(torch.zeros(2, *spec.shape), torch.tensor(0.5))
    assert said.value.shape == said.variance_fraction.shape == (2, *spec.shape)
    assert float(said.variance_fraction.detach().unique()) == 0.5  # of a network that answers zero


def test_the_levels_are_those_of_the_normalised_values():
    spec = parts_of(tiny())["train"].spec
    levels = levels_of(spec)
    raw = torch.arange(17, dtype=torch.uint8).reshape(17, 1, 1, 1).expand(17, *spec.shape)
    index = levels.index(spec.normalise(raw))
    assert torch.equal(index[:, 0, 0, 0], torch.arange(17.0))
    continuous = type(spec).from_dict(spec.to_dict() | {"dtype": "float32"})
    assert levels_of(continuous) is None


REFUSED = [
    ([*CHAIN, "objective.kind=hybrid"], "learned_variance"),
    ([*CHAIN, "objective.kind=vlb"], "objective.variance=posterior"),
    ([*LEARNED], "never trains it"),
    ([*LEARNED, "objective.kind=vlb", "objective.variance=posterior"], "never trains it"),
    (["model.learned_variance=true", "objective.kind=hybrid"], "objective.steps=1000"),
    ([*CHAIN, "sample.solver=ddpm:variance=learned"], "model.learned_variance is false"),
    (["objective.kind=hybird"], "did you mean 'hybrid'"),
    (["objective.kind=hybrid", "objective.scale=0"], "objective.scale"),
    (["objective.kind=vlb", "objective.weight=simple"], "unknown key 'objective.weight'"),
    (["objective.times={kind: loss_history}"], "objective.times is 'loss_history'"),
    (["objective.kind=vlb", "objective.times.uniform=0"], "uniform"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED)
def test_what_cannot_be_is_refused_before_any_work(overrides, words):
    with pytest.raises(UnnoiseError) as refused:
        check(tiny(*overrides))
    assert words in str(refused.value)


def test_what_can_be_is_not():
    check(tiny(*LEARNED, "objective.kind=hybrid"))
    check(tiny(*LEARNED, "objective.kind=vlb", "sample.solver=ddpm:variance=learned"))
    check(tiny(*CHAIN, "objective.kind=vlb", "objective.variance=posterior"))
    check(tiny("model.learned_variance=true", "objective.kind=hybrid", "objective.steps=50"))
    with pytest.raises(RecipeError, match="never trains"):
        check(tiny("model.learned_variance=true"))


def test_dropout_is_one_share_or_one_by_name_and_its_old_key_is_read():
    shares = {"class": 0.1, "age": 0.25}
    made = load_recipe(TREE, ["objective.condition_dropout={class: 0.1, age: 0.25}"])
    assert made.objective.condition_dropout == shares
    assert [made.objective.dropout(name) for name in ("class", "age", "kind")] == [0.1, 0.25, 0]
    assert build_objective(made.objective).condition_dropout == shares
    assert load_recipe(yaml.safe_load(dump(made))) == made
    for old in (
        load_recipe(TREE, ["objective.drop=0.2"]),
        load_recipe(TREE | {"objective": {"drop": 0.2}}),
        load_recipe(TREE | {"objective": {"drop": 0.1}}, ["objective.condition_dropout=0.2"]),
        load_recipe(TREE, ["objective={weight: v, drop: 0.2}"]),
    ):
        assert old.objective.condition_dropout == 0.2
        assert old.objective.dropout("anything") == 0.2
    both = {"objective": {"drop": 0.2, "condition_dropout": 0.2}}
    with pytest.raises(RecipeError, match="both are given"):
        load_recipe(TREE | both)
    for wrong in ("1.1", "true", "many", "{class: 2}", "[0.1]"):
        with pytest.raises(RecipeError, match="give a share from 0 to 1"):
            load_recipe(TREE, [f"objective.condition_dropout={wrong}"])
