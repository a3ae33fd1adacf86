"""Claims about guidance, on a field that is known in closed form with and without its class."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from unnoise.divergences import score_of
from unnoise.fields import Condition, Field, Mixture, Prediction
from unnoise.fields.field import Conditions
from unnoise.guidance import classifier_free
from unnoise.paths import GaussianPath, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

from .claim import FAILS, HOLDS, WHEN, Finding, Value
from .registry import claim
from .worlds import F64, exactly, mean

PATH = VPLinear()


class Classes(Field):
    """Three overlapping classes, each two Gaussians in the plane; the null is their sum."""

    def __init__(self, path: GaussianPath) -> None:
        self.path = path
        angle = torch.arange(6, dtype=F64) * (math.pi / 3)
        centres = torch.stack([angle.cos(), angle.sin()], 1)
        half, spread = torch.full((2,), 0.5, dtype=F64), torch.full((2, 2), 0.35**2, dtype=F64)
        self.parts = [Mixture(half, centres[2 * c : 2 * c + 2], spread, path) for c in range(3)]
        third = torch.full((6,), 1 / 6, dtype=F64)
        self.whole = Mixture(third, centres, torch.full((6, 2), 0.35**2, dtype=F64), path)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        answers = [self.whole(x_t, t).value]
        if condition is None:
            return Prediction(x_t, t, self.path, "x0", answers[0])
        given = Condition.of(condition, len(x_t))
        answers += [part(x_t, t).value for part in self.parts]
        which = torch.where(given.keep["class"], given.values["class"] + 1, 0)  # type: ignore[operator]
        x0 = torch.stack(answers)[which, torch.arange(len(x_t))]
        return Prediction(x_t, t, self.path, "x0", x0)

    def log_class(self, x: Tensor, t: Tensor | float, c: int) -> Tensor:
        """Return log p(c | x_t), classes equally likely."""
        each = torch.stack([part.log_density(x, t) for part in self.parts])
        return each.log_softmax(0)[c]


def guided(scale: float, n: int = 2000) -> Tensor:
    """Return samples of class 0 at a guidance scale."""
    grid = grids.log_snr(PATH, 60, 1.0, 0.0, sigma_min=0.01)
    field = classifier_free(Classes(PATH), scale).conditioned({"class": 0})
    return get("dpmpp_2m").solve(field, Streams(0, range(n)).normal(2).double(), grid).x


@claim(
    "guidance",
    "Ho & Salimans 2022",
    "uncond + scale·(cond − uncond): scale 1 is the conditional model, scale 0 the unconditional "
    "one, and (1 + w)·cond − w·uncond is scale 1 + w.",
)
def guidance_identities() -> Finding:
    field, gaps = Classes(PATH), [0.0, 0.0, 0.0]
    for t in (0.05, 0.3, 0.7):
        x = field.whole.sample(Streams(0, range(64)), t)
        at, c, w = torch.tensor(t, dtype=F64), {"class": 1}, 2.5
        cond, null = field(x, at, c).eps, field(x, at).eps
        for k, (scale, wanted) in enumerate(
            ((1.0, cond), (0.0, null), (1 + w, (1 + w) * cond - w * null))
        ):
            got = classifier_free(field, scale)(x, at, c).eps
            gaps[k] = max(gaps[k], float((got - wanted).abs().max()))
    names = ("scale 1 − conditional", "scale 0 − unconditional", "scale 1 + w − Ho & Salimans")
    return exactly(dict(zip(names, gaps, strict=True)), max(gaps), "The conventions differ.")


@claim(
    "guidance",
    "Dhariwal & Nichol 2021; Ho & Salimans 2022",
    "Classifier guidance, ε − √(1−ᾱ)·w·∇log p(c|x_t), is classifier-free guidance: the classifier "
    "is in the difference of the two scores.",
)
def classifier_is_the_difference() -> Finding:
    field, gap, w = Classes(PATH), 0.0, 3.0
    for t in (0.05, 0.3, 0.7):
        x, at = field.whole.sample(Streams(0, range(64)), t), torch.tensor(t, dtype=F64)
        slope = score_of(partial(field.log_class, t=t, c=2), x)
        by_classifier = field(x, at).eps - PATH.sigma(at) * w * slope
        free = classifier_free(field, w)(x, at, {"class": 2}).eps
        gap = max(gap, float((by_classifier - free).abs().max()))
    return exactly({"largest difference in ε, w = 3": gap}, gap, "They are not the same.")


@claim(
    "guidance",
    "Ho & Salimans 2022; introductions",
    "A higher guidance scale is more faithful to the condition and less diverse.",
)
def guidance_trades_diversity() -> Finding:
    field, found = Classes(PATH), {}
    sure, wide = [], []
    for scale in (0.0, 1.0, 2.0, 4.0, 8.0):
        x = guided(scale)
        sure.append(mean(field.log_class(x, 1e-4, 0).exp()))
        wide.append(mean(((x - x.mean(0)) ** 2).sum(1)))
        found[f"scale {scale:g}: mean p(class | sample)"] = sure[-1]
        found[f"scale {scale:g}: variance of the samples"] = wide[-1]
    right = all(a.high < b.low for a, b in pairwise(sure[:-1]))
    right &= all(a.value > b.value for a, b in pairwise(wide))
    return Finding(
        found,
        HOLDS if right else FAILS,
        remark="" if right else "One of the two does not move as said.",
    )


@claim(
    "guidance",
    "introductions; against it Bradley & Nakkiran 2024",
    "Guidance at scale s samples the sharpened law p(x)·p(c|x)^s.",
)
def guidance_samples_a_sharpened_law() -> Finding:
    """Compare guided samples with the tilted law, on the line.

    Data N(0, 1), class N(0, ½): the tilted law of scale s is Gaussian.
    """
    from unnoise.fields import Gaussian

    class Two(Field):
        path = PATH
        given_ = Gaussian(torch.zeros(1, dtype=F64), 0.5, PATH)
        null_ = Gaussian(torch.zeros(1, dtype=F64), 1.0, PATH)

        def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
            both = self.given_(x_t, t).value, self.null_(x_t, t).value
            keep = torch.zeros(len(x_t), dtype=torch.bool)
            if condition is not None:
                keep = Condition.of(condition, len(x_t)).keep["class"]
            return Prediction(x_t, t, PATH, "x0", torch.where(keep[:, None], *both))

    grid = grids.log_snr(PATH, 400, 1.0, 0.0, sigma_min=0.002)
    found: dict[str, Value] = {}
    gap = 0.0
    for scale in (1.0, 2.0, 4.0):
        field = classifier_free(Two(), scale).conditioned({"class": 0})
        one = torch.ones(1, 1, dtype=F64)  # the flow is linear: its gain is the deviation
        made = float(get("dpmpp_2m").solve(field, one, grid).x) ** 2
        tilted = 1 / (1 + scale * (1 / 0.5 - 1))
        found[f"scale {scale:g}: variance of the samples, of the sharpened law"] = (
            f"{made:.4f}, {tilted:.4f}"
        )
        gap = max(gap, abs(math.log(made / tilted)))
    return Finding(
        found,
        FAILS if gap > 0.05 else HOLDS,
        remark="It does at scale 1 only: sharpening does not commute with adding noise, and the "
        "guided walk ends in another law.",
    )


@claim(
    "guidance",
    "Ho & Salimans 2022; introductions",
    "Classifier-free guidance costs two evaluations a step.",
)
def guidance_costs_two() -> Finding:
    grid, passes = grids.log_snr(PATH, 10, 1.0, 0.0, sigma_min=0.01), {}
    x = Streams(0, range(4)).normal(2).double()
    for label, field in (
        ("scale 3", classifier_free(Classes(PATH), 3.0)),
        ("scale 1", classifier_free(Classes(PATH), 1.0)),
        ("scale 3 on 0.2 ≤ t ≤ 0.7", classifier_free(Classes(PATH), 3.0, (0.2, 0.7))),
    ):
        passes[label] = get("ddim").solve(field.conditioned({"class": 0}), x, grid).nfe
    right = passes["scale 3"] == 20 and passes["scale 1"] == 10
    return Finding(
        {f"passes a sample in 10 steps, {k}": v for k, v in passes.items()},
        WHEN if right else FAILS,
        "the scale is neither 0 nor 1 and the step inside the interval" if right else "",
        "At scale 0 or 1, and outside a guidance interval, one pass is enough.",
    )
