"""Langevin dynamics without Monte Carlo: on a Gaussian every moment is read off exactly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from tests.exact import F64, gaussian_elementwise, mixture_1d
from tests.solvers.reference import Impulses, slope
from unnoise.errors import InvalidArgument, NonFinite
from unnoise.fields import Gaussian, Mixture
from unnoise.mcmc import (
    MinibatchScore,
    kinetic_langevin,
    langevin,
    mala,
    polynomial_decay,
    score_at,
)
from unnoise.mcmc.langevin import langevin_step, log_acceptance, value_and_score
from unnoise.paths import EDM, VE, grids
from unnoise.randomness import Streams
from unnoise.solvers import presets

MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
VARIANCE = torch.tensor([0.3, 1.0, 4.0], dtype=F64)


def pull(x: Tensor) -> Tensor:
    """The score of N(MEAN, VARIANCE)."""
    return (MEAN - x) / VARIANCE


def spread(walk, draws: int, variance: Tensor | float) -> tuple[Tensor, Tensor]:
    """Mean and variance after `walk(x, noise)`, affine in its start N(0, variance) and draws."""
    x = torch.zeros(draws + 2, 3, dtype=F64)
    x[1] = 1.0
    out = walk(x, Impulses(draws + 2, 2))
    gains = out[1:] - out[0]
    return out[0], gains[0] ** 2 * variance + (gains[1:] ** 2).sum(0)


@pytest.mark.parametrize("h", [0.01, 0.1, 0.5])
def test_the_stationary_variance_is_that_of_the_recursion(h):
    """v ← (1 − h/σ²)²v + 2h has the fixed point σ²/(1 − h/2σ²); other steps leave it."""
    wanted = VARIANCE / (1 - h / (2 * VARIANCE))
    mean, variance = spread(lambda x, noise: langevin(pull, x, 1, h, noise), 1, wanted)
    torch.testing.assert_close(variance, wanted, rtol=1e-13, atol=0)
    torch.testing.assert_close(mean, MEAN * h / VARIANCE, rtol=1e-13, atol=0)
    # where it comes to from anywhere, σ² = 0.3 and 1 after 3000 steps
    mean, variance = spread(lambda x, noise: langevin(pull, x, 3000, h, noise), 3000, 50.0)
    torch.testing.assert_close(variance[:2], wanted[:2], rtol=1e-9, atol=0)
    torch.testing.assert_close(mean[:2], MEAN[:2], rtol=1e-9, atol=0)


def test_langevin_is_of_weak_order_one():
    """Against the Ornstein–Uhlenbeck process: v(T) = σ² + (v₀ − σ²)e^{−2T/σ²}."""
    wanted = VARIANCE + (5.0 - VARIANCE) * (-2 / VARIANCE).exp()
    errors = []
    for steps in (32, 64, 128):
        _, variance = spread(lambda x, z, n=steps: langevin(pull, x, n, 1 / n, z), steps, 5.0)
        errors.append(float((variance - wanted).abs().max()))
    assert slope(errors) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("friction", [0.3, 2.0])
def test_the_kinetic_form_keeps_the_exact_variance(h, friction):
    """BAOAB on N(m, σ²): positions σ² at every stable step, velocities 1 − h²/4σ²."""
    x = torch.zeros(4, 3, dtype=F64)  # rows: mean, start in x, start in v, draw
    v = torch.zeros(4, 3, dtype=F64)
    x[1], v[2] = 1.0, 1.0
    x, v = kinetic_langevin(pull, x, 1, h, Impulses(4, 3), friction, v)
    variances = (VARIANCE, 1 - h**2 / (4 * VARIANCE), torch.ones(3, dtype=F64))
    gains = [(x[k] - x[0], v[k] - v[0]) for k in (1, 2, 3)]
    on_x = sum(gain[0] ** 2 * var for gain, var in zip(gains, variances, strict=True))
    on_v = sum(gain[1] ** 2 * var for gain, var in zip(gains, variances, strict=True))
    between = sum(gain[0] * gain[1] * var for gain, var in zip(gains, variances, strict=True))
    torch.testing.assert_close(on_x, VARIANCE, rtol=1e-12, atol=0)
    torch.testing.assert_close(on_v, variances[1], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(between, torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)


def test_the_kinetic_form_is_of_weak_order_two():
    """E and Var of x and v from rest, against exp of the linear system's own matrix."""
    gamma, sigma2 = 1.3, 0.7
    drift = torch.tensor([[0.0, 1.0], [-1 / sigma2, -gamma]], dtype=F64)
    push = torch.tensor([[0.0, 0.0], [0.0, 2 * gamma]], dtype=F64)
    fine = torch.linspace(0, 1, 2001, dtype=F64)
    flows = torch.linalg.matrix_exp(fine[:, None, None] * drift)
    wanted = torch.trapezoid(flows @ push @ flows.mT, fine, dim=0)
    errors = []
    for steps in (8, 16, 32):
        zero = torch.zeros(steps + 1, 1, dtype=F64)
        x, v = kinetic_langevin(
            lambda x: -x / sigma2, zero, steps, 1 / steps, Impulses(steps + 1, 1), gamma, zero
        )
        joint = torch.cat([x, v], 1)
        errors.append(float((joint.T @ joint - wanted).abs().max()))
    assert slope(errors) == pytest.approx(2.0, abs=0.1)


