"""Claims about likelihood and encoding."""

from __future__ import annotations

from unnoise.paths import Chain, Flow, VPLinear
from unnoise.randomness import Streams

from .claim import FAILS, HOLDS, Finding, Value
from .registry import claim
from .worlds import mean, ring


@claim(
    "likelihood",
    "Song et al. 2021b, app. D",
    "The probability-flow ODE gives the exact likelihood.",
)
def flow_likelihood_is_exact() -> Finding:
    from unnoise.likelihood import log_likelihood

    found: dict[str, Value] = {}
    worst = 0.0
    for name, path in (("flow", Flow()), ("VP", VPLinear())):
        field = ring(path)
        x = field.sample(Streams(0, range(64)))
        for tol in (1e-3, 1e-5, 1e-7):
            made = log_likelihood(field, x, tol=tol, data_std=0.7)
            gap = (made.nats - field.log_density(x, 0.0)).square().mean().sqrt()
            last = float(gap)
            found[f"{name}, tolerance {tol:g}: rms error, nats ({made.nfe} passes)"] = last
        worst = max(worst, last)
    right = worst < 1e-2
    return Finding(
        found,
        HOLDS if right else FAILS,
        remark="On VP an error stays that no tolerance removes: at t = 1 a trace of the data is "
        "left, which the prior does not know."
        if right
        else "It is not exact.",
    )


@claim(
    "likelihood",
    "Ho et al. 2020; Kingma et al. 2021; introductions",
    "The variational bound is below the log-likelihood, and more steps bring it nearer.",
)
def bound_is_below() -> Finding:
    from unnoise.likelihood import variational_bound

    found: dict[str, Value] = {}
    gaps = {}
    for variance, name in (("posterior", "β̃"), ("transition", "β")):
        for steps in (10, 100, 1000):
            chain = Chain.linear(steps, 0.1 / steps, min(20 / steps, 0.999))
            field = ring(chain.as_path())
            x = field.sample(Streams(0, range(200)))
            bound = variational_bound(field, x, Streams(1, range(200)), variance=variance)
            gaps[name, steps] = mean(field.log_density(x, 0.0) - bound.likelihood.nats)
            found[f"variance {name}, T = {steps}: log p − bound, nats"] = gaps[name, steps]
    below = all(gap.high > 0 for gap in gaps.values())
    nearer = gaps["β", 1000].high < gaps["β", 10].low
    return Finding(
        found,
        HOLDS if below and nearer else FAILS,
        remark="With β̃ the gap stays: near the data a step's true variance is nearly β, the reason "
        "to learn the variance."
        if below and nearer
        else "It is not below, or does not come nearer.",
    )


@claim(
    "likelihood",
    "Song et al. 2021a, sec. 5.4; introductions",
    "Encoding data into noise along the ODE and decoding returns them.",
)
def encoding_round_trip() -> Finding:
    from unnoise.likelihood import decode, encode

    field = ring(VPLinear())
    x = field.sample(Streams(0, range(200)))
    found: dict[str, Value] = {}
    errors = []
    for steps in (10, 50, 200):
        latent = encode(field, x, steps).x
        back = decode(field, latent, steps).x
        errors.append(float(((back - x).square().mean() / x.square().mean()).sqrt()))
        found[f"rms of data → noise → data, relative, {steps} steps of RK4"] = errors[-1]
    start = encode(field, x, 200).x
    found["mean square of the latents (1 for N(0, I))"] = mean(start.square().flatten())
    right = errors[-1] < 1e-2 and errors == sorted(errors, reverse=True)
    return Finding(found, HOLDS if right else FAILS, remark="" if right else "They do not return.")
