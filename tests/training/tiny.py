"""The smallest real run: scikit-learn's digits, a few thousand weights, a few updates."""

from functools import lru_cache

import torch

from unnoise.artifacts import Model
from unnoise.recipes import build_denoiser, build_objective, load_recipe, open_parts
from unnoise.training import Training

TREE = {
    "name": "tiny",
    "data": {"source": "digits", "split": {"validation": 100, "test": 100}},
    "path": {"kind": "flow"},
    "network": {"kind": "unet", "widths": [8, 16], "blocks": 1},
    "objective": {"drop": 0.1},
    "train": {"steps": 4, "batch": 16, "reports": 1, "precision": "fp32"},
    "sample": {"steps": 3, "guidance": 1.5},
    "evaluate": {"samples": 40},
}


def tiny(*overrides):
    """The tiny recipe, with overrides."""
    return load_recipe(TREE, overrides)


@lru_cache(maxsize=4)
def _parts(data):
    return open_parts(load_recipe(TREE | {"data": dict(data)}))[1]


def parts_of(recipe):
    """The parts of a recipe's data, opened once for all tests."""
    if recipe.data.source != "digits":
        return open_parts(recipe)[1]
    split = recipe.data.split.model_dump(exclude_none=True)
    return _parts((("source", "digits"), ("split", _frozen(split))))


class _frozen(dict):
    def __hash__(self):
        return hash(tuple(sorted(self.items())))


def training_of(recipe, seed=0):
    """A fresh Training of a recipe."""
    parts = parts_of(recipe)
    denoiser = build_denoiser(
        recipe.path, recipe.network, recipe.model, parts["train"].spec, recipe.train.seed
    )
    return Training(
        denoiser,
        build_objective(recipe.objective),
        parts["train"],
        recipe.train,
        recipe.model.conditional,
    )


def model_of(recipe, size=0.05):
    """A model that was never trained, its weights random so that it answers something."""
    spec = parts_of(recipe)["train"].spec
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return Model(denoiser.eval().requires_grad_(False), recipe, spec, {"updates": 0})


def run_steps(training, count):
    """Drive `count` updates; their losses."""
    updates = training.updates()
    return [float(next(updates).loss) for _ in range(count)]


def everything(training):
    """Every tensor that a resumed run must have again, by name."""
    state = training.state()
    out = {f"weights.{k}": v.clone() for k, v in state["weights"].items()}
    out |= {f"ema.{k}": v.clone() for k, v in state["ema"].items()}
    for i, part in enumerate(state["optimizers"]):
        for key, slots in part["state"].items():
            for name, value in slots.items():
                out[f"optimizer.{i}.{key}.{name}"] = torch.as_tensor(value).clone()
    return out


def assert_same(a, b):
    """Bitwise equality of two `everything`s."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different
