"""Claims that the views of diffusion are one object."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from unnoise.divergences import integrate, score_of
from unnoise.fields import LENSES, Field, Prediction
from unnoise.fields.field import Conditions
from unnoise.paths import Chain, Cosine, Flow, GaussianPath, VPLinear
from unnoise.randomness import Streams
from unnoise.solvers import get

from .claim import FAILS, HOLDS, WHEN, Finding
from .registry import claim
from .worlds import F64, exactly, mean, pair, ring

TIMES = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 0.95], dtype=F64)


class ConstantNoise(Field):
    """A field that always predicts one noise."""

    def __init__(self, path: GaussianPath, eps: float) -> None:
        self.path, self.eps = path, eps

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        return Prediction.of("eps", torch.full_like(x_t, self.eps), x_t, t, self.path)


@claim(
    "one_object",
    "introductions",
    "One pixel: x0 = 1, ᾱ = 0.5, ε = 0.3 give x_t = 0.919; predicting 0.25 costs 0.0025 and means "
    "x̂0 = 1.05; a DDIM stride to ᾱ = 0.8 lands at 1.051.",
)
def one_pixel() -> Finding:
    path = Chain((0.2, 0.375)).as_path()  # ᾱ = 0.8 at t = ½ and 0.5 at t = 1
    one = torch.ones(1, 1, dtype=F64)
    x = path.diffuse(one, 0.3 * one, 1.0)
    field = ConstantNoise(path, 0.25)
    found = {
        "x_t": float(x),
        "loss": (0.3 - 0.25) ** 2,
        "x̂0": float(field(x, torch.tensor(1.0, dtype=F64)).x0),
        "after the stride": float(get("ddim").solve(field, x, [1.0, 0.5]).x),
    }
    quoted = (0.919, 0.0025, 1.05, 1.051)
    gap = max(abs(a - b) for a, b in zip(found.values(), quoted, strict=True))
    return exactly(found, gap, "A number differs in the digits quoted.", 6e-4)


@claim(
    "one_object",
    "Vincent 2011; introductions",
    "Noise prediction is score estimation: ∇log p_t = −ε/√(1−ᾱ).",
)
def eps_is_the_score() -> Finding:
    path = Chain.linear().as_path()
    field, gap = ring(path), 0.0
    for t in TIMES:
        x = field.sample(Streams(0, range(64)), float(t))
        wanted = score_of(partial(field.log_density, t=t), x)
        got = -field(x, t).eps / path.sigma(t)
        gap = max(gap, float((got - wanted).norm() / wanted.norm()))
    return exactly({"largest relative difference": gap}, gap, "They are not the same field.")


@claim(
    "one_object",
    "Vincent 2011; Ho et al. 2020",
    "Regressing on the conditional score −ε/√(1−ᾱ) recovers the marginal score.",
)
def denoising_recovers_the_score() -> Finding:
    """Compare the regression's minimiser E[−ε/σ | x_t], by quadrature over x0, with the score."""
    path, gap = VPLinear(), 0.0
    field = pair(path)
    x = torch.linspace(-2.5, 2.5, 11, dtype=F64)
    for t in TIMES:
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))

        def joint(x0: Tensor, alpha: float = alpha, sigma: float = sigma) -> Tensor:
            eps = (x - alpha * x0[:, None]) / sigma
            weight = (field.log_density(x0[:, None], 0.0)[:, None] - 0.5 * eps**2).exp()
            return torch.cat([weight, -weight * eps / sigma], 1)

        mass, moment = integrate(joint, -6, 6, 1e-13)[0].chunk(2)
        wanted = field(x[:, None], t).score[:, 0]
        keep = mass > 1e-8
        gap = max(gap, float(((moment / mass - wanted) / (1 + wanted.abs()))[keep].abs().max()))
    return exactly({"largest difference": gap}, gap, "The regression misses the score.", 1e-5)


