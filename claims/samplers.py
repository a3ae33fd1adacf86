"""Claims about the number of steps that a sampler needs."""

from __future__ import annotations

import math
from functools import cache

import torch

from unnoise.evaluation.intervals import Interval
from unnoise.paths import Chain, grid_for
from unnoise.randomness import Streams
from unnoise.solvers import get

from .claim import FAILS, HOLDS, WHEN, Finding, Value
from .registry import claim
from .worlds import F64, below, floor, quality, ring, share, spectrum_error, walk

PATH = Chain.linear().as_path()


def exact_error(solver: str, steps: int) -> float:
    """Return `spectrum_error` on the DDPM chain with the steps T, T − T/N, …, 0 of DDIM."""
    return spectrum_error(solver, grid_for(PATH, "trailing", steps), PATH)


@cache
def sampled_error(solver: str, steps: int, n: int = 4000, grid: str = "trailing") -> Interval:
    """Return the sliced W₂ of n samples on the ring."""
    field = ring(PATH)
    return quality(walk(solver, field, grid_for(PATH, grid, steps), n, (2,)))


@claim(
    "sampling",
    "introductions; Song et al. 2021a",
    "DDIM with 50 steps gives the same quality as 1000-step DDPM: about 20 times faster.",
)
def ddim_50_as_ddpm_1000() -> Finding:
    made = {name: sampled_error(name, n) for name, n in (("ddim", 50), ("ddpm", 1000))}
    exact = {name: exact_error(name, n) for name, n in (("ddim", 50), ("ddpm", 1000))}
    same = not below(made["ddpm"], made["ddim"])
    return Finding(
        {
            "ring, sliced W₂ of 4 × 1000 samples: DDIM 50": made["ddim"],
            "DDPM 1000": made["ddpm"],
            "exact samples": floor(4000),
            "Gaussian spectrum, exact W₂/rms: DDIM 50": exact["ddim"],
            "DDPM 1000 on the spectrum": exact["ddpm"],
        },
        WHEN if same else FAILS,
        "errors of a few per cent of the data's scale do not show" if same else "",
        "At 1000 samples the two cannot be told apart on the ring; with no sampling noise at all "
        "DDPM's 1000 steps are several times closer.",
    )


@claim(
    "sampling",
    "introductions",
    "DDIM's speed-up is 50-fold.",
)
def ddim_speedup_50() -> Finding:
    target = exact_error("ddpm", 1000)
    needed = next(n for n in (20, 50, 100, 200, 250, 500, 1000) if exact_error("ddim", n) <= target)
    made = {n: sampled_error("ddim", n) for n in (10, 20)}
    slow = sampled_error("ddpm", 1000)
    same = not below(slow, made[20])
    return Finding(
        {
            "ring, sliced W₂ of 4 × 1000 samples: DDIM 10": made[10],
            "DDIM 20": made[20],
            "DDPM 1000": slow,
            "Gaussian spectrum: DDIM steps that reach DDPM 1000's exact W₂": needed,
            "that is, times fewer": 1000 / needed,
        },
        WHEN if same else FAILS,
        "quality is judged by a thousand samples" if same else "",
        f"Measured without sampling noise, DDIM needs {needed} steps for the error that DDPM "
        f"has at 1000: {1000 / needed:.0f} times fewer.",
    )


@claim(
    "sampling",
    "Song et al. 2021a, table 1; introductions",
    "DDIM is better when steps are few, ancestral sampling (DDPM) when the full chain is walked.",
)
def ddim_few_ddpm_many() -> Finding:
    found: dict[str, Value] = {}
    better = {}
    for n in (10, 100, 1000):
        ddim, half, ddpm = (exact_error(s, n) for s in ("ddim", "ddim:eta=0.5", "ddpm"))
        found[f"Gaussian spectrum, {n} steps, exact W₂/rms: DDIM, η = ½, DDPM"] = (
            f"{ddim:.4f}, {half:.4f}, {ddpm:.4f}"
        )
        better[n] = ddim < ddpm
    few = sampled_error("ddim", 10), sampled_error("ddpm", 10)
    found["ring, 10 steps, sliced W₂ of 4 × 1000 samples: DDIM"] = few[0]
    found["the same, DDPM"] = few[1]
    return Finding(
        found,
        FAILS if better[10] and better[1000] else WHEN,
        "" if better[10] and better[1000] else "data have no fine scales",
        "The first half holds. With an exact field DDIM stays ahead at every number of steps: "
        "where DDPM wins at 1000 it is not by better discretisation but by correcting the "
        "network's errors (see stochastic_corrects_errors).",
    )


@claim(
    "sampling",
    "introductions; Lu et al. 2022; Zhang & Chen 2023; Zhao et al. 2023",
    "DPM-Solver, DEIS and UniPC reach comparable quality in 10 to 20 steps.",
)
def high_order_in_10_to_20() -> Finding:
    """Measure on a log-SNR grid down to σ/α = 0.01, which suits these samplers."""
    path, field = PATH, ring(PATH)
    reference = sampled_error("ddim", 250)
    found: dict[str, Value] = {"ring, sliced W₂ of 4 × 1000 samples: DDIM 250": reference}
    right = True
    for name in ("dpmpp_2m", "deis", "unipc"):
        for n in (10, 20):
            grid = grid_for(path, "log_snr", n, sigma_min=0.01)
            found[f"{name} {n}"] = made = quality(walk(name, field, grid, 4000, (2,)))
            right &= n == 10 or not below(reference, made)
    found["DDIM 20"] = sampled_error("ddim", 20)
    return Finding(
        found,
        HOLDS if right else FAILS,
        remark="" if right else "At 20 steps a difference can be seen.",
    )


