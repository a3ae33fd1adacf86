"""Claims about likelihoods of trained networks, on digits outside their training data."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from unnoise.likelihood import decode, encode
from unnoise.pipelines import measure_likelihood

from .claim import FAILS, HOLDS, Finding, Interval
from .models import TRAINED, folder, judge, model, quality
from .registry import claim

HELD = 100  # digits of the test part


@lru_cache
def bits(name: str, **asked: Any) -> Interval:
    """Return bits/dim of the test digits (17 levels) under a model, given their class."""
    model(name)
    report = measure_likelihood(folder(name), n=HELD, part="test", batch=HELD, **asked)
    mean, low, high = report.interval()
    return Interval(*(report.in_bits(-nats) for nats in (mean, high, low)))


@claim(
    "trained",
    "Ho et al. 2020, section 3.4",
    "The simplified loss gives better samples, the full variational bound the better likelihood.",
    TRAINED,
)
def trained_simple_loss_against_bound() -> Finding:
    found = {
        "unweighted loss (of v): bits/dim": bits(
            "cosine chain, v", bound=True, variance="transition"
        ),
        "trained on the bound: bits/dim": bits("full bound", bound=True, variance="transition"),
        "unweighted loss: Fréchet ÷ floor, DDIM 50": quality("cosine chain, v", "ddim", 50).frechet,
        "trained on the bound: Fréchet ÷ floor": quality("full bound", "ddim", 50).frechet,
    }
    simple, full, good, bad = (v.value for v in found.values())
    holds = full < simple and good < bad
    return Finding(
        found,
        HOLDS if holds else FAILS,
        remark=""
        if holds
        else f"here the {'bound' if full < simple else 'simplified loss'} has the better "
        f"likelihood and the {'simplified loss' if good < bad else 'bound'} the better samples",
    )


@claim(
    "trained",
    "Nichol & Dhariwal 2021; introductions",
    "The cosine schedule has better likelihood and better samples than the linear one.",
    TRAINED,
)
def trained_cosine_against_linear() -> Finding:
    found: dict[str, Any] = {}
    for name in ("cosine", "linear"):
        found[f"{name}: bits/dim"] = bits(f"{name} chain, v", bound=True, variance="posterior")
        for steps in (10, 50):
            made = quality(f"{name} chain, v", "ddpm", steps)
            found[f"{name}: Fréchet ÷ floor, {steps} ancestral steps"] = made.frechet
    values = [v.value for v in found.values()]
    likelier, finer = values[0] < values[3], values[1] < values[4] and values[2] < values[5]
    return Finding(
        found,
        HOLDS if likelier and finer else FAILS,
        remark=""
        if likelier and finer
        else f"on 8×8 digits the likelihood is {'better' if likelier else 'not better'} and the "
        f"samples are {'better' if finer else 'not better'}; the claim was made on larger pictures",
    )


@claim(
    "trained",
    "Nichol & Dhariwal 2021, section 3.1",
    "Learned variances give a better likelihood than fixed ones, the more so with few steps.",
    TRAINED,
)
def learned_against_fixed_variance() -> Finding:
    found, gains = {}, []
    for steps in (None, 100, 25):
        kinds = {}
        for variance in ("posterior", "transition", "learned"):
            name = "learned variance" if variance == "learned" else "cosine chain, v"
            asked = {} if steps is None else {"steps": steps}
            made = bits(name, bound=True, variance=variance, **asked)
            kinds[variance] = made.value
            label = {"posterior": "fixed β̃", "transition": "fixed β", "learned": "learned"}
            found[f"{label[variance]}, {steps or 1000} steps: bits/dim"] = made
        gains.append(min(kinds["posterior"], kinds["transition"]) - kinds["learned"])
    holds = gains[0] > 0 and gains[0] < gains[1] < gains[2]
    return Finding(
        found,
        HOLDS if holds else FAILS,
        remark=""
        if holds
        else "the gain over the better fixed one at 1,000, 100 and 25 steps is "
        + ", ".join(f"{g:.3f}" for g in gains)
        + " bits/dim",
    )


@claim(
    "trained",
    "Ho et al. 2020; Song et al. 2021b",
    "On a trained model too the variational bound is below the probability-flow likelihood.",
    TRAINED,
)
def bound_below_flow_when_trained() -> Finding:
    found = {
        "bound, 1,000 steps: bits/dim": bits("cosine chain, v", bound=True, variance="posterior"),
        "probability flow, Hutchinson, uniform dequantisation: bits/dim": bits(
            "cosine chain, v", exact=False
        ),
    }
    bound, flow = (v.value for v in found.values())
    return Finding(
        found,
        HOLDS if flow < bound else FAILS,
        remark=""
        if flow < bound
        else "the two speak of different models: the bound decodes levels, the flow is that of the "
        "dequantised data and pays for their noise",
    )


@claim(
    "trained",
    "Song et al. 2021 (DDIM), section 5.4; Song et al. 2021b",
    "Data encoded by the flow and decoded again come back.",
    TRAINED,
)
def trained_round_trip() -> Finding:
    by, trained = judge(), model("flow")
    x = trained.spec.normalise(by.held[:100])
    field = trained.denoiser.conditioned({"class": by.labels[:100]})
    found = {}
    for solver, steps in (("rk4", 12), ("ddim", 50), ("adams", 50)):
        latent = encode(field, x, steps, solver)
        back = decode(field, latent.x, steps, solver)
        gap = float((back.x - x).square().mean().sqrt() / x.square().mean().sqrt())
        found[f"{solver}, {latent.nfe} evaluations each way: rms error ÷ rms of the data"] = gap
    best = min(found.values())
    return Finding(
        found, HOLDS if best < 1e-2 else FAILS, remark="" if best < 1e-2 else "it is off"
    )
