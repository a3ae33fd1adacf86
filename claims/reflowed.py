"""Reflow on a trained network: a student is trained on the pairs that the flow model joins."""

from __future__ import annotations

from functools import lru_cache

import torch

from unnoise.fields import Condition, Denoiser
from unnoise.objectives import Denoising, weight
from unnoise.paths import Coupled, grids
from unnoise.randomness import Streams
from unnoise.recipes import build_network
from unnoise.solvers import get
from unnoise.training.ema import Ema
from unnoise.training.optimizers import build_optimizers
from unnoise.transport import reflow, straightness, translate

from .claim import FAILS, HOLDS, Finding, Interval, Value
from .models import PART, TRAINED, judge, mean_of, model
from .registry import claim

PAIRS, UPDATES, BATCH = 4000, 600, 64


def _given(n: int) -> Condition:
    return Condition({"class": torch.arange(n) % 10}, torch.ones(n, dtype=torch.bool))


@lru_cache
def student() -> Denoiser:
    """Return the flow model trained further, on pairs of noise and its own samples (20 steps)."""
    teacher = model("flow")
    path, shape = teacher.denoiser.path, teacher.spec.shape
    pairs = reflow(
        teacher.denoiser, Streams(7, range(PAIRS)), shape, get("dpmpp_2m"),
        grids.karras(path, 20), _given(PAIRS), teacher.denoiser.data_std, 500,
    )  # fmt: skip
    network = build_network(teacher.recipe.network, teacher.recipe.model, teacher.spec, 0)
    network.load_state_dict(teacher.denoiser.network.state_dict())
    made = Denoiser(network, Coupled(path), "velocity", data_std=teacher.denoiser.data_std)
    optimizers = build_optimizers(network, teacher.recipe.train.optimizer)
    ema = Ema(network.parameters(), gamma=9.0)
    objective = Denoising(weight("velocity"))
    for step in range(UPDATES):
        optimizers.scale(0.3 * (1 - step / UPDATES))
        noise = Streams(8, range(step * BATCH, (step + 1) * BATCH), "reflow")
        rows = noise.purpose("rows").integers(PAIRS)
        objective(made, pairs.batch(rows), noise).value.backward()
        optimizers.step()
        optimizers.zero_grad()
        ema.update()
    with torch.no_grad():
        for weights, average in zip(network.parameters(), ema.averages, strict=True):
            weights.copy_(average)
    return made.eval().requires_grad_(False)


@claim(
    "trained",
    "Liu et al. 2023; introductions",
    "Reflow straightens the trajectories further and makes few Euler steps better.",
    f"{TRAINED}, and as a student 600 more on its own pairs",
)
def reflow_straightens_further() -> Finding:
    spec = model("flow").spec
    fields = {"flow": model("flow").denoiser, "reflowed": student()}
    x1 = Streams(9, range(PART)).normal(*spec.shape)
    grid = torch.linspace(1, 0.002, 33, dtype=torch.float64)
    found: dict[str, Value] = {}
    bent: dict[str, Interval] = {}
    score: dict[tuple[str, int], float] = {}
    for name, field in fields.items():
        given = field.conditioned(_given(PART))
        numbers = x1[0].numel()
        bent[name] = mean_of(straightness(given, x1, grid).deviation.numpy() / numbers)
        found[f"{name}: E∫‖Δ − v‖²dt a number"] = bent[name]
        for steps in (1, 2, 4):
            times = torch.linspace(1, 0.002, steps + 1, dtype=torch.float64)
            with torch.no_grad():
                made = spec.restore(translate(given, x1, times, "euler"))
            score[name, steps] = judge().frechet(made)
            found[f"{name}, {steps} Euler steps: Fréchet ÷ floor"] = score[name, steps]
    straighter = bent["reflowed"].high < bent["flow"].low
    better = all(score["reflowed", n] < score["flow", n] for n in (1, 2, 4))
    return Finding(
        found,
        HOLDS if straighter and better else FAILS,
        remark="" if straighter and better else "one of the two is not seen",
    )