@claim(
    "sampling",
    "Song et al. 2021a, eq. 12, 16",
    "The DDPM value of the noise knob recovers ancestral DDPM exactly; zero is DDIM, an Euler step "
    "of the probability-flow ODE in σ/α.",
)
def the_knob_has_ddpm_and_ddim() -> Finding:
    chain = PATH.chain
    field, noise = ring(PATH), Streams(0, range(16))
    x = noise.normal(2).double()
    grid = grid_for(PATH, "trailing", 1000)[-51:]
    after = noise.rewound(noise.mark())
    made = get("ddim", eta=1.0).solve(field, x, grid, noise).x
    by_hand = x
    for n in range(50, 0, -1):
        q = chain.posterior(n)
        x0 = field(by_hand, torch.tensor(n / 1000, dtype=F64)).x0
        by_hand = q.on_x0 * x0 + q.on_x * by_hand
        by_hand = by_hand + math.sqrt(q.variance) * after.normal(2).double()
    ddpm = float((made - by_hand).abs().max())
    ode = get("euler", coordinate="sigma").solve(field, x, grid).x
    ddim = float((get("ddim").solve(field, x, grid).x - ode).abs().max())
    right = max(ddpm, ddim) < 1e-10
    return Finding(
        {
            "50 steps of η = 1 against DDPM's recursion, same noise": ddpm,
            "η = 0 against Euler on dx̄ = ε·d(σ/α)": ddim,
        },
        HOLDS if right else FAILS,
        remark="" if right else "They are different samplers.",
    )


@claim(
    "sampling",
    "introductions; Song et al. 2021a",
    "η interpolates between DDIM and DDPM.",
)
def eta_is_between() -> Finding:
    found, right = {}, True
    for n in (10, 50, 200):
        errors = [exact_error(f"ddim:eta={eta}", n) for eta in (0.0, 0.25, 0.5, 0.75, 1.0)]
        found[f"{n} steps, exact W₂/rms for η = 0, ¼, ½, ¾, 1"] = ", ".join(
            f"{e:.4f}" for e in errors
        )
        right &= errors == sorted(errors)
    return Finding(found, HOLDS if right else FAILS, remark="" if right else "Not monotone.")


@claim(
    "sampling",
    "Song et al. 2021a, sec. 5.2; introductions",
    "With DDIM samples from the same latent share their high-level features whatever the number "
    "of steps.",
)
def same_latent_same_features() -> Finding:
    field = ring(PATH)
    modes = torch.stack([part.mean for part in field.parts])

    def mode(name: str, steps: int) -> torch.Tensor:
        made = walk(name, field, grid_for(PATH, "trailing", steps), 500, (2,))
        return torch.cdist(made, modes).argmin(1)

    found: dict[str, Value] = {}
    last = Interval(0, 0, 0)
    for name in ("ddim", "ddpm"):
        full = mode(name, 500)
        for n in (10, 20, 50):
            last = share(mode(name, n) == full)
            found[f"{name} {n} and 500 steps: share of latents that keep their mode"] = last
    same = [v for k, v in found.items() if k.startswith("ddim")]
    right = all(isinstance(v, Interval) and v.value > 0.85 for v in same) and last.value < 0.6
    return Finding(found, HOLDS if right else FAILS, remark="" if right else "Modes change.")


@claim(
    "sampling",
    "introductions",
    "A smooth ODE can be integrated with 20 to 50 evaluations where the SDE needs a thousand.",
)
def ode_20_to_50_sde_1000() -> Finding:
    def needed(solver: str, grid: str, limit: float) -> int | None:
        options = {"sigma_min": 0.002} if grid == "log_snr" else {}
        for n in (10, 20, 30, 50, 100, 200, 500, 1000):
            if spectrum_error(solver, grid_for(PATH, grid, n, **options), PATH) < limit:
                return n
        return None

    found: dict[str, Value] = {}
    counts = {}
    for name, label in (
        ("unipc", "UniPC-2 on the ODE"), ("ddim", "DDIM on the ODE"),
        ("ddpm", "ancestral"), ("euler_maruyama", "Euler–Maruyama on the SDE"),
    ):  # fmt: skip
        counts[name] = [needed(name, "log_snr", limit) for limit in (0.05, 0.01)]
        found[f"{label}: steps to W₂ < 5 % and < 1 % of the data's rms"] = ", ".join(
            str(c) if c else "over 1000" for c in counts[name]
        )
    right = counts["unipc"][1] is not None and counts["unipc"][1] <= 50
    right &= counts["ddpm"][1] is None or counts["ddpm"][1] >= 500
    return Finding(
        found,
        WHEN if right else FAILS,
        "the ODE's solver is of higher order" if right else "",
        "DDIM walks the same ODE and needs nearly as many steps as ancestral sampling; "
        "Euler–Maruyama on a grid even in log-SNR needs a few hundred, not a thousand.",
    )
