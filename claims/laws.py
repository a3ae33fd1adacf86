"""Claims about distances between distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unnoise.divergences import (
    Normal,
    divergence,
    fit_normal,
    integrate,
    integrated,
    wasserstein_gaussian,
)

from .claim import FAILS, HOLDS, Finding, Value
from .registry import claim


def bimodal(x: Tensor) -> Tensor:
    """Return log ½·N(−3, ½²) + ½·N(3, ½²)."""
    sides = [Normal(centre, 0.25)(x) for centre in (-3.0, 3.0)]
    return torch.logaddexp(*sides) - math.log(2)


@claim(
    "divergences",
    "Bishop 2006, ch. 10; introductions",
    "Forward KL covers every mode, even at the cost of mass in between; reverse KL seeks one mode.",
)
def forward_covers_reverse_seeks() -> Finding:
    forward = fit_normal(bimodal, "kl")
    found: dict[str, Value] = {"forward KL: mean, deviation": _words(forward)}
    ends = []
    for start in (-1.0, 1.0):
        fit = fit_normal(bimodal, "reverse_kl", start=(start, 1.0))
        ends.append(float(fit.mean))
        found[f"reverse KL from {start:+g}: mean, deviation"] = _words(fit)
    middle = float((forward.mean**2 + forward.covariance - 9.25).abs())
    right = middle < 1e-6 and abs(ends[0] + 3) < 0.01 and abs(ends[1] - 3) < 0.01
    found["mass that forward KL puts where |x| < 1, where the data have 3e-5"] = math.erf(
        1 / math.sqrt(2 * float(forward.covariance))
    )
    return Finding(found, HOLDS if right else FAILS, remark="" if right else "Other minima.")


def _words(fit: Normal) -> str:
    return f"{round(float(fit.mean), 4) + 0.0:.4f}, {float(fit.covariance.sqrt()):.4f}"


@claim(
    "divergences",
    "introductions",
    "Maximising likelihood is minimising the forward KL divergence.",
)
def likelihood_is_forward_kl() -> Finding:
    sums = []
    for q in (Normal(0, 9), Normal(0.5, 4), Normal(-1, 16), fit_normal(bimodal)):

        def gain(x: Tensor, q: Normal = q) -> Tensor:
            return bimodal(x[:, None]).exp() * q(x[:, None])

        mean = float(integrate(gain, -60, 60)[0])
        sums.append(mean + integrated("kl", bimodal, q, -60, 60).value)
    spread = max(sums) - min(sums)
    return Finding(
        {
            "E[log q] + KL(p‖q) for four models": ", ".join(f"{s:.9f}" for s in sums),
            "spread": spread,
        },
        HOLDS if spread < 1e-8 else FAILS,
        remark="" if spread < 1e-8 else "The sum depends on the model.",
    )


@claim(
    "divergences",
    "Arjovsky et al. 2017; introductions",
    "Without overlap the Wasserstein distance stays informative where Jensen–Shannon saturates and "
    "KL is infinite.",
)
def wasserstein_without_overlap() -> Finding:
    def block(low: float):
        def log_density(x: Tensor) -> Tensor:
            inside = (x[:, 0] >= low) & (x[:, 0] <= low + 1)
            return torch.where(inside, 0.0, -math.inf).double()

        return log_density

    found: dict[str, Value] = {}
    js, w2 = [], []
    for gap in (2.0, 4.0, 8.0):
        kl, shannon = (
            integrated(name, block(0), block(gap), -1, gap + 2).value for name in ("kl", "js")
        )
        js.append(shannon)
        w2.append(wasserstein_gaussian(Normal(0.5, 1 / 12), Normal(gap + 0.5, 1 / 12)).value)
        found[f"two unit blocks {gap - 1:g} apart: KL, JS, W₂"] = (
            f"{'∞' if math.isinf(kl) else f'{kl:.3f}'}, {shannon:.6f}, {w2[-1]:.3f}"
        )
    found["log 2"] = math.log(2)
    right = all(abs(j - math.log(2)) < 1e-6 for j in js) and w2 == [2.0, 4.0, 8.0]
    return Finding(found, HOLDS if right else FAILS, remark="" if right else "JS still moves.")


@claim(
    "divergences",
    "introductions",
    "KL is never negative, not symmetric, and violates the triangle inequality.",
)
def kl_is_no_metric() -> Finding:
    a, b, c = (Normal(0, v) for v in (1, 2, 4))
    kl = {name: divergence("kl", p, q).value
          for name, p, q in (("ab", a, b), ("ba", b, a), ("bc", b, c), ("ac", a, c))}  # fmt: skip
    right = min(kl.values()) > 0 and kl["ab"] != kl["ba"] and kl["ac"] > kl["ab"] + kl["bc"]
    return Finding(
        {
            "variances 1 → 2 and 2 → 1": f"{kl['ab']:.4f}, {kl['ba']:.4f}",
            "1 → 4 against 1 → 2 → 4": f"{kl['ac']:.4f} against {kl['ab'] + kl['bc']:.4f}",
        },
        HOLDS if right else FAILS,
        remark="" if right else "The example does not show it.",
    )


@claim(
    "divergences",
    "Song & Ermon 2019; introductions",
    "The Fisher divergence, which score matching minimises, compares gradients of log-densities.",
)
def fisher_is_blind_to_far_weights() -> Finding:
    from unnoise.divergences import fisher

    def weighted(share: float):
        def log_density(x: Tensor) -> Tensor:
            left, right = Normal(-6, 0.25)(x), Normal(6, 0.25)(x)
            return torch.logaddexp(left + math.log(share), right + math.log1p(-share))

        return log_density

    even, uneven = weighted(0.5), weighted(0.9)
    blind = fisher(even, uneven, -15, 15).value
    kl = integrated("kl", even, uneven, -15, 15).value
    return Finding(
        {
            "modes 12 apart, weights ½ : ½ against 0.9 : 0.1, Fisher": blind,
            "the same, KL in nats": kl,
        },
        HOLDS if blind < 1e-8 and kl > 0.1 else FAILS,
        remark="And so it cannot see how much mass lies in modes far apart: the reason for many "
        "noise levels.",
    )
