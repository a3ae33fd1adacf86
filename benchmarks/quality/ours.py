"""unnoise: a shipped recipe, with nothing changed but the split, the budget and the seed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unnoise import load_recipe
from unnoise.recipes import Recipe, build_denoiser, build_objective, levels_of, resolved
from unnoise.training import Player, Training

from .learning import spent
from .task import EVALUATIONS, SPLITS, Task


def parameters_of(recipe: Recipe, task: Task) -> int:
    """Return the number of parameters of a recipe's network."""
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, task.train.spec)
    return sum(p.numel() for p in denoiser.network.parameters())


def recipe_for(task: Task, seconds: float, seed: int, most: int | None) -> Recipe:
    """Return the shipped recipe, made smaller if it has more than `most` parameters.

    All widths are multiplied by one factor and rounded to multiples of 8.
    """
    changed = [f"train.budget={seconds}s", f"train.seed={seed}", *SPLITS[task.name]]
    recipe = load_recipe(task.name, changed)
    if most is None or parameters_of(recipe, task) <= most:
        return recipe
    network = recipe.network.model_dump()
    key = "widths" if "widths" in network else "width"
    whole = network[key] if key == "widths" else [network[key]]
    for eighths in range(max(whole) // 8 - 1, 0, -1):
        scale = 8 * eighths / max(whole)
        widths = [max(8, 8 * round(w * scale / 8)) for w in whole]
        value = widths if key == "widths" else widths[0]
        recipe = load_recipe(task.name, [*changed, f"network.{key}={value}"])
        if parameters_of(recipe, task) <= most:
            return recipe
    raise ValueError(f"no width of {task.name} has at most {most} parameters")


def settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that decide a run, as plain values."""
    return resolved(recipe)


def run(task: Task, recipe: Recipe, draws: int) -> tuple[dict[str, Any], dict[str, list[Tensor]]]:
    """Train, and return (the costs, sets of raw samples by their sampling).

    Samplings: 50 evaluations without guidance, and the recipe's own.
    """
    spec = task.train.spec
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec, recipe.train.seed)
    objective = build_objective(recipe.objective, denoiser.data_std, levels_of(spec))
    player = Player.of(denoiser, objective, recipe.train)
    conditional = recipe.model.conditional
    training = Training(player, task.train, recipe.train, conditional, recipe=recipe)
    began = spent()
    for _ in training.updates():
        training.elapsed = spent() - began  # in place of wall time: here CPU time counts
    took, model = training.elapsed, training.model()
    request = {"condition": {"class": task.labels.tolist()}} if model.classes else {}
    request["n"] = len(task.labels)
    same, own = [], []
    for seed in range(1, draws + 1):
        same.append(model.sample(**request, steps=EVALUATIONS, guidance=1.0, seed=seed))
        own.append(model.sample(**request, seed=seed))
    assert same[0].nfe == EVALUATIONS, f"{same[0].nfe} evaluations"
    about = {
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "updates": training.step,
        "seen": training.seen,
        "cpu_seconds": took,
        "precision": training.precision.name,
        "conditional": bool(model.classes),
        "passes": {"equal": same[0].nfe, "own": own[0].nfe},
    }
    return about, {"equal": [s.values for s in same], "own": [s.values for s in own]}
