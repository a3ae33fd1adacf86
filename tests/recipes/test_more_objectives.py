"""Score matching, maximum likelihood and couplings in recipes; solvers by the names of others."""

from typing import get_args

import pytest

from tests.training.tiny import TREE, tiny
from unnoise.errors import InvalidArgument, RecipeError, UnnoiseError, Unsupported
from unnoise.likelihood import Levels
from unnoise.objectives import (
    Denoising,
    FiniteDifferenceScoreMatching,
    ImplicitScoreMatching,
    MaximumLikelihood,
    OneLevel,
    SlicedScoreMatching,
    Uniform,
    weight,
)
from unnoise.paths import GRIDS, Coupled, Flow, Optimal, VPLinear
from unnoise.recipes import build_objective, build_path, check, dump, load_recipe, shipped
from unnoise.recipes.objectives import DenoisingObjective, MaximumLikelihoodObjective
from unnoise.recipes.sample_section import GridConfig
from unnoise.solvers.tableaux import TABLEAUX

SCORE = "objective.kind=score_matching"
FLOW = "objective.kind=maximum_likelihood"
OPTIMAL = "objective.coupling=optimal"


def made_of(*overrides):
    return build_objective(tiny(*overrides).objective)


def test_score_matching_by_each_method():
    assert made_of(SCORE) == SlicedScoreMatching(weight("simple"), Uniform(True), 0.1)
    assert made_of(
        SCORE, "objective.projections=3", "objective.distribution=gaussian",
        "objective.variance_reduced=false", "objective.weight=min_snr", "objective.drop=0.2",
        "objective.weight_parameter=4", "objective.times={kind: one_level, sigma: 0.5}",
    ) == SlicedScoreMatching(
        weight("min_snr", 4), OneLevel(sigma=0.5), 0.2, 3, "gaussian", False
    )  # fmt: skip
    assert made_of(SCORE, "objective.method=implicit") == ImplicitScoreMatching(
        weight("simple"), Uniform(True), 0.1
    )
    assert made_of(
        SCORE, "objective.method=finite_difference", "objective.step=0.01"
    ) == FiniteDifferenceScoreMatching(weight("simple"), Uniform(True), 0.1, step=0.01)


def test_maximum_likelihood_with_its_keys():
    assert made_of(FLOW) == MaximumLikelihood(8, "rk4", "exact", 0.1)
    assert made_of(
        FLOW, "objective.steps=3", "objective.tableau=heun", "objective.trace=hutchinson"
    ) == MaximumLikelihood(3, "heun", "hutchinson", 0.1)
    levels = Levels((-1.0,), (1.0,), 17)
    assert build_objective(tiny(FLOW).objective, levels=levels).levels == levels
    said = MaximumLikelihoodObjective.model_fields["tableau"].annotation
    assert set(get_args(said)) == set(TABLEAUX)


def test_couplings_and_their_path():
    plain = tiny()
    assert (plain.path.coupled, build_path(plain.path)) == (None, Flow())
    for asked in (
        [OPTIMAL],
        ["objective.coupling={kind: optimal}"],
        ["objective.coupling.kind=optimal"],
        [FLOW],
    ):
        recipe = tiny(*asked)
        assert build_path(recipe.path) == Coupled(Flow())
        check(recipe)
    assert made_of("objective.coupling={kind: optimal, entropy: 0.05}").coupling == Optimal(0.05)
    assert made_of(OPTIMAL).coupling == Optimal(0)
    assert (
        made_of("objective.coupling=independent")
        == made_of()
        == build_objective(DenoisingObjective(times=plain.objective.times))
    )
    vp = tiny("path.kind=vp", "path.snr_factor=2", "path.first=0.1", OPTIMAL)
    assert build_path(vp.path) == Coupled(VPLinear().shifted(2).restricted(0.1, 1))
    assert build_path(tiny("path.coupled=gaussian").path) == Coupled(Flow())


@pytest.mark.parametrize(
    "overrides",
    [
        [SCORE, "objective.method=implicit"],
        [SCORE, "objective.projections=2"],
        [FLOW, "objective.trace=hutchinson"],
        ["objective.coupling={kind: optimal, entropy: 0.1}"],
        [OPTIMAL, "path.kind=vp"],
        ["sample.solver=DPM++ 2M SDE Heun Exponential"],
    ],
)
def test_resolved_recipes_read_back(overrides, tmp_path):
    recipe = tiny(*overrides)
    (tmp_path / "r.yaml").write_text(dump(recipe))
    assert load_recipe(tmp_path / "r.yaml") == recipe
    assert load_recipe(recipe.model_dump(mode="json")) == recipe


def test_recipes_that_say_nothing_of_it_are_as_they_were():
    for name in shipped():
        recipe = load_recipe(name)
        tree = recipe.model_dump(mode="json")
        del tree["path"]["coupled"], tree["objective"]["coupling"]
        assert load_recipe(tree) == recipe
        assert "coupled" not in dump(recipe)
        assert isinstance(build_objective(recipe.objective), Denoising)
        assert build_path(recipe.path).independent


