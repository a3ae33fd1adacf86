"""The numbers of the one multistep formula, against adaptive quadrature and each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

from tests.exact import BY_NAME
from unnoise.paths import VPLinear
from unnoise.solvers.linear.weights import COORDINATES, RULES, step_weights

PATH = VPLinear()
DIRECTIONS = [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.3)]
NODES, TARGET = [-0.4, -1.1, -2.3, -2.9], 0.7


def place(path, coordinate: str, lam: float) -> float:
    return float(COORDINATES[coordinate](path, np.array([lam]))[0])


def by_quadrature(path, coordinate, nodes, target, p, q):
    """ŵ with dr = dφ/(p·sin φ + q·cos φ)² by scipy, in the angle."""
    points = [place(path, coordinate, lam) for lam in nodes]

    def angle(lam):
        return math.atan(math.exp(-lam))

    def density(phi):
        return 1 / (p * math.sin(phi) + q * math.cos(phi)) ** 2

    def basis(j, phi):
        at = place(path, coordinate, -math.log(math.tan(phi)))
        return math.prod(
            (at - other) / (points[j] - other) for i, other in enumerate(points) if i != j
        )

    ends = angle(nodes[0]), angle(target)
    whole = quad(density, *ends, epsabs=1e-14)[0]
    return [
        quad(lambda f, j=j: density(f) * basis(j, f), *ends, epsabs=1e-13, epsrel=1e-12)[0] / whole
        for j in range(len(nodes))
    ]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("points", [1, 2, 3, 4])
def test_exact_weights_are_the_integrals(direction, coordinate, points):
    ours = step_weights(PATH, coordinate, NODES[:points], TARGET, direction, "exact")
    theirs = by_quadrature(PATH, coordinate, NODES[:points], TARGET, *direction)
    assert ours == pytest.approx(theirs, abs=1e-10)
    assert sum(ours) == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize(
    ("rule", "direction", "points"),
    list(itertools.product([r for r in RULES if r != "half_curvature"], DIRECTIONS[:2], [2, 3]))
    + [("half_curvature", way, 3) for way in DIRECTIONS[:2]],
)
def test_every_rule_keeps_a_constant(rule, direction, points):
    weights = step_weights(PATH, "log_snr", NODES[:points], TARGET, direction, rule)
    assert sum(weights) == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("direction", DIRECTIONS[:2])
def test_the_halved_curvature_is_half(direction):
    """For g = 1 and λ − λ₀ the published weights integrate exactly, for its square to one half."""
    exact = step_weights(PATH, "log_snr", NODES[:3], TARGET, direction, "exact")
    published = step_weights(PATH, "log_snr", NODES[:3], TARGET, direction, "half_curvature")
    for power, share in ((0, 1.0), (1, 1.0), (2, 0.5)):
        on = [(lam - NODES[0]) ** power for lam in NODES[:3]]
        assert np.dot(published, on) == pytest.approx(share * np.dot(exact, on), abs=1e-12)


@pytest.mark.parametrize("name", ["flow", "cosine", "edm", "vp_linear"])
@pytest.mark.parametrize("coordinate", COORDINATES)
def test_into_no_noise_and_out_of_no_signal(name, coordinate):
    """Steps to λ = ∞ and from λ = −∞, and nodes that lie there: finite, and summing to 1."""
    path = BY_NAME[name].path
    for nodes, target in (
        ([3.0, 1.0, -1.0], math.inf),
        ([-math.inf], 0.0),
        ([-1.0, -math.inf], 1.0),
        ([0.5, -1.0, -math.inf], 1.0),
    ):
        for direction in DIRECTIONS:
            if direction[0] == 0 and nodes[0] == -math.inf:
                continue
            weights = step_weights(path, coordinate, nodes, target, direction, "exact")
            assert np.isfinite(weights).all()
            assert sum(weights) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("h", [1e-6, 1e-3, 1.0, 8.0])
def test_small_and_large_steps_lose_no_digits(h):
    """In λ and in x0 the two-point slope share is (h − 1 + e^{−h})/(h·(1 − e^{−h}))."""
    exact = (h - 1 + math.exp(-h)) / (h * -math.expm1(-h)) if h > 1e-2 else 0.5 + h / 12
    ours = step_weights(PATH, "log_snr", [0.0, -h], h, (1.0, 0.0), "exact")
    assert -ours[1] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("stretch", [1.5, 2.0])
@pytest.mark.parametrize("coordinate", ["log_snr", "sigma", "t"])
def test_a_stretched_measure_weighs_by_its_own_exponential(stretch, coordinate):
    """λ from λ₀ to λ₁ under e^{stretch·λ}: what a stochastic step integrates over."""
    nodes = NODES[:3]
    points = [place(PATH, coordinate, lam) for lam in nodes]

    def basis(j, lam):
        at = place(PATH, coordinate, lam)
        return math.prod((at - o) / (points[j] - o) for i, o in enumerate(points) if i != j)

    def total(f):
        return quad(lambda lam: math.exp(stretch * lam) * f(lam), nodes[0], TARGET)[0]

    theirs = [total(lambda lam, j=j: basis(j, lam)) / total(lambda lam: 1.0) for j in range(3)]
    ours = step_weights(PATH, coordinate, nodes, TARGET, (1.0, 0.0), "exact", stretch)
    assert ours == pytest.approx(theirs, abs=1e-10)