@claim(
    "one_object",
    "Salimans & Ho 2022; introductions",
    "v = √ᾱ·ε − √(1−ᾱ)·x0; ε, x0, score, v and velocity are linear re-labellings of one field.",
)
def lenses_are_one_field() -> Finding:
    formula = cycle = 0.0
    for path in (Chain.linear().as_path(), Cosine(), Flow()):
        field = ring(path)
        for t in TIMES:
            said = field(field.sample(Streams(0, range(64)), float(t)), t)
            v = path.alpha(t) * said.eps - path.sigma(t) * said.x0
            formula = max(formula, float((v - said.v).abs().max()))
            for lens in LENSES:
                back = said.with_value(lens, said.as_lens(lens))
                cycle = max(cycle, float((back.x0 - said.x0).abs().max()))
    return exactly(
        {"v against its formula": formula, "x0 through every lens and back": cycle},
        max(formula, cycle),
        "A lens loses something.",
    )


@claim(
    "one_object",
    "introductions",
    "The ε target keeps every timestep's regression in the same numeric range; an x0 target is "
    "trivially easy at small t and brutally hard at large t.",
)
def eps_target_has_one_scale() -> Finding:
    path = Chain.linear().as_path()
    field, found = ring(path), {}
    for n in (10, 250, 500, 1000):
        t, noise = n / 1000, Streams(0, range(4000), "eps")
        x0, eps = field.sample(Streams(0, range(4000))), noise.normal(2).double()
        said = field(path.diffuse(x0, eps, t), torch.tensor(t, dtype=F64))
        for name, target, got in (("ε", eps, said.eps), ("x0", x0, said.x0)):
            left = ((target - got) ** 2).mean(1) / target.var()
            found[f"least possible loss of {name}, of its variance, step {n}"] = mean(left)
    return Finding(
        found,
        WHEN,
        "the range of the target is meant",
        "The target has one scale, but the task does not: what no network can predict falls from "
        "nearly all of ε at the data to nearly nothing at the noise, the mirror image of x0.",
    )


@claim(
    "variational",
    "introductions; Ho et al. 2020, sec. 3.4",
    "Dropping the bound's weights (L_simple) down-weights the steps of little noise.",
)
def simple_loss_drops_small_noise() -> Finding:
    chain = Chain.linear()

    def weight(n: int) -> float:  # of ‖ε − ε̂‖² in the bound, Σ = β̃
        bar = chain.alpha_bar(n)
        return chain.beta(n) ** 2 / (2 * chain.beta_tilde(n) * chain.alpha(n) * (1 - bar))

    found = {n: weight(n) for n in (2, 10, 100, 500, 1000)}
    right = found[2] > 10 * found[500]
    return Finding(
        {f"weight of ‖ε − ε̂‖² in the bound, step {n}": w for n, w in found.items()},
        HOLDS if right else FAILS,
        remark="" if right else "The bound does not favour little noise.",
    )


@claim(
    "variational",
    "introductions",
    "Predicting x0 with uniform weights does roughly the opposite of L_simple, which down-weights "
    "the steps of little noise.",
)
def uniform_x0_is_the_opposite() -> Finding:
    chain = Chain.linear()
    # ‖x0 − x̂0‖² = (1−ᾱ)/ᾱ·‖ε − ε̂‖²
    weight = {n: (1 - chain.alpha_bar(n)) / chain.alpha_bar(n) for n in (2, 100, 500, 1000)}
    return Finding(
        {f"weight of ‖ε − ε̂‖², step {n}": w for n, w in weight.items()},
        FAILS if weight[2] < weight[500] < weight[1000] else HOLDS,
        remark="A uniform x0 loss is an ε loss times (1−ᾱ)/ᾱ, which falls towards the data: it "
        "goes further in the same direction than L_simple, and gives the steps of much noise "
        "nearly everything.",
    )


