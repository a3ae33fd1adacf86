"""Claims about chance: effects of stochastic sampling that deterministic sampling lacks."""

from __future__ import annotations

import math

import torch

from unnoise.fields import Gaussian
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

from .claim import FAILS, HOLDS, WHEN, Finding, Value
from .moments import moments
from .registry import claim
from .worlds import F64, Disturbed, ring, share

PATH = VPLinear()
ETAS = (0.0, 0.5, 1.0)


def remaining_shift(
    eta: float, first: float, last: float, by: float = 0.2, steps: int = 400
) -> float:
    """Return the shift of the mean of N(0, ½²) data, in deviations, that an error of ε leaves.

    ε is off by 0.2 (`by`) while first ≤ t < last. Exact moments, 400 steps.
    """
    field = Gaussian(torch.zeros(1, dtype=F64), 0.25, PATH)
    grid = grids.log_snr(PATH, steps, 1.0, 0.0, sigma_min=0.002)
    zero, one = torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)
    wrong = Disturbed(field, by, first, last)
    mean, _ = moments(get("ddim", eta=eta), wrong, grid, zero, one)  # type: ignore[arg-type]
    return abs(float(mean)) / 0.5


@claim(
    "randomness",
    "introductions; Song et al. 2021b; Karras et al. 2022, sec. 4",
    "The noise that stochastic sampling injects corrects accumulated errors of the score network; "
    "deterministic sampling keeps them.",
)
def stochastic_corrects_errors() -> Finding:
    found: dict[str, Value] = {}
    left = {}
    for label, first, last in (
        ("early, 0.5 ≤ t < 0.7", 0.5, 0.7), ("middle, 0.2 ≤ t < 0.3", 0.2, 0.3),
        ("late, t < 0.05", 0.0, 0.05), ("always", 0.0, 1.1),
    ):  # fmt: skip
        left[label[:4]] = [remaining_shift(eta, first, last) for eta in ETAS]
        found[f"ε off by 0.2 {label}: shift of the data's mean, deviations, η = 0, ½, 1"] = (
            ", ".join(f"{s:.4f}" for s in left[label[:4]])
        )
    right = left["earl"][2] < left["earl"][0] / 2
    late = left["late"][2] > left["late"][0]
    return Finding(
        found,
        (WHEN if late else HOLDS) if right else FAILS,
        "the errors lie early on, at much noise" if right and late else "",
        "What is wrong early is forgotten on a noisy walk and kept on a deterministic one. An "
        "error near the data cannot be corrected any more, and chance makes it worse: its drift "
        "uses the score twice.",
    )


@claim(
    "randomness",
    "introductions; Song et al. 2021b",
    "With a deterministic sampler all randomness is in the starting point: one noise, one image; "
    "a stochastic one gives another image each time.",
)
def one_noise_one_image() -> Finding:
    field, grid = ring(PATH), grids.log_snr(PATH, 50, 1.0, 0.0, sigma_min=0.01)
    start = Streams(0, range(1)).normal(2).double().expand(200, 2)
    spread = {}
    for name in ("ddim", "ddpm"):
        made = get(name).solve(field, start.clone(), grid, Streams(1, range(200))).x
        spread[name] = float((made - made.mean(0)).square().sum(1).mean().sqrt())
    right = spread["ddim"] < 1e-12 and spread["ddpm"] > 0.3
    return Finding(
        {f"rms spread of 200 runs from one noise, {k}": v for k, v in spread.items()},
        HOLDS if right else FAILS,
        remark="" if right else "The walk is not what it says.",
    )


@claim(
    "randomness",
    "introductions",
    "The map from noise to data is smooth: nearby noises decode to semantically nearby images.",
)
def nearby_noises_nearby_images() -> Finding:
    field, grid = ring(PATH), grids.log_snr(PATH, 100, 1.0, 0.0, sigma_min=0.01)
    modes = torch.stack([part.mean for part in field.parts])
    x = Streams(0, range(2000)).normal(2).double()
    step = Streams(0, range(2000), "step").normal(2).double()
    step = step / step.norm(dim=1, keepdim=True)

    def mode(start: torch.Tensor) -> torch.Tensor:
        return torch.cdist(get("ddim").solve(field, start, grid).x, modes).argmin(1)

    base, found, kept = mode(x), {}, []
    for size in (0.01, 0.1, 0.5):
        same = share(mode(x + size * step) == base)
        found[f"noises {size:g} apart: share that stay in one mode"] = same
        kept.append(same)
    right = kept[0].value > 0.98 and kept[2].value > 1 / 4
    return Finding(
        found,
        WHEN if right else FAILS,
        "the noises lie in one basin" if right else "",
        "The map is smooth but steep: between two modes there is a boundary, and noises on its "
        "two sides, however near, decode to different modes.",
    )


@claim(
    "randomness",
    "Song et al. 2021a; Song et al. 2021b",
    "Every η has the same marginals.",
)
def every_eta_same_marginals() -> Finding:
    """Measure the variance of unit-rms data after n steps, for several η, by exact moments."""
    field = Gaussian(torch.zeros(1, dtype=F64), 0.25, PATH)
    zero, one = torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)
    found: dict[str, Value] = {}
    last: list[float] = []
    for n in (10, 100, 1000):
        grid = grids.log_snr(PATH, n, 1.0, 0.0, sigma_min=0.002)
        last = [
            math.sqrt(float(moments(get("ddim", eta=eta), field, grid, zero, one)[1]) / 0.25)
            for eta in ETAS
        ]
        found[f"deviation of the samples/of the data, {n} steps, η = 0, ½, 1"] = ", ".join(
            f"{v:.4f}" for v in last
        )
    right = max(abs(v - 1) for v in last) < 0.01
    return Finding(
        found,
        WHEN if right else FAILS,
        "the steps are many" if right else "",
        "In the limit they do; at 10 steps the samplers have different spreads.",
    )


@claim(
    "randomness",
    "introductions; Ho et al. 2020",
    "DDPM's reverse variance may as well be β as β̃.",
)
def beta_or_beta_tilde() -> Finding:
    found: dict[str, Value] = {}
    wide = {}
    for n in (10, 100, 1000):
        grid = grids.uniform(n)
        for variance in ("posterior", "transition"):
            field = Gaussian(torch.zeros(1, dtype=F64), 0.25, PATH)
            zero, one = torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)
            _, made = moments(get("ddpm", variance=variance), field, grid, zero, one)
            wide[n, variance] = math.sqrt(float(made) / 0.25)
        found[f"deviation of the samples/of the data, {n} steps, β̃ and β"] = (
            f"{wide[n, 'posterior']:.4f}, {wide[n, 'transition']:.4f}"
        )
    gap = abs(wide[10, "posterior"] - wide[10, "transition"])
    near = abs(wide[1000, "posterior"] - wide[1000, "transition"]) < 0.02
    return Finding(
        found,
        WHEN if near and gap > 0.02 else FAILS,
        "the steps are many" if near and gap > 0.02 else "",
        "At 1000 steps the choice hardly shows; on few steps it does.",
    )