def log_p(x: Tensor) -> Tensor:
    return mixture_1d(EDM()).log_density(x, 0.0)


def test_the_metropolis_step_is_in_detailed_balance():
    """p(x)q(y|x)a(x, y) = p(y)q(x|y)a(y, x), with q written out as a normal density."""
    x, y = torch.cartesian_prod(*[torch.linspace(-2, 2.5, 19, dtype=F64)] * 2).unbind(1)
    x, y, h = x[:, None], y[:, None], 0.05
    (value_x, score_x), (value_y, score_y) = (value_and_score(log_p, z) for z in (x, y))

    def flow(a, b, value_a, value_b, s_a, s_b):
        proposal = torch.distributions.Normal(a + h * s_a, math.sqrt(2 * h)).log_prob(b)[:, 0]
        chance = log_acceptance(a, b, value_a, value_b, s_a, s_b, h).clamp(max=0)
        return (value_a + proposal + chance).exp()

    forth = flow(x, y, value_x, value_y, score_x, score_y)
    back = flow(y, x, value_y, value_x, score_y, score_x)
    torch.testing.assert_close(forth, back, rtol=1e-10, atol=1e-300)
    assert float(log_acceptance(x, y, value_x, value_y, score_x, score_y, h).abs().max()) > 1


def test_the_adjusted_walk_keeps_its_density_where_the_other_does_not():
    """Started in N(0, 1) with h = 1: the plain one goes to variance 2, the adjusted one stays."""
    n, h = 3000, 1.0
    start = Streams(0, range(n)).normal(1).double()
    plain = langevin(lambda x: -x, start, 6, h, Streams(1, range(n)))
    kept, share = mala(lambda x: -0.5 * (x**2).sum(1), start, 6, h, Streams(1, range(n)))
    error = math.sqrt(2 / n)
    assert float(plain.var()) == pytest.approx(2.0, abs=5 * 2 * error)
    assert float(kept.var()) == pytest.approx(1.0, abs=5 * error)
    assert 0.3 < float(share.mean()) < 0.95


def test_a_rejected_step_stays_where_it_was():
    wall = lambda x: torch.where(x[:, 0] > 0, -0.5 * x[:, 0] ** 2, -1e30)  # noqa: E731
    x = Streams(0, range(200)).normal(1).double().abs()
    out, share = mala(wall, x, 20, 0.5, Streams(1, range(200)))
    assert bool((out > 0).all())
    assert 0 < float(share.mean()) < 1
    one, moved = mala(wall, x, 1, 0.5, Streams(1, range(200)))
    assert torch.equal((one == x)[:, 0], moved == 0)


DATA = torch.tensor([[-0.4], [1.1], [2.0]], dtype=F64)


class Chosen(Streams):
    """Streams whose whole numbers are given in turn, and which are never anything else."""

    __slots__ = ("given",)

    def purpose(self, name):
        return self

    def integers(self, high, *event):
        return torch.tensor(self.given.pop(0)).expand(len(self), *event)


def minibatch_score(size, noise, data=DATA):
    """Of the mean of N(mean, 0.5) data with the prior N(0, 4)."""
    return MinibatchScore(
        lambda x: -x / 4, lambda x, y: ((y - x[:, None]) / 0.5).sum(1), data, size, noise
    )


def test_minibatch_scores_have_the_posteriors_score_as_their_mean():
    x = torch.tensor([[0.3], [-1.0]], dtype=F64)
    exact = -x / 4 + ((DATA.T - x) / 0.5).sum(1, True)
    for size in (1, 2):
        noise = Chosen(0, range(2))
        every = list(itertools.product(range(3), repeat=size))
        noise.given = [list(pick) for pick in every]
        score = minibatch_score(size, noise)
        mean = torch.stack([score(x) for _ in every]).mean(0)
        torch.testing.assert_close(mean, exact, rtol=1e-12, atol=0)