@claim(
    "variational",
    "Ho et al. 2020, eq. 6, 7, 11",
    "Given x0 the reverse step is a Gaussian known in closed form, with variance "
    "β̃ = (1−ᾱ_{t−1})/(1−ᾱ_t)·β, whose mean is (x_t − β/√(1−ᾱ)·ε)/√α.",
)
def posterior_is_bayes() -> Finding:
    chain, gap = Chain.linear(), 0.0
    for n in (2, 3, 50, 500, 1000):
        prior, alpha = chain.alpha_bar(n - 1), chain.alpha(n)
        # Bayes on x_{n−1} ~ N(√ᾱ'x0, 1−ᾱ') and x_n ~ N(√α·x_{n−1}, β)
        precision = 1 / (1 - prior) + alpha / chain.beta(n)
        x0, eps = 0.7, -0.4
        x = math.sqrt(chain.alpha_bar(n)) * x0 + math.sqrt(1 - chain.alpha_bar(n)) * eps
        mean = (
            math.sqrt(prior) * x0 / (1 - prior) + math.sqrt(alpha) * x / chain.beta(n)
        ) / precision
        q = chain.posterior(n)
        by_eps = (x - chain.beta(n) / math.sqrt(1 - chain.alpha_bar(n)) * eps) / math.sqrt(alpha)
        tilde = (1 - prior) / (1 - chain.alpha_bar(n)) * chain.beta(n)
        gap = max(
            gap,
            abs(q.variance * precision - 1),
            abs(q.on_x0 * x0 + q.on_x * x - mean),
            abs(by_eps - mean),
            abs(tilde * precision - 1),
        )
    swap = chain.posterior(500)
    return exactly(
        {
            "largest difference from Bayes' rule": gap,
            "on x0, on x_t at step 500": f"{swap.on_x0:.4f}, {swap.on_x:.4f}",
        },
        gap,
        "The closed form is not Bayes' rule.",
    )


@claim(
    "variational",
    "Nichol & Dhariwal 2021, sec. 3.1",
    "β and β̃ are almost equal except near t = 0.",
)
def the_two_variances() -> Finding:
    chain = Chain.linear()
    ratio = [chain.beta_tilde(n) / chain.beta(n) for n in range(1, 1001)]
    apart = {c: next(n for n, r in enumerate(ratio, 1) if r > 1 - c) for c in (0.05, 0.01)}
    right = apart[0.05] < 100
    return Finding(
        {
            "β̃/β at steps 2, 10, 100, 1000": ", ".join(
                f"{ratio[n - 1]:.3g}" for n in (2, 10, 100, 1000)
            ),
            "first of 1000 steps where they differ by less than 5 %": apart[0.05],
            "by less than 1 %": apart[0.01],
        },
        HOLDS if right else FAILS,
        remark="" if right else "They stay apart for long.",
    )


@claim(
    "variational",
    "introductions; Sohl-Dickstein et al. 2015",
    "Where a step adds only little noise, its reverse is close to a Gaussian.",
)
def small_steps_reverse_to_gaussians() -> Finding:
    """Measure KL(q(x_s|x_t) ‖ the Gaussian of its moments), at x_t halfway between the modes."""
    path, measured, kls = VPLinear(), {}, []
    field, t = pair(path), 0.3
    x_t = torch.tensor(0.25 * float(path.alpha(t)), dtype=F64)
    for steps in (4, 10, 100, 1000):
        s = t - 1 / steps
        ratio = float(path.alpha(t) / path.alpha(s))
        variance = float(path.sigma(t) ** 2 - (ratio * path.sigma(s)) ** 2)

        def log_joint(x: Tensor, s: float = s, ratio: float = ratio, v: float = variance) -> Tensor:
            return field.log_density(x[:, None], s) - 0.5 * (x_t - ratio * x) ** 2 / v

        def parts(x: Tensor, log_joint=log_joint) -> Tensor:
            w = log_joint(x).exp()
            return torch.stack([w, w * x, w * x**2, w * log_joint(x)], 1)

        mass, mean, square, log = integrate(parts, -6, 6, 1e-12)[0].tolist()
        mean, square = mean / mass, square / mass
        entropy = math.log(mass) - log / mass
        kls.append(0.5 * math.log(2 * math.pi * math.e * (square - mean**2)) - entropy)
        measured[f"KL to a Gaussian, T = {steps}, nats"] = kls[-1]
    right = kls[0] > 0.1 and kls[-1] < 1e-4 and kls == sorted(kls, reverse=True)
    return Finding(
        measured,
        HOLDS if right else FAILS,
        remark="" if right else "The reverse step does not become Gaussian.",
    )
