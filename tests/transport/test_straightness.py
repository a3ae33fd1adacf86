"""Straightness against its closed form, and zero where the way is straight."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64, Seen, mixture_2d
from unnoise.fields import Gaussian
from unnoise.paths import Flow, Trigonometric
from unnoise.randomness import Streams
from unnoise.transport import GaussianPairs, Interpolant, straightness

from .pairs import COV0, COV1, MEAN0, MEAN1

END = 1e-6  # an exact field of x0 does not know its velocity at t = 0
GRID = torch.cat([torch.linspace(1, 0.02, 120, dtype=F64), torch.linspace(0.019, END, 60)])


def expected(std, dimensions):
    """d·(∫Ṡ² dt − (1 − s)²), S² = (1−t)²s² + t²: x_t = (1−t)m + S·ξ along a trajectory."""
    t = (torch.arange(20000, dtype=F64) + 0.5) / 20000
    size = ((1 - t) ** 2 * std**2 + t**2).sqrt()
    rate = (t - (1 - t) * std**2) / size
    return dimensions * (float((rate**2).mean()) - (1 - std) ** 2)


@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_of_a_gaussian_as_in_closed_form(std):
    field = Gaussian(torch.tensor([2.0, -1.0], dtype=F64), std**2, Flow())
    # one deviation each way: the mean of a square of a linear form is exact
    x = math.sqrt(2) * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=F64)
    found = straightness(field, x, GRID)
    assert found.value == pytest.approx(expected(std, 2), rel=1e-4)
    if std == 1:  # ∫(2t−1)²/((1−t)²+t²)dt = 2 − π/2
        assert found.value == pytest.approx(2 * (2 - math.pi / 2), rel=1e-4)
    torch.testing.assert_close(found.end, field.mean + std * x, rtol=1e-4, atol=1e-4)
    assert bool((found.detour >= 1 - 1e-9).all())


def test_it_is_zero_where_the_way_is_straight():
    field = GaussianPairs.optimal(MEAN0, COV0, MEAN1, COV1, Interpolant(Flow(), "none"))
    x = Streams(0, range(16)).normal(2).double()
    for grid in (torch.linspace(1, 0, 5), torch.linspace(0, 1, 5), torch.linspace(0.8, 0.3, 4)):
        found = straightness(field, x, grid)
        assert float(found.deviation.abs().max()) < 1e-12
        torch.testing.assert_close(found.detour, torch.ones(16, dtype=F64), rtol=0, atol=1e-12)
    bent = GaussianPairs.optimal(MEAN0, COV0, MEAN1, COV1, Interpolant(Trigonometric(), "none"))
    assert straightness(bent, x, torch.linspace(1, 0, 21)).value > 0.1


def test_of_a_mixture_by_the_definition():
    # ∫‖v − Δ‖²dt and ∫‖v‖dt by Simpson's rule on a walked trajectory
    field = Seen(mixture_2d(Flow()), "velocity")
    x = Streams(0, range(8)).normal(2).double()
    times = torch.linspace(0.95, 0.15, 161, dtype=F64)
    found = straightness(field, x, times)
    states = [x]
    for k in range(160):
        states.append(straightness(field, states[-1], times[k : k + 2]).end)
    speeds = torch.stack([field(s, t).velocity for s, t in zip(states, times, strict=True)])
    shares = torch.ones(161, dtype=F64)
    shares[1:-1:2], shares[2:-1:2] = 4, 2
    shares = shares * (0.8 / 160 / 3)
    mean = (x - states[-1]) / 0.8  # v points to the noise: dx/dt with t falling
    gaps = (speeds - mean).square().sum(-1)
    torch.testing.assert_close(found.deviation, shares @ gaps, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.length, shares @ speeds.norm(dim=-1), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.distance, (states[-1] - x).norm(dim=1))
    assert float(found.deviation.min()) > 1e-4
