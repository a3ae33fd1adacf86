"""The size of the network that fits a budget of time and leaves enough updates."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from ..data import Dataset
from ..errors import OutOfMemory, RecipeError
from ..recipes import (
    Recipe,
    build_denoiser,
    build_objective,
    check,
    check_data,
    levels_of,
    parts_of,
)
from .batches import memory_named
from .loop import Training
from .player import Player

FACTORS = (0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # of the widths of the recipe
UPDATES, AT = 1500, 120.0  # updates wanted in a budget of AT seconds
LEAST = 100  # updates; a budget for fewer is refused
MEASURED = 3  # updates timed of each size that is tried


@dataclass(frozen=True)
class Fit:
    """A recipe whose network fits its budget.

    seconds: time of one update on this machine; tried: a line on every size that was timed.
    """

    recipe: Recipe
    seconds: float
    tried: tuple[str, ...]

    @property
    def updates(self) -> int:
        """The number of updates that fit into the budget."""
        assert self.recipe.train.budget is not None
        return int(self.recipe.train.budget / self.seconds)


def wanted_updates(budget: float) -> float:
    """Return the updates wanted in `budget` seconds: 1500·√(budget / 120 s), at least 300.

    So a longer budget gives more updates and larger ones, by the same factor. This is a rule of
    thumb from a few runs of two and five minutes (as in benchmarks/recipe_search.py), not a fit.
    """
    return max(300.0, UPDATES * (budget / AT) ** 0.5)


def seconds_per_update(recipe: Recipe, data: Dataset, most: float = float("inf")) -> float:
    """Return the wall-clock seconds of one update on this machine: the median of a few.

    data: the training part. most: if the first update, which includes the warm-up, takes more than
    ten times this, its time is returned. All processes get the same value.
    """
    config = recipe.train.model_copy(update={"steps": 1 + MEASURED, "budget": None, "workers": 0})
    model = build_denoiser(recipe.path, recipe.network, recipe.model, data.spec, config.seed)
    objective = build_objective(recipe.objective, model.data_std, levels_of(data.spec))
    player = Player.of(model, objective, config)
    training = Training(player, data, config, recipe.model.conditional)
    times: list[float] = []
    with closing(training.updates()) as updates:
        while True:
            began = time.perf_counter()
            if next(updates, None) is None:
                return statistics.median(times[1:])
            if training.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(training.processes.broadcast(time.perf_counter() - began))
            if times[0] > 10 * most:
                return times[0]


def fit_to_time(recipe: Recipe, data: Dataset) -> Fit:
    """Return the recipe with its network's widths scaled to fit its budget.

    Sizes are timed on this machine, a few updates each, by bisection over `FACTORS`; the largest
    that leaves `wanted_updates` and fits into memory is taken. data: the whole data set. Raises
    RecipeError if the recipe has no budget, or one that holds fewer than 100 updates of the
    smallest network; OutOfMemory if the smallest does not fit into memory.
    """
    budget = recipe.train.budget
    if budget is None:
        raise RecipeError("train.budget is not set, so there is no time to fit; give a budget")
    check(recipe)
    part = parts_of(recipe, data)["train"]
    check_data(recipe, part.spec)
    need = budget / wanted_updates(budget)
    spent: dict[int, float] = {}
    tried = []

    def measure(k: int) -> float:
        if k not in spent:
            sized = scaled(recipe, FACTORS[k])
            try:
                with memory_named():
                    spent[k] = seconds_per_update(sized, part, need)
                tried.append(f"{_sizes(sized)}: {1000 * spent[k]:.0f} ms an update")
            except OutOfMemory:
                if k == 0:
                    raise
                spent[k] = float("inf")
                tried.append(f"{_sizes(sized)}: does not fit into memory")
        return spent[k]

    low, high = 0, len(FACTORS)  # FACTORS[low] is taken; from `high` on all are too slow
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if measure(middle) <= need else (low, middle)
    seconds = measure(low)
    if budget / seconds < LEAST:
        raise RecipeError(
            f"a budget of {budget:g} s holds {int(budget / seconds)} updates of the smallest "
            f"network here, and fewer than {LEAST} teach it nothing; give at least "
            f"{LEAST * seconds:.0f} s, smaller data (--size), or the network yourself"
        )
    return Fit(scaled(recipe, FACTORS[low]), seconds, tuple(tried))


def scaled(recipe: Recipe, factor: float) -> Recipe:
    """Return the recipe with all widths of its network × factor, in multiples of 8 or of a head."""
    network = recipe.network
    sizes: dict[str, Any] = {}
    if (widths := getattr(network, "widths", None)) is not None:
        sizes["widths"] = [_round(width * factor) for width in widths]
    elif (width := getattr(network, "width", None)) is not None:
        step = getattr(network, "head", None) or 8
        sizes["width"] = max(step, step * round(width * factor / step))
    return recipe.model_copy(update={"network": network.model_copy(update=sizes)})


def _round(width: float) -> int:
    return max(8, 8 * round(width / 8))


def _sizes(recipe: Recipe) -> str:
    network = recipe.network
    return f"{network.kind} {getattr(network, 'widths', None) or getattr(network, 'width', '')}"
