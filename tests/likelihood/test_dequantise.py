"""Dequantised bounds against the mass that a known density gives to each level."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64
from unnoise.errors import InvalidArgument
from unnoise.fields import Gaussian
from unnoise.likelihood import (
    AffineLogistic,
    Levels,
    Likelihood,
    dequantise_with,
    discrete_log_likelihood,
    log_likelihood,
)
from unnoise.likelihood.dequantise import fit, uniform_dequantiser
from unnoise.paths import Flow
from unnoise.randomness import Streams

LEVELS = Levels(count=5)  # −1, −½, 0, ½, 1
DEVIATION = 0.2
POINTS = torch.linspace(-1, 1, 5, dtype=F64)


def density(x: torch.Tensor) -> Likelihood:
    """Independent N(0.1, 0.2²): far from even over a cell of ½."""
    z = (x - 0.1) / DEVIATION
    nats = (-0.5 * z**2 - math.log(DEVIATION * math.sqrt(2 * math.pi))).flatten(1).sum(1)
    return Likelihood(nats, "exact", x[0].numel(), nfe=1)


def mass(x: torch.Tensor) -> torch.Tensor:
    """log P of the cell of width ½ around each level, summed over the event."""
    upper, lower = (torch.special.ndtr((x + side - 0.1) / DEVIATION) for side in (0.25, -0.25))
    return (upper - lower).log().flatten(1).sum(1)


def samples(n: int, count: int = 2) -> torch.Tensor:
    return POINTS[Streams(0, range(n)).integers(3, count) + 1]


def test_the_uniform_bound_is_its_integral():
    """E[log p] over a cell is closed form: the squared distance's mean is d² + ½²/12."""
    x = samples(1).expand(20_000, -1)
    found = discrete_log_likelihood(density, x, LEVELS, Streams(1, range(20_000)))
    square = ((x[:1] - 0.1) ** 2 + 0.25 / 12) / DEVIATION**2
    level = math.log(0.5) - math.log(DEVIATION * math.sqrt(2 * math.pi))
    wanted = float((-0.5 * square + level).sum())
    spread_ = float(found.nats.std()) / math.sqrt(20_000)
    assert float(found.nats.mean()) == pytest.approx(wanted, abs=4 * spread_)
    assert (found.kind, found.dequantisation, found.error) == ("bound", "uniform", None)
    assert float(found.nats.mean()) < float(mass(x[:1]))


def test_weighted_draws_close_the_gap():
    x = samples(200)
    gaps = [
        float(
            (mass(x) - discrete_log_likelihood(
                density, x, LEVELS, Streams(1, range(200)), draws=draws, weighted=draws > 1
            ).nats).mean()
        )
        for draws in (1, 10, 300)
    ]  # fmt: skip
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > -0.1
    assert abs(gaps[2]) < 0.02
    many = discrete_log_likelihood(density, x, LEVELS, Streams(1, range(200)), draws=50)
    assert many.error is not None
    assert many.nfe == 50


def test_an_untrained_affine_logistic_is_uniform():
    q, x = AffineLogistic((2,)), samples(50)
    u, log_q = q(x, Streams(3, range(50)))
    flat, zero = uniform_dequantiser(x, Streams(3, range(50)))
    torch.testing.assert_close(u.detach(), flat)
    torch.testing.assert_close(log_q.detach(), zero, rtol=0, atol=1e-6)


def test_the_logistic_density_is_that_of_its_draws():
    """∫ q(u|x) du over a histogram, and log q against the slope of u."""
    q = AffineLogistic((1,)).double()
    with torch.no_grad():
        q.level[:] = torch.tensor([[0.7], [-0.5]])
        q.slope[:] = torch.tensor([[0.4], [0.3]])
    x = torch.full((20_000, 1), 0.5, dtype=F64)
    u, log_q = q(x, Streams(3, range(20_000)))
    counts = torch.histc(u.detach(), 10, 0, 1) / 20_000
    # 1/q averaged over a bin's draws, times their share, is the bin's width
    bins = (u.detach().flatten() * 10).long().clamp(max=9)
    widths = torch.zeros(10, dtype=F64).index_add_(0, bins, (-log_q.detach()).exp() / 20_000)
    full = counts > 0.02
    torch.testing.assert_close(widths[full], torch.full_like(widths[full], 0.1), rtol=0.1, atol=0)


def test_a_trained_one_is_tighter_and_stays_below():
    x = samples(64)
    q = AffineLogistic((2,)).double()
    score = lambda at: -(at - 0.1) / DEVIATION**2  # noqa: E731
    entropies = list(fit(q, score, [x] * 150, LEVELS, rate=5e-2))
    assert entropies[-1] < entropies[0] - 0.1
    bounds = [
        float(
            discrete_log_likelihood(
                density, x, LEVELS, Streams(9, range(64)), dequantiser=d, draws=40
            ).nats.mean()
        )
        for d in (uniform_dequantiser, q)
    ]
    exact = float(mass(x).mean())
    assert bounds[0] < bounds[1] < exact
    assert exact - bounds[1] < 0.3 * (exact - bounds[0])


def test_bits_of_a_model_count_a_level_as_one():
    """A density of 1/(5 steps) everywhere is log₂ 5 bits, whatever the levels' scale."""
    flat = lambda x: Likelihood(  # noqa: E731
        torch.full((len(x),), -2 * math.log(2.5), dtype=F64), "exact", 2
    )
    found = discrete_log_likelihood(flat, samples(3), LEVELS, Streams(0, range(3)))
    assert found.bits_per_dim().tolist() == pytest.approx([math.log2(5)] * 3)


def test_a_field_end_to_end():
    field = Gaussian(torch.full((2,), 0.1, dtype=F64), DEVIATION**2, Flow())
    x = samples(3)
    ask = lambda at: log_likelihood(field, at, tol=1e-4)  # noqa: E731
    one, two = (
        discrete_log_likelihood(found, x, LEVELS, Streams(0, range(3))).nats
        for found in (ask, density)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-3)


def test_levels_are_checked():
    x = samples(3)
    u = torch.full_like(x, 0.5)
    assert torch.equal(dequantise_with(x, u, LEVELS), x)
    assert torch.equal(dequantise_with(x, 0 * u, LEVELS), x - 0.25)
    with pytest.raises(InvalidArgument, match="is none of the 5 levels"):
        discrete_log_likelihood(density, x + 0.1, LEVELS, Streams(0, range(3)))
    with pytest.raises(InvalidArgument, match="changes nothing with draws=1"):
        discrete_log_likelihood(density, x, LEVELS, Streams(0, range(3)), weighted=True)
    with pytest.raises(InvalidArgument, match="this dequantiser is for"):
        AffineLogistic((3,))(x, Streams(0, range(3)))
