"""The smallest real run: scikit-learn's digits, a few thousand weights, a few updates."""

from dataclasses import replace
from functools import lru_cache

import torch

from unnoise.artifacts import Model
from unnoise.objectives import Objective
from unnoise.recipes import (
    build_denoiser,
    build_objective,
    levels_of,
    load_recipe,
    open_parts,
)
from unnoise.training import Checkpoints, Player, Training

TREE = {
    "name": "tiny",
    "data": {"source": "digits", "split": {"validation": 100, "test": 100}},
    "path": {"kind": "flow"},
    "network": {"kind": "unet", "widths": [8, 16], "blocks": 1},
    "objective": {"drop": 0.1},
    "train": {"steps": 4, "batch": 16, "reports": 1, "precision": "fp32"},
    "sample": {"steps": 3, "guidance": 1.5},
    "evaluate": {"samples": 40, "judge": False},
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


def training_of(recipe, levels=None, double=False):
    """A fresh Training of a recipe; `double` in float64, where rounding hides nothing."""
    parts = parts_of(recipe)
    denoiser = build_denoiser(
        recipe.path, recipe.network, recipe.model, parts["train"].spec, recipe.train.seed
    )
    objective = build_objective(recipe.objective, levels=levels)
    player = Player.of(denoiser.double() if double else denoiser, objective, recipe.train)
    conditional = recipe.model.conditional
    training = Training(player, parts["train"], recipe.train, conditional, recipe=recipe)
    if double:
        batch = training.batch

        def wide(counter, size):
            found, noise = batch(counter, size)
            return replace(found, x0=found.x0.double()), noise

        training.batch = wide
    return training


class Changed(Objective):
    """An objective whose loss is `change(model, batch, noise)` and whose rest is another's."""

    def __init__(self, objective, change):
        self.objective, self.change = objective, change
        self.state, self.load_state = objective.state, objective.load_state
        self.held_out, self.mean_baseline_loss = objective.held_out, objective.mean_baseline_loss

    def __call__(self, model, batch, noise):
        return self.change(model, batch, noise)


def with_objective(training, change):
    """The same training, whose losses are `change(model, batch, noise)`."""
    training.leader.objective = Changed(training.objective, change)
    return training


def with_levels(recipe):
    """A fresh Training whose objective knows the levels of discrete data."""
    return training_of(recipe, levels_of(parts_of(recipe)["train"].spec))


def model_of(recipe, size=0.05):
    """A model that was never trained, its weights random so that it answers something."""
    spec = parts_of(recipe)["train"].spec
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    modules = {"denoiser": denoiser.eval().requires_grad_(False)}
    return Model(modules, recipe, spec, {"updates": 0})


def run_steps(training, count):
    """Drive `count` updates; their losses."""
    updates = training.updates()
    return [float(next(updates).loss) for _ in range(count)]


def check_resume(make, folder, updates, *pauses):
    """Stop at each of `pauses`, save, do some more that must not matter, go on in a new Training:
    losses and every tensor must be those of a run that never stopped. (straight, resumed)."""
    straight = make()
    losses = run_steps(straight, updates)
    training, said = make(), []
    for pause in pauses:
        said += run_steps(training, pause - training.step)
        Checkpoints(folder).save(training.state(), {"pause": pause})
        if training.step < updates:
            run_steps(training, 1)
        training = make()
        state, saved = Checkpoints(folder).load()
        assert saved == {"pause": pause}
        training.load_state(state)
    said += run_steps(training, updates - training.step)
    assert said == losses
    assert_same(everything(training), everything(straight))
    for name in ("step", "seen", "progress"):
        assert getattr(training, name) == getattr(straight, name)
    assert training.ema.updates == straight.ema.updates
    return straight, training


def everything(training):
    """Every tensor that a resumed run must have again, by name."""
    state = training.state()["players"]["denoiser"]
    out = {f"weights.{k}": v.clone() for k, v in state["weights"].items()}
    out |= {f"ema.{k}": v.clone() for k, v in state["ema"].items()}
    for i, part in enumerate(state["optimizers"]):
        for key, slots in part["state"].items():
            for name, value in slots.items():
                out[f"optimizer.{i}.{key}.{name}"] = torch.as_tensor(value).clone()
        for key, group in enumerate(part["param_groups"]):
            out[f"rate.{i}.{key}"] = torch.tensor(group["lr"], dtype=torch.float64)
    return out | {f"objective.{k}": v.clone() for k, v in state["objective"].items()}


def assert_same(a, b):
    """Bitwise equality of two `everything`s."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


def first_states(training, count=4):
    """Its states after 1, 2, … updates, each with weights and averages of its own."""
    out = []
    for _ in range(count):
        run_steps(training, 1)
        state = training.state()
        player = state["players"]["denoiser"]
        for part in ("weights", "ema"):
            player[part] = {k: v.clone() for k, v in player[part].items()}
        out.append(state)
    return out