REFUSED = [
    ([SCORE, "objective.method=implicit", "objective.projections=2"], "projections=null"),
    ([SCORE, "objective.method=implicit", "objective.step=1"], "method=finite_difference"),
    ([SCORE, "objective.step=0.1"], "method 'sliced' has no step"),
    (
        [SCORE, "objective.method=finite_difference", "objective.variance_reduced=true"],
        "has no variance_reduced",
    ),
    ([SCORE, "objective.method=slicd"], "did you mean 'sliced'"),
    ([SCORE, "path.coupled=gaussian"], "path.coupled=null"),
    ([SCORE, "objective.times={kind: one_level, sigma: 0}"], "velocity does not determine score"),
    ([SCORE, "path.kind=vp", "objective.times={kind: one_level, sigma: 1e6}"], "noise level"),
    ([SCORE, "objective.coupling=optimal"], "unknown key 'objective.coupling'"),
    ([FLOW, "path.kind=vp"], "signal left"),
    ([FLOW, "path.coupled=null"], "path.coupled=gaussian"),
    ([FLOW, "model.predicts=x0"], "x0 does not determine velocity"),
    ([FLOW, "objective.weight=simple"], "unknown key 'objective.weight'"),
    ([FLOW, "objective.tableau=rk5"], "did you mean 'rk4'"),
    ([OPTIMAL, "path.coupled=null"], "objective.coupling=optimal needs a path whose ends"),
    ([OPTIMAL, "train.batch=1"], "raise train.batch"),
    ([OPTIMAL, "train.batch=4", "train.accumulate=4"], "raise train.batch"),
    ([OPTIMAL, "sample.solver=ddpm"], "use a deterministic solver"),
    ([OPTIMAL, "sample.solver=ddim:eta=0.5"], "use a deterministic solver"),
    ([OPTIMAL, "sample.solver=Euler a Karras"], "use a deterministic solver"),
    ([OPTIMAL, "objective.weight=likelihood"], "with coupled ends it bounds nothing"),
    ([OPTIMAL, "path.kind=ve", "model.predicts=score"], "independent coupling"),
    (["objective.coupling=optimum"], "did you mean 'optimal'"),
    (["objective.coupling={kind: independent, entropy: 0.1}"], "objective.coupling.entropy"),
    (["objective.coupling={kind: optimal, entropy: -1}"], "entropy"),
    (["path.coupled=data"], "path.coupled"),
    (
        ["path.coupled=gaussian", "model.learned_variance=true", "objective.kind=hybrid"],
        "path.coupled=null",
    ),
    (["sample.solver=LCM"], "flow map and no field"),
    (["sample.solver=DPM++ 2N Karras"], "did you mean 'DPM++ 2M' of A1111"),
    (["sample.solver=DDIMScheduler:eta=0.3"], "rows of the table have"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED, ids=lambda v: str(v)[:60])
def test_what_cannot_be_is_refused_before_any_work(overrides, words):
    with pytest.raises(UnnoiseError) as refused:
        check(tiny(*overrides))
    assert words in str(refused.value)


def test_what_can_be_is_not():
    check(tiny(SCORE, "path.kind=ve", "model.predicts=score"))
    check(tiny(SCORE, "objective.method=implicit", "model.predicts=x0"))
    check(tiny(FLOW, "path.kind=trigonometric", "model.predicts=v"))
    check(tiny(OPTIMAL, "sample.solver=DPM++ 2M"))


def test_another_kind_forgets_the_keys_but_the_path_says_what_it_is():
    coupled = load_recipe(tiny(OPTIMAL).model_dump(mode="json"), [SCORE])
    assert coupled.path.coupled == "gaussian"
    with pytest.raises(RecipeError, match=r"path\.coupled=null"):
        check(coupled)
    back = load_recipe(coupled.model_dump(mode="json"), ["path.coupled=null"])
    check(back)
    assert tiny("path.kind=vp", "path.coupled=gaussian").path.coupled == "gaussian"


def test_solvers_by_the_names_of_others_become_ours():
    said = tiny("sample.solver=DPM++ 2M SDE Heun").sample
    assert (said.solver, said.grid) == ("dpmpp_2m_sde:rule=exact", GridConfig(kind="log_snr"))
    said = tiny("sample.solver=DPM++ 2M SDE Karras").sample
    assert (said.solver, said.grid.kind) == ("dpmpp_2m_sde", "karras")
    given = tiny("sample.solver=DPM++ 2M SDE", "sample.grid={kind: uniform}").sample
    assert (given.solver, given.grid.kind) == ("dpmpp_2m_sde", "uniform")
    offset = tiny("path.kind=chain", "sample.solver=euler ddim_uniform")
    assert (offset.sample.grid.kind, offset.sample.grid.offset) == ("leading", 1)
    check(offset)
    old = TREE | {"sample": {"solver": "ddim", "grid": {"kind": "uniform"}, "guidance": 1.5}}
    new = load_recipe(old, ["sample.solver=DPM++ 2M Karras"]).sample  # the name says a grid
    assert (new.solver, new.grid.kind) == ("dpmpp_2m", "karras")
    assert load_recipe(old, ["sample.solver=heun"]).sample.grid.kind == "uniform"
    assert tiny("sample.solver=heun").sample.solver == "heun"  # ours, not ComfyUI's
    with pytest.raises((InvalidArgument, Unsupported), match="chain"):
        check(tiny("sample.solver=Euler a"))


def test_every_grid_can_be_asked_for():
    kinds = get_args(GridConfig.model_fields["kind"].annotation)
    assert set(kinds) == {*GRIDS, "own"}
    chain = "path.kind=chain"
    for asked in (
        "{kind: leading, offset: 1}",
        "{kind: beta, a: 0.5, b: 0.7}",
        "{kind: align_your_steps, model: sdxl}",
        "{kind: sgm_uniform}",
    ):
        check(tiny(chain, f"sample.grid={asked}"))
    with pytest.raises(InvalidArgument, match="offset"):
        check(tiny(chain, "sample.grid={kind: karras, offset: 1}"))


def test_the_weight_edm_of_score_matching_knows_the_datas_deviation():
    recipe = tiny(SCORE, "objective.weight=edm")
    assert build_objective(recipe.objective, 0.7).weight == weight("edm", 0.7)