def test_stochastic_gradients_add_their_own_variance():
    """Mean and variance after two steps, over all choices of data and exactly in ξ."""
    steps, moments = (0.02, 0.01), []
    for pick in itertools.product(range(3), repeat=2):
        noise = Chosen(0, range(3))
        noise.given = [[pick[0]], [pick[1]]]
        score = minibatch_score(1, noise)
        out = langevin(score, torch.ones(3, 1, dtype=F64), 2, lambda k: steps[k], Impulses(3, 1))
        moments.append((out[0], ((out[1:] - out[0]) ** 2).sum(0)))
    mean = torch.stack([m for m, _ in moments]).mean(0)
    variance = torch.stack([m for m, _ in moments]).var(0, correction=0) + moments[0][1]
    wanted_mean, wanted = torch.ones(1, dtype=F64), torch.zeros(1, dtype=F64)
    precision, scatter = 1 / 4 + 3 / 0.5, 9 * DATA.var(0, correction=0) / 0.5**2
    for h in steps:
        wanted_mean = wanted_mean + h * (DATA.sum(0) / 0.5 - precision * wanted_mean)
        wanted = (1 - h * precision) ** 2 * wanted + 2 * h + h**2 * scatter
    torch.testing.assert_close(mean, wanted_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(variance, wanted, rtol=1e-12, atol=0)


def test_stochastic_gradient_langevin_samples_the_posterior_of_a_mean():
    """80 data, 8 at a time: falling steps reach the posterior, the first step held does not."""
    n, steps = 400, 120
    data = 1.5 + math.sqrt(0.5) * Streams(3, range(80)).normal(1).double()
    precision = 1 / 4 + len(data) / 0.5
    centre, deviation = float(data.sum()) / 0.5 / precision, precision**-0.5
    scatter = 80**2 / 8 * float(data.var(correction=0)) / 0.5**2
    falling = polynomial_decay(0.4 / precision, 0.01 / precision, steps, 0.9)
    first = falling(0)
    reached = []
    for schedule in (falling, lambda k: first):
        mean, variance = 1.5, 0.0
        for h in map(schedule, range(steps)):
            mean += h * precision * (centre - mean)
            variance = (1 - h * precision) ** 2 * variance + 2 * h + h**2 * scatter
        noise, start = Streams(0, range(n)), torch.full((n, 1), 1.5, dtype=F64)
        end = langevin(minibatch_score(8, noise, data), start, steps, schedule, noise)
        assert abs(float(end.mean()) - mean) < 4 * math.sqrt(variance / n)
        assert float(end.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / n))
        reached.append((abs(mean - centre) / deviation, variance / deviation**2))
    assert reached[0][0] < 0.05
    assert reached[0][1] == pytest.approx(1.0, abs=0.15)
    assert reached[1][1] > 2


