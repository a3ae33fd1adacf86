"""Fisher divergence; what each KL makes of a model that is too small."""

import math

import pytest
import torch

from unnoise.divergences import Normal, divergence, fisher, fit_normal, integrate, integrated
from unnoise.errors import InvalidArgument
from unnoise.randomness import Streams

F64 = torch.float64
P, Q = Normal(0.3, 0.5), Normal(-0.4, 0.8)


def pair(weight=0.5, centre=2.0, deviation=0.5):
    """weight·N(−centre, s²) + (1 − weight)·N(centre, s²)."""
    left, right = Normal(-centre, deviation**2), Normal(centre, deviation**2)
    return lambda x: torch.logaddexp(left(x) + math.log(weight), right(x) + math.log1p(-weight))


def test_fisher_three_ways():
    # E_p (a·x + b)² with a = 1/0.8 − 1/0.5, score gap = −(x − 0.3)/0.5 + (x + 0.4)/0.8
    a = 1 / 0.8 - 1 / 0.5
    wanted = a**2 * 0.5 + (0.7 / 0.8) ** 2
    assert fisher(P, Q).value == pytest.approx(wanted, abs=1e-12)
    assert fisher(P, Q, -12.0, 12.0).value == pytest.approx(wanted, abs=1e-9)
    assert fisher(lambda x: P(x), Q).value == pytest.approx(wanted, abs=1e-9)
    got = fisher(P, Q, from_p=P.sample(Streams(0, range(4000))))
    assert abs(got.value - wanted) < 4 * got.error < 0.2 * wanted
    wide = (
        Normal([0.0, 1.0], [[1.0, 0.3], [0.3, 2.0]]),
        Normal([0.2, 0.0], [[2.0, -0.5], [-0.5, 1]]),
    )
    got = fisher(*wide, from_p=wide[0].sample(Streams(0, range(4000))))
    assert abs(got.value - fisher(*wide).value) < 4 * got.error


def test_fisher_is_the_rate_of_kl_along_the_heat_flow():
    # de Bruijn: d/dt KL(p∗N(0,t) ‖ q∗N(0,t)) = −½·Fisher
    def kl(t):
        return divergence("kl", Normal(0.3, 0.5 + t), Normal(-0.4, 0.8 + t)).value

    assert (kl(1e-5) - kl(-1e-5)) / 2e-5 == pytest.approx(-0.5 * fisher(P, Q).value, rel=1e-8)


def test_fisher_is_blind_to_the_weights_of_modes_far_apart():
    even, uneven = pair(0.5, 6.0), pair(0.9, 6.0)
    assert fisher(even, uneven, -15, 15).value < 1e-8
    assert integrated("kl", even, uneven, -15, 15).value == pytest.approx(
        0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5), abs=1e-6
    )


def test_forward_kl_covers_with_the_exact_moments():
    p = pair(0.3, 2.0, 0.5)
    fit = fit_normal(p, "kl")
    mean, variance = -2 * 0.3 + 2 * 0.7, 0.25 + 4 * (1 - 0.4**2)
    assert float(fit.mean) == pytest.approx(mean, abs=1e-7)
    assert float(fit.covariance) == pytest.approx(variance, rel=1e-7)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_reverse_kl_seeks_the_mode_it_starts_at(side):
    fit = fit_normal(pair(0.5, 3.0, 0.5), "reverse_kl", start=(side, 1.0))
    assert float(fit.mean) == pytest.approx(3 * side, abs=1e-3)
    assert float(fit.covariance) == pytest.approx(0.25, rel=1e-3)
    # it pays the logarithm of the share of the mode it keeps
    value = integrated("reverse_kl", pair(0.5, 3.0, 0.5), fit, -10, 10).value
    assert value == pytest.approx(math.log(2), abs=1e-5)


def test_maximum_likelihood_is_forward_kl():
    # differences of E_p[log q] are differences of −KL(p‖q), whatever q
    p = pair(0.3, 2.0, 0.5)
    laws = [Normal(0.5, 2.0), Normal(-1.0, 5.0), fit_normal(p)]
    means = [
        float(integrate(lambda x, q=q: p(x[:, None]).exp() * q(x[:, None]), -40, 40)[0])
        for q in laws
    ]
    kls = [integrated("kl", p, q, -40, 40).value for q in laws]
    for a in range(3):
        assert means[a] - means[0] == pytest.approx(kls[0] - kls[a], abs=1e-8)
    assert kls[2] == min(kls)
    # on samples: the most likely Gaussian has their mean and variance
    x = Streams(0, range(500)).normal(1).double() ** 2
    best = [float(x.mean()), float(x.var(correction=0))]
    loss = -Normal(*best)(x).mean()
    for shift in ((0.05, 0.0), (-0.05, 0.0), (0.0, 0.1), (0.0, -0.1)):
        other = Normal(best[0] + shift[0], best[1] + shift[1])
        assert -other(x).mean() > loss


def test_bad_arguments():
    with pytest.raises(InvalidArgument, match="between them"):
        fit_normal(P, start=(20.0, 1.0))
    with pytest.raises(InvalidArgument, match="positive deviation"):
        fit_normal(P, start=(0.0, 0.0))
    with pytest.raises(InvalidArgument, match="from_p"):
        fisher(Normal([0.0, 0.0], [1.0, 1.0]), lambda x: x[:, 0])
    with pytest.raises(InvalidArgument, match="give one"):
        fisher(P, Q, low=0.0, from_p=torch.zeros(2, 1))
