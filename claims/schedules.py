"""Claims about noise schedules and the forward process."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unnoise.divergences import Normal, divergence, integrate
from unnoise.paths import Chain, VPLinear
from unnoise.randomness import Streams

from .claim import FAILS, HOLDS, WHEN, Finding, Value
from .registry import claim
from .worlds import F64, exactly, pair


@claim(
    "schedules",
    "introductions; Ho et al. 2020, sec. 4",
    "On the linear schedule with T = 1000, ᾱ is 0.90 at step 100, 0.08 at step 500 and 4e-5 at "
    "step 1000.",
)
def linear_schedule_values() -> Finding:
    chain = Chain.linear()
    found = [chain.alpha_bar(n) for n in (100, 500, 1000)]
    right = [f"{a:.2f}" for a in found[:2]] == ["0.90", "0.08"] and f"{found[2]:.0e}" == "4e-05"
    return Finding(
        {f"ᾱ at step {n}": a for n, a in zip((100, 500, 1000), found, strict=True)},
        HOLDS if right else FAILS,
        remark="" if right else "The values differ in the digits quoted.",
    )


@claim(
    "schedules",
    "Ho et al. 2020, eq. 4",
    "The chain of T noising steps collapses into one jump, N(√ᾱ·x0, (1−ᾱ)·I).",
)
def chain_is_one_jump() -> Finding:
    chain, mean, variance, gap = Chain.linear(), 1.0, 0.0, 0.0
    for n in range(1, chain.steps + 1):
        mean, variance = math.sqrt(chain.alpha(n)) * mean, chain.alpha(n) * variance + chain.beta(n)
        bar = chain.alpha_bar(n)
        gap = max(gap, abs(mean / math.sqrt(bar) - 1), abs(variance / (1 - bar) - 1))
    return exactly(
        {"largest relative difference over 1000 steps": gap}, gap, "Step by step is not the jump."
    )


@claim(
    "schedules",
    "introductions; Ho et al. 2020; against it Lin et al. 2024",
    "At step 1000 of the linear schedule x is statistically pure Gaussian noise: the endpoint is "
    "the prior, by construction.",
)
def end_is_the_prior() -> Finding:
    bar = Chain.linear().alpha_bar(1000)
    end = Normal(math.sqrt(bar), 1 - bar)
    kl = divergence("kl", end, Normal(0, 1)).value
    # an image of rms ½ whose every number is seen at once: N(Δ, 1) against N(0, 1)
    shift = math.sqrt(bar * 3 * 256 * 256) * 0.5
    tell = divergence("tv", Normal(shift, 1), Normal(0, 1)).value
    mean = math.sqrt(bar * 3 * 256 * 256)  # a constant picture of value 1: its mean's deviations
    return Finding(
        {
            "KL to N(0, 1), one number x0 = 1, nats": kl,
            "the same, 256×256×3 numbers of rms ½, nats": divergence(
                "kl", Normal(shift, 1), Normal(0, 1)
            ).value,
            "total variation, that image known": tell,
            "shift of the mean of a constant picture, in deviations of the noise's mean": mean,
        },
        WHEN,
        "the event is small",
        "Per number the trace of the data is 2e-5 nats, but a whole picture adds them up: told "
        "which picture it may be, the best test tells its end from pure noise in three cases of "
        "four. It shows most in the mean brightness.",
    )


@claim(
    "schedules",
    "Nichol & Dhariwal 2021, sec. 3.2",
    "The linear schedule destroys information too early; the cosine schedule falls nearly "
    "linearly in the middle and changes little near the ends.",
)
def cosine_against_linear() -> Finding:
    measured: dict[str, float] = {}
    for name, chain in (("linear", Chain.linear()), ("cosine", Chain.cosine())):
        bar = torch.tensor([chain.alpha_bar(n) for n in range(1001)], dtype=F64)
        n = torch.arange(250, 751, dtype=F64)
        inner = bar[250:751]
        slope = ((n - 500) * inner).sum() / ((n - 500) ** 2).sum()
        line = inner.mean() + slope * (n - 500)
        measured[f"{name}: share of steps with ᾱ < 0.01"] = float((bar < 0.01).double().mean())
        measured[f"{name}: largest distance from a line, middle half"] = float(
            (inner - line).abs().max()
        )
        ends = torch.cat([bar[:51].diff(), bar[-51:].diff()]).abs().mean()
        measured[f"{name}: speed in the outer 5 % against the middle"] = float(ends / -slope)
    values = list(measured.values())
    right = all(values[i + 3] < values[i] for i in (0, 1)) and values[5] < 0.5
    return Finding(
        measured,
        HOLDS if right else FAILS,
        remark="" if right else "The cosine schedule is not the straighter one.",
    )


@claim(
    "schedules",
    "Song et al. 2021b, app. B",
    "As T grows, the chain with β_n = β(n/T)/T becomes the variance-preserving SDE.",
)
def chain_tends_to_the_sde() -> Finding:
    path, gaps = VPLinear(), {}
    for steps in (100, 1000, 10_000):
        t = torch.arange(1, steps + 1, dtype=F64) / steps
        chain = Chain(tuple((path.beta(t) / steps).tolist()))
        bar = torch.tensor([chain.alpha_bar(n) for n in range(1, steps + 1)], dtype=F64)
        gaps[steps] = float((bar - path.alpha(t) ** 2).abs().max())
    order = math.log10(gaps[1000] / gaps[10_000])
    return Finding(
        {f"largest difference of ᾱ, T = {n}": gap for n, gap in gaps.items()}
        | {"order in 1/T": order},
        HOLDS if 0.9 < order < 1.1 else FAILS,
        remark="" if 0.9 < order < 1.1 else "The chain does not converge at order 1.",
    )


def _entropy_and_kl(scale: float) -> tuple[Tensor, Tensor]:
    """Return entropy and KL to N(0, 1), in nats, at 101 times of the VP path.

    The data are the mixture times `scale`.
    """
    path = VPLinear()
    field = pair(path)
    for part in field.parts:
        part.mean, part.variance = part.mean * scale, part.variance * scale**2
    rows = []
    for t in torch.linspace(0.0, 1.0, 101, dtype=F64):

        def values(x: Tensor, t: Tensor = t) -> Tensor:
            log_p = field.log_density(x[:, None], t)
            relative = log_p + 0.5 * (x**2 + math.log(2 * math.pi))
            return torch.stack([-log_p.exp() * log_p, log_p.exp() * relative], 1)

        rows.append(integrate(values, -12, 12, 1e-8)[0])
    entropy, kl = torch.stack(rows).T
    return entropy, kl


@claim(
    "schedules",
    "introductions",
    "The forward process is entropy increase, order to disorder; the reverse is entropy decrease.",
)
def forward_is_entropy_increase() -> Finding:
    measured: dict[str, Value] = {}
    drops = {}
    for scale in (0.3, 1.0):
        entropy, kl = _entropy_and_kl(scale)
        drops[scale] = float(entropy.diff().min()), float(kl.diff().max())
        label = f"data of deviation {1.2298 * scale:.2f}"
        measured[f"{label}: entropy at data, most, at noise"] = (
            f"{entropy[0]:.3f}, {entropy.max():.3f}, {entropy[-1]:.3f} nats"
        )
        measured[f"{label}: largest rise of KL(p_t‖N(0,1)) in a step"] = max(drops[scale][1], 0.0)
    falls = drops[1.0][0] < -1e-4 and drops[0.3][0] > -1e-8
    decays = all(kl < 1e-8 for _, kl in drops.values())
    return Finding(
        measured,
        WHEN if falls and decays else FAILS,
        "the noise is more spread than the data" if falls and decays else "",
        "Data wider than the noise overshoot: their entropy rises and then falls towards that of "
        "N(0, 1). What always shrinks is the divergence from the noise, KL(p_t‖N(0, 1)).",
    )


@claim(
    "schedules",
    "introductions; Rombach et al. 2022",
    "A 512×512 RGB picture has 786,432 numbers, its 64×64×4 latent 16,384: 48 times fewer; a "
    "256×256 RGB picture lives in 196,608 dimensions.",
)
def sizes_of_pictures() -> Finding:
    pixels, latent, small = 512 * 512 * 3, 64 * 64 * 4, 256 * 256 * 3
    right = (pixels, latent, pixels / latent, small) == (786_432, 16_384, 48, 196_608)
    return Finding(
        {"numbers": pixels, "latent": latent, "ratio": pixels / latent, "256×256": small},
        HOLDS if right else FAILS,
        remark="" if right else "The arithmetic is wrong.",
    )


@claim(
    "schedules",
    "introductions",
    "In high dimensions volume concentrates in shells and distances between random points "
    "converge.",
)
def distances_concentrate() -> Finding:
    measured: dict[str, Value] = {}
    spread = {}
    for d in (2, 100, 10_000):
        x = Streams(0, range(200), f"shell {d}").normal(d).double()
        radius = x.norm(dim=1)
        gap = torch.pdist(x)
        spread[d] = float(radius.std() / radius.mean()), float(gap.std() / gap.mean())
        measured[f"spread/mean of radius and of distances, d = {d}"] = (
            f"{spread[d][0]:.4f}, {spread[d][1]:.4f}"
        )
    # a radius of N(0, I) has deviation ≈ 1/√2 and mean ≈ √d
    right = all(0.8 < s * math.sqrt(2 * 10_000) < 1.2 for s in spread[10_000][:1])
    return Finding(
        measured,
        HOLDS if right else FAILS,
        remark="" if right else "They do not concentrate as 1/√(2d).",
    )