def test_decays_go_from_the_first_step_to_the_last():
    schedule = polynomial_decay(0.5, 0.01, 100, 0.7)
    assert schedule(0) == pytest.approx(0.5)
    assert schedule(99) == pytest.approx(0.01)
    # a(b + k)^(−0.7): the logarithm's slope in log(b + k) is one number
    b = 99 / (50 ** (1 / 0.7) - 1)
    for k in (3, 40, 77):
        assert math.log(schedule(k) / 0.5) / math.log((b + k) / b) == pytest.approx(-0.7)
    for arguments, says in (
        ((0.5, 0.01, 100, 0.5), r"power is 0.5; give a number in \(0.5, 1\]"),
        ((0.01, 0.5, 100), "need 0 < last < first"),
        ((0.5, 0.0, 100), "need 0 < last < first"),
        ((0.5, 0.01, 1), "steps is 1"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            polynomial_decay(*arguments)


@pytest.mark.parametrize("level", [0.3, 2.0])
def test_the_consistent_noise_keeps_a_level(level):
    """A point seen through noise: (1 − h/σ²)²σ² + ς² = σ², which √(2h) exceeds by h²/σ²."""
    for h in (0.1 * level, 0.7 * level):
        one = torch.ones(1, 1, dtype=F64)
        keep = float(langevin_step(one, -one / level, h, 0 * one, level)) ** 2
        for limit, wanted in ((level, level), (math.inf, level + h**2 / level)):
            drawn = float(langevin_step(0 * one, 0 * one, h, one, limit)) ** 2
            assert keep * level + drawn == pytest.approx(wanted, rel=1e-13)


FAR = dict(weights=(0.2, 0.8), means=(-5.0, 5.0))  # the mixture of Song & Ermon 2019, figure 3


def far_mixture(path) -> Mixture:
    means = torch.tensor(FAR["means"], dtype=F64)[:, None].expand(2, 2)
    return Mixture(torch.tensor(FAR["weights"], dtype=F64), means, [1.0, 1.0], path)


def share_of_the_first_mode(x: Tensor) -> float:
    return float((x.sum(1) < 0).double().mean())


def test_langevin_on_the_raw_score_fails_where_data_are_absent_and_annealed_does_not():
    """From uniform numbers in [−8, 8]²: the shares of the modes are those of their basins, 1/2,
    where they should be 1/5; down a ladder of noise they come out right (Song & Ermon 2019)."""
    n, path = 400, VE(0.1, 20.0)
    error = math.sqrt(0.2 * 0.8 / n)
    start = 16 * Streams(0, range(n)).uniform(2).double() - 8
    raw = langevin(score_at(far_mixture(path), 0.0), start, 300, 0.05, Streams(1, range(n)))
    # at σ = 0.1 it finds the modes, each as wide as it should be, and not their shares
    assert float((raw.abs() - 5).square().mean()) == pytest.approx(1.0, abs=0.2)
    assert share_of_the_first_mode(raw) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(n))
    assert share_of_the_first_mode(raw) - 0.2 > 10 * error
    ladder = grids.log_snr(path, 14)
    annealed = (
        presets.get("annealed_langevin", corrections=20)
        .solve(
            far_mixture(path),
            path.prior(Streams(2, range(n)), (2,)).double(),
            ladder,
            Streams(2, range(n)),
        )
        .x
    )
    assert share_of_the_first_mode(annealed) == pytest.approx(0.2, abs=4 * error)
    # a little wide: the last levels' steps are too small to take their noise off again
    assert 0.9 < float((annealed.abs() - 5).square().mean()) < 1.35


def test_functions_are_independent_of_the_batch_and_see_each_state():
    field = gaussian_elementwise(VE())
    score, x = score_at(field, 0.3), Streams(0, range(6)).normal(3).double()
    seen: list[Tensor] = []
    every = langevin(score, x, 4, 0.01, Streams(1, range(6)), lambda k, state: seen.append(state))
    assert len(seen) == 4
    assert torch.equal(seen[-1], every)
    assert torch.equal(langevin(score, x[2:4], 4, 0.01, Streams(1, range(2, 4))), every[2:4])
    whole, share = mala(lambda y: field.log_density(y, 0.3), x, 4, 0.01, Streams(1, range(6)))
    part, some = mala(lambda y: field.log_density(y, 0.3), x[2:4], 4, 0.01, Streams(1, range(2, 4)))
    assert torch.equal(part, whole[2:4])
    assert torch.equal(some, share[2:4])
    place, _ = kinetic_langevin(score, x, 4, 0.1, Streams(1, range(6)))
    assert torch.equal(
        kinetic_langevin(score, x[2:4], 4, 0.1, Streams(1, range(2, 4)))[0], place[2:4]
    )
    chain = langevin(
        minibatch_score(2, Streams(5, range(6))), x[:, :1], 3, 0.01, Streams(5, range(6))
    )
    alone = Streams(5, range(2, 4))
    assert torch.equal(langevin(minibatch_score(2, alone), x[2:4, :1], 3, 0.01, alone), chain[2:4])


def test_bad_steps_are_refused_and_divergence_is_named():
    field = Gaussian(torch.zeros(2, dtype=F64), 1.0, VE())
    score, x, noise = score_at(field, 0.0), torch.ones(3, 2, dtype=F64), Streams(0, range(3))
    for h in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidArgument, match="step size of step 0"):
            langevin(score, x, 2, h, noise)
    with pytest.raises(InvalidArgument, match="steps is 0"):
        langevin(score, x, 0, 0.1, noise)
    with pytest.raises(InvalidArgument, match="friction is 0"):
        kinetic_langevin(score, x, 2, 0.1, noise, friction=0.0)
    with pytest.raises(InvalidArgument, match="size of a minibatch is 0"):
        minibatch_score(0, noise)
    with pytest.raises(InvalidArgument, match="no data"):
        minibatch_score(1, noise, DATA[:0])
    with pytest.raises(NonFinite, match=r"sample 0 of 3; .* twice the density's variance"):
        langevin(score, x, 2000, 5.0, noise)
