"""Wasserstein distances: closed forms, brute force, and each other."""

import itertools
import math

import pytest
import torch

from unnoise.divergences import (
    Normal,
    sliced,
    wasserstein,
    wasserstein_1d,
    wasserstein_gaussian,
)
from unnoise.errors import InvalidArgument
from unnoise.randomness import Streams

F64 = torch.float64


def cloud(seed, n, d, shift=0.0):
    return Streams(seed, range(n)).normal(d).double() + shift


def quantiles(mean, deviation, n=20_000):
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    return mean + deviation * torch.special.ndtri(u)


def test_gaussians_on_the_line():
    p, q = Normal(0.3, 0.25), Normal(-1, 4)
    assert wasserstein_gaussian(p, q).value == pytest.approx(math.hypot(1.3, 1.5), abs=1e-12)
    for order, loose in ((1, 1e-4), (2, 2e-3)):
        numeric = wasserstein_1d(quantiles(0.3, 0.5), quantiles(-1, 2), order).value
        assert wasserstein_gaussian(p, q, order).value == pytest.approx(numeric, abs=loose)


def test_bures():
    a = torch.tensor([[2.0, 0.7], [0.7, 1.0]], dtype=F64)
    b = torch.tensor([[0.5, -0.2], [-0.2, 3.0]], dtype=F64)
    p, q = Normal([0.0, 0.0], a), Normal([1.0, 2.0], b)
    # for 2 × 2 matrices tr √M = √(tr M + 2√det M), M = AB
    m = a @ b
    shared = math.sqrt(float(m.trace()) + 2 * math.sqrt(float(torch.linalg.det(m))))
    wanted = 5 + float(a.trace() + b.trace()) - 2 * shared
    assert wasserstein_gaussian(p, q).value == pytest.approx(math.sqrt(wanted), abs=1e-12)
    assert wasserstein_gaussian(q, p).value == pytest.approx(math.sqrt(wanted), abs=1e-12)
    # the optimal map A^−½(A^½BA^½)^½A^−½ carries samples over at that cost
    values, vectors = torch.linalg.eigh(a)
    root, inverse = ((vectors * values**e) @ vectors.T for e in (0.5, -0.5))
    values, vectors = torch.linalg.eigh(root @ b @ root)
    carry = inverse @ (vectors * values.sqrt()) @ vectors.T @ inverse
    x = p.sample(Streams(0, range(300)))
    moved = x @ carry + q.mean
    cost = ((x - moved) ** 2).sum(1).mean().sqrt()
    assert wasserstein(x, moved).value == pytest.approx(float(cost), abs=1e-9)
    # commuting and singular covariances
    flat = Normal([0.0, 0.0], [4.0, 0.0])
    assert wasserstein_gaussian(flat, Normal([0.0, 0.0], [0.0, 1.0])).value == pytest.approx(
        math.sqrt(5)
    )


@pytest.mark.parametrize("order", [1, 2])
def test_samples_against_every_permutation(order):
    x, y = cloud(0, 6, 2), cloud(1, 6, 2, 0.5)
    cost = torch.cdist(x, y) ** order
    best = min(
        float(cost[torch.arange(6), list(p)].mean()) for p in itertools.permutations(range(6))
    )
    assert wasserstein(x, y, order).value == pytest.approx(best ** (1 / order), abs=1e-10)


@pytest.mark.parametrize("order", [1, 2])
def test_weights_are_repeated_points(order):
    x, y = cloud(0, 5, 2), cloud(1, 4, 2)
    a, b = torch.tensor([1, 2, 1, 3, 1]), torch.tensor([2, 1, 4, 1])
    wanted = wasserstein(x.repeat_interleave(a, 0), y.repeat_interleave(b, 0), order).value
    assert wasserstein(x, y, order, a, b).value == pytest.approx(wanted, abs=1e-10)
    x, y = x[:, 0], y[:, 0]
    wanted = wasserstein_1d(x.repeat_interleave(a), y.repeat_interleave(b), order).value
    assert wasserstein_1d(x, y, order, a, b).value == pytest.approx(wanted, abs=1e-10)
    assert wasserstein_1d(x, y, order).value != pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_the_line_is_the_linear_programme(order):
    # on two equal coordinates distances are √2 of those on the line
    x, y = cloud(0, 40, 1), cloud(1, 31, 1, 0.3)
    plane = wasserstein(x.repeat(1, 2), y.repeat(1, 2), order).value
    assert wasserstein_1d(x[:, 0], y[:, 0], order).value == pytest.approx(
        plane / math.sqrt(2), abs=1e-10
    )
    assert wasserstein(x, y, order).value == pytest.approx(plane / math.sqrt(2), abs=1e-10)


@pytest.mark.parametrize("order", [1, 2])
def test_slices_of_a_shift(order):
    x = cloud(0, 50, 3)
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    got = sliced(x, x + shift, Streams(0, range(4000)), order)
    # E|θ·Δ|² = ‖Δ‖²/3; E|θ·Δ| = ‖Δ‖/2 on the sphere
    wanted = float(shift.norm()) * (0.5 if order == 1 else 1 / math.sqrt(3))
    assert abs(got.value - wanted) < 4 * got.error
    assert got.error < 0.02
    assert sliced(x, x, Streams(0, range(9)), order).value == 0


def test_slices_take_weights():
    x, y = cloud(0, 5, 2), cloud(1, 4, 2)
    a, b = torch.tensor([1, 2, 1, 3, 1]), torch.tensor([2, 1, 4, 1])
    directions = lambda: Streams(3, range(50))  # noqa: E731
    wanted = sliced(x.repeat_interleave(a, 0), y.repeat_interleave(b, 0), directions()).value
    assert sliced(x, y, directions(), 2, a, b).value == pytest.approx(wanted, abs=1e-10)


def test_bad_points_are_refused():
    x, many = cloud(0, 5, 2), torch.zeros(20_000, 2)
    round_, long = Normal([0.0, 0.0], [1.0, 1.0]), Normal([0.0, 0.0], [1.0, 2.0])
    for call, match in (
        (lambda: wasserstein(x, x[:, :1]), "one shape"),
        (lambda: wasserstein(x[:0], x), "at least one"),
        (lambda: wasserstein(x / 0, x), "NaN or infinity"),
        (lambda: wasserstein(x, x, 3), "give 1 or 2"),
        (lambda: wasserstein(x, x, 2, torch.ones(4)), "one weight"),
        (lambda: wasserstein(x, x, 2, -torch.ones(5)), "one weight"),
        (lambda: wasserstein(many, many), "sliced"),
        (lambda: wasserstein_gaussian(round_, long, 1), "order 2"),
        (lambda: wasserstein_gaussian(Normal(0, 1), long), "one space"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            call()
