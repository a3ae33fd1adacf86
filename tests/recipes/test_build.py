import pytest
import torch

from tests.training.tiny import parts_of, tiny
from unnoise.errors import InvalidArgument, RecipeError, Unsupported
from unnoise.recipes import build_denoiser, build_objective, build_path, check, check_data

PATHS = {
    "flow": {},
    "trigonometric": {},
    "cosine": {"offset": 0.01},
    "vp": {"beta_last": 15.0},
    "sub_vp": {"beta_first": 0.2},
    "ve": {"sigma_max": 20.0},
    "edm": {"sigma_max": 60.0},
    "chain": {"steps": 50, "betas": "cosine"},
}


@pytest.mark.parametrize(("kind", "options"), PATHS.items())
def test_every_option_of_a_path_reaches_it(kind, options):
    t = torch.tensor([0.3, 0.7], dtype=torch.float64)
    plain = build_path(tiny(f"path.kind={kind}").path)
    for key, value in options.items():
        changed = build_path(tiny(f"path.kind={kind}", f"path.{key}={value}").path)
        both = [torch.stack([p.alpha(t), p.sigma(t)]) for p in (plain, changed)]
        assert not torch.allclose(*both, atol=1e-6)
    shifted = build_path(tiny(f"path.kind={kind}", "path.snr_factor=4").path)
    expected = plain.log_snr(t) + torch.log(torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(shifted.log_snr(t), expected)
    part = build_path(tiny(f"path.kind={kind}", "path.first=0.1", "path.last=0.9").path)
    assert torch.allclose(part.log_snr(torch.tensor(0.0)), plain.log_snr(torch.tensor(0.1)))
    assert torch.allclose(part.log_snr(torch.tensor(1.0)), plain.log_snr(torch.tensor(0.9)))


IMPOSSIBLE = [
    ("model.predicts=eps", "eps says nothing", "model.predicts=v"),
    ("model.predicts=score", "score", ""),
    ("objective.times.kind=chain", "chain", "path.kind=chain"),
    ("sample.grid.kind=trailing", "chain", "path.kind=chain"),
    ("sample.grid.kind=uniform sample.grid.rho=3", "rho", "sample.grid.kind=karras"),
    ("sample.solver=lms sample.grid.kind=uniform", "t = 1", "path.last=0.99"),
    ("sample.solver=dpmp_2m", "did you mean 'dpmpp_2m'", "sample.solver=ddim"),
    ("objective.weight=likelihood objective.times.kind=log_normal", "bound", "objective.weight=v"),
    ("objective.weight_parameter=3", "no parameter", "objective.weight=min_snr"),
    ("model.conditional=false", "sample.guidance=1", "sample.guidance=1"),
    ("objective.drop=0", "null condition", "sample.guidance=1"),
    ("sample.guidance=1 sample.rescale=0.5", "nothing is guided", "sample.guidance=2"),
    ("sample.guidance=1 sample.interval=[0.1,0.5]", "nothing is guided", "sample.guidance=2"),
    ("path.first=0.5 path.last=0.2", "first < last", "path.first=0.1"),
    ("path.kind=ve path.sigma_min=90", "sigma_min", "path.sigma_max=100"),
    (
        "path.kind=chain path.snr_factor=2 objective.times.kind=chain",
        "unchanged path.kind=chain",
        "path.snr_factor=1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "words", "remedy"), IMPOSSIBLE)
def test_impossible_recipes_are_refused_before_data_are_opened(overrides, words, remedy):
    recipe = tiny(*overrides.split(), "data.source=folder", "data.path=/nowhere")
    with pytest.raises((Unsupported, InvalidArgument, RecipeError), match=words):
        check(recipe)
    if remedy:
        check(tiny(*overrides.split(), remedy))


def test_guidance_needs_labels():
    labelled = parts_of(tiny())["train"].spec
    bare = parts_of(tiny())["train"]
    bare = type(labelled).from_dict(bare.spec.to_dict() | {"conditions": {}})
    check_data(tiny(), labelled)
    with pytest.raises(RecipeError, match=r"'digits' has no labels.*sample\.guidance=1"):
        check_data(tiny(), bare)
    check_data(tiny("sample.guidance=1"), bare)


def test_a_unet_on_vectors_names_the_remedy():
    spec = parts_of(tiny())["train"].spec.to_dict()
    spec |= {"modality": "vector", "shape": [5], "channels": "features"}
    vectors = type(parts_of(tiny())["train"].spec).from_dict(spec)
    recipe = tiny()
    with pytest.raises(Unsupported, match=r"network\.kind=mlp"):
        build_denoiser(recipe.path, recipe.network, recipe.model, vectors)
    mlp = tiny("network.kind=mlp")
    denoiser = build_denoiser(mlp.path, mlp.network, mlp.model, vectors)
    assert denoiser(torch.randn(3, 5), torch.tensor(0.5)).value.shape == (3, 5)


DITS = {
    "width": 96, "depth": 3, "patch": 1, "head": 32, "expand": 2.0, "positions": "sincos",
    "normalise": False, "embedding": 24,
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), DITS.items())
def test_every_key_of_a_transformer_reaches_it(key, value):
    spec = parts_of(tiny())["train"].spec
    recipe = tiny("network.kind=dit", "network.head=16", "network.width=32", "network.depth=1")
    other = tiny(*(f"network.{k}={v}" for k, v in recipe.network.model_dump().items() if v),
                 f"network.{key}={value}")  # fmt: skip
    plain, changed = (
        build_denoiser(r.path, r.network, r.model, spec).network for r in (recipe, other)
    )
    assert plain.config()["conditions"]["class"]["count"] == 10
    assert (plain.config()[key] != value, changed.config()[key]) == (True, value)
    assert {k for k, v in changed.config().items() if v != plain.config()[k]} <= {key, "embedding"}


def test_what_a_transformer_cannot_take_is_refused_before_training():
    spec = parts_of(tiny())["train"].spec.to_dict()
    kind, recipe = type(parts_of(tiny())["train"].spec), tiny("network.kind=dit")
    vectors = kind.from_dict(spec | {"modality": "vector", "shape": [5], "channels": "features"})
    with pytest.raises(Unsupported, match=r"kind is 'dit'.*network\.kind=mlp"):
        build_denoiser(recipe.path, recipe.network, recipe.model, vectors)
    large = tiny("network.kind=dit", "network.patch=9")
    with pytest.raises(InvalidArgument, match="patch is 9 and the data are 8 × 8"):
        build_denoiser(large.path, large.network, large.model, kind.from_dict(spec))
    with pytest.raises(RecipeError, match="head 48 does not divide width 256"):
        tiny("network.kind=dit", "network.head=48")
    learned = tiny("network.kind=dit", "network.positions=learned", "network.width=64")
    made = build_denoiser(learned.path, learned.network, learned.model, kind.from_dict(spec))
    assert made.network.config()["size"] == [8, 8]


def test_every_key_of_the_model_reaches_the_denoiser():
    spec = parts_of(tiny())["train"].spec
    recipe = tiny(
        "path.kind=edm", "model.predicts=x0", "model.preconditioned=true",
        "model.noise_input=log_snr", "model.conditional=false", "sample.guidance=1",
    )  # fmt: skip
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec)
    assert (denoiser.predicts, denoiser.preconditioned) == ("x0", True)
    assert denoiser.noise_input == "log_snr"
    assert denoiser.network.config()["conditions"] == {}
    ranged = type(spec).from_dict(spec.to_dict() | {"normalisation": "range"})
    assert build_denoiser(recipe.path, recipe.network, recipe.model, ranged).data_std == 0.5


def test_every_key_of_the_objective_reaches_it():
    made = build_objective(
        tiny(
            "objective.weight=min_snr", "objective.weight_parameter=3", "objective.drop=0.25",
            "objective.times={kind: logit_normal, mean: 0.5, std: 2, stratified: false}",
        ).objective
    )  # fmt: skip
    assert (made.weight.name, made.weight.parameter, made.condition_dropout) == ("min_snr", 3, 0.25)
    assert (made.times.mean, made.times.std, made.times.stratified) == (0.5, 2, False)


def test_the_seed_of_training_sets_the_first_weights():
    spec = parts_of(tiny())["train"].spec
    r = tiny()
    a, b, c = (build_denoiser(r.path, r.network, r.model, spec, seed) for seed in (0, 0, 1))
    first = [next(d.network.enter.parameters()) for d in (a, b, c)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
