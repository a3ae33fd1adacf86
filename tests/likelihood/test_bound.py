"""The bound against the joint normal law of the chain, and against exact densities."""

import math

import pytest
import torch

from tests.exact import F64, IDS, PATHS, Seen, gaussian_elementwise, mixture_2d
from tests.solvers.reference import slope
from unnoise.fields import LENSES, FiniteData, Gaussian
from unnoise.likelihood import Bound, Levels, continuous_bound, prior_kl, variational_bound
from unnoise.paths import VE, Chain, Cosine, SubVP, VPLinear, grids
from unnoise.randomness import Streams

from .gaussians import (
    Chained,
    Signs,
    WithFraction,
    best_fraction,
    conditional_variance,
    gaussian,
    marginals,
    step_variances,
)

X = torch.tensor([-1.3, 0.2, 0.9, 2.5], dtype=F64)
CHAINS = {
    "linear": Chain.linear(7, 0.02, 0.5),
    "cosine": Chain.cosine(6),
    "zero terminal": Chain.linear(7, 0.02, 0.5).with_zero_terminal_snr(),
    "two": Chain.linear(2, 0.3, 0.4),
}


def pairs(x=X):
    """Every number twice, as events of one number, for `Signs`."""
    return x.repeat_interleave(2)[:, None]


def mean_of_pairs(values):
    return values.unflatten(0, (-1, 2)).mean(1)


def exact_bound(field, x=X, **options):
    """The bound with the expectation over ε done exactly."""
    return variational_bound(field, pairs(x), Signs(2 * len(x)), **options)


@pytest.mark.parametrize("kind", ["posterior", "transition"])
@pytest.mark.parametrize("name", CHAINS)
def test_on_a_chain_it_is_that_of_the_joint_normal_law(name, kind):
    path = CHAINS[name].as_path()
    times = [n / path.chain.steps for n in range(path.chain.steps + 1)]
    alpha, sigma = marginals(path, times)
    wanted = Chained(alpha, sigma, 0.4, 0.6, step_variances(alpha, sigma, kind)).elbo(X)
    made = exact_bound(gaussian(path), variance=kind)
    torch.testing.assert_close(mean_of_pairs(made.likelihood.nats), wanted, rtol=1e-11, atol=1e-11)
    assert made.likelihood.kind == "bound"
    assert made.likelihood.error is None
    assert made.likelihood.nfe == path.chain.steps
    assert made.diffusion.shape == (8, path.chain.steps - 1)


@pytest.mark.parametrize("lens", LENSES)
def test_every_lens_has_the_same_bound(lens):
    path = CHAINS["linear"].as_path()
    wanted = exact_bound(gaussian(path))
    made = exact_bound(Seen(gaussian(path), lens))
    torch.testing.assert_close(made.likelihood.nats, wanted.likelihood.nats, rtol=1e-11, atol=0)
    torch.testing.assert_close(made.diffusion, wanted.diffusion, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("path", [VPLinear(), Cosine(), SubVP(), VE(0.05, 20.0)], ids=str)
@pytest.mark.parametrize("kind", ["posterior", "transition"])
def test_any_grid_on_any_path(path, kind):
    grid = [0.95, 0.6, 0.35, 0.2, 0.06, 0.0]
    alpha, sigma = marginals(path, grid[::-1])
    variances = step_variances(alpha, sigma, kind)
    if sigma[1] == float(path.sigma(0.0)):  # the decoder stands at a noisy t = 0
        variances[0] = (sigma[1] / alpha[1]) ** 2
    at = float(path.alpha(0.95)), float(path.sigma(0.95))
    prior = at[1] ** 2 + at[0] ** 2 * 0.7**2
    wanted = Chained(alpha, sigma, 0.4, 0.6, variances, prior).elbo(X)
    made = exact_bound(gaussian(path), grid=grid, variance=kind, data_std=0.7)
    torch.testing.assert_close(mean_of_pairs(made.likelihood.nats), wanted, rtol=1e-9, atol=1e-9)


def test_part_of_a_chain_has_the_variances_of_its_longer_steps():
    path = Chain.linear(60, 1e-3, 0.1).as_path()
    grid = grids.trailing(path, 5)
    alpha, sigma = marginals(path, grid.flip(0).tolist())
    wanted = Chained(alpha, sigma, 0.4, 0.6, step_variances(alpha, sigma, "posterior")).elbo(X)
    made = exact_bound(gaussian(path), grid=grid)
    torch.testing.assert_close(mean_of_pairs(made.likelihood.nats), wanted, rtol=1e-10, atol=1e-10)


def learned(path, variance, times):
    """The exact field that also says the right variance of every step of rising `times`."""
    before = dict(zip(times[1:], times[:-1], strict=True))

    def variance_fraction(t):
        s = before.get(t, times[0])
        return best_fraction(path, variance, s, t) if float(path.sigma(s)) > 0 else 0.0

    return WithFraction(Gaussian(torch.zeros(1, dtype=F64), variance, path), variance_fraction)


def test_with_the_right_variances_only_the_prior_is_missing():
    """Exact reverse steps: bound = log p(x) + E_q[log p(x_T) − log q(x_T)], at any T."""
    chain = CHAINS["linear"]
    path, variance = chain.as_path(), 0.6
    times = [n / chain.steps for n in range(chain.steps + 1)]
    field = learned(path, variance, times)
    last = conditional_variance(path, variance, 0.0, times[1])
    made = exact_bound(field, variance="learned", decoder_variance=last)
    a, s2 = math.sqrt(chain.alpha_bar(7)), 1 - chain.alpha_bar(7)
    total = a**2 * variance + s2
    square = (a * X) ** 2 + s2  # E[x_T² | x]
    missing = -0.5 * square + 0.5 * (square / total + math.log(total))
    wanted = field.field.log_density(X[:, None], 0.0) + missing
    torch.testing.assert_close(mean_of_pairs(made.likelihood.nats), wanted, rtol=1e-11, atol=1e-11)
    # where the prior is the marginal nothing is missing
    made = exact_bound(
        field, variance="learned", decoder_variance=last, data_std=math.sqrt(variance)
    )
    torch.testing.assert_close(
        mean_of_pairs(made.likelihood.nats),
        field.field.log_density(X[:, None], 0.0),
        rtol=1e-11,
        atol=1e-11,
    )


def test_a_learned_decoder_variance_lies_between_beta_and_the_second_posterior_variance():
    path = CHAINS["linear"].as_path()
    times = [n / 7 for n in range(8)]
    alpha, sigma = marginals(path, times)
    low, high = (step_variances(alpha, sigma, kind) for kind in ("posterior", "transition"))
    between = [a**0.7 * b**0.3 for a, b in zip(low, high, strict=True)]
    wanted = Chained(alpha, sigma, 0.4, 0.6, between).elbo(X)
    made = exact_bound(WithFraction(gaussian(path), lambda t: 0.3), variance="learned")
    torch.testing.assert_close(mean_of_pairs(made.likelihood.nats), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["posterior", "transition"])
def test_the_gap_closes_as_one_over_the_steps(kind):
    path, variance, end = VPLinear(), 0.6, 0.02
    field = Gaussian(torch.zeros(1, dtype=F64), variance, path)
    left = float(path.alpha(end)) ** 2 / float(path.sigma(end)) ** 2
    options = dict(data_std=math.sqrt(variance), decoder_variance=1 / (1 / variance + left))
    x = torch.tensor([-1.0, 1.0], dtype=F64) * math.sqrt(variance)  # exact mean over the data
    gaps = []
    for count in (40, 80, 160):
        grid = grids.log_snr(path, count, 1.0, end)
        made = exact_bound(field, x, grid=grid, variance=kind, **options)
        gap = field.log_density(x[:, None], 0.0) - mean_of_pairs(made.likelihood.nats)
        gaps.append(float(gap.mean()))
    assert gaps[-1] < 0.1
    assert slope(gaps) == pytest.approx(1.0, abs=0.1)


class Middles(Signs):
    """Uniform numbers in the middle of their shares: the midpoint rule."""

    def uniform(self):
        return torch.full((self.rows,), 0.5, dtype=F64)


@pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
def test_infinitely_many_steps_reach_the_density_on_every_path(path):
    variance = 0.6
    field = Gaussian(torch.zeros(1, dtype=F64), variance, path)
    snr = math.exp(2 * min(float(path.log_snr(0.0)), -math.log(1e-3)))
    made = continuous_bound(
        field,
        pairs(),
        Middles(2 * len(X)),
        data_std=math.sqrt(variance),
        decoder_variance=1 / (1 / variance + snr),
        strata=400,
        repeats=1,
    )
    wanted = torch.distributions.Normal(0.0, math.sqrt(variance)).log_prob(X)
    torch.testing.assert_close(mean_of_pairs(made.likelihood.nats), wanted, rtol=0, atol=2e-4)


def test_the_midpoint_rule_converges_to_the_density():
    path, variance = Cosine(), 0.6
    field = Gaussian(torch.zeros(1, dtype=F64), variance, path)
    errors = []
    for strata in (50, 100, 200):
        made = continuous_bound(
            field, pairs(), Middles(8), end=0.01, strata=strata, repeats=1,
            data_std=math.sqrt(variance),
            decoder_variance=1 / (1 / variance + math.exp(2 * float(path.log_snr(0.01)))),
        )  # fmt: skip
        error = mean_of_pairs(made.likelihood.nats) - field.log_density(X[:, None], 0.0)
        errors.append(float(error.abs().mean()))
    assert errors[-1] < 1e-3
    assert slope(errors) == pytest.approx(2.0, abs=0.1)


def test_lenses_agree_on_the_continuous_bound():
    for lens in ("eps", "v", "velocity", "score"):
        a, b = (
            continuous_bound(field, pairs(), Middles(8), strata=20, repeats=1, start=0.99)
            for field in (gaussian(Cosine()), Seen(gaussian(Cosine()), lens))
        )
        torch.testing.assert_close(a.likelihood.nats, b.likelihood.nats, rtol=1e-8, atol=0)


@pytest.mark.parametrize("what", ["steps", "continuous"])
def test_a_monte_carlo_sum_is_right_and_knows_its_error(what):
    rows = 3000
    path = Chain.linear(40, 2e-3, 0.2).as_path()
    field = gaussian_elementwise(path)
    x = torch.tensor([[0.3, 1.0, -0.4]], dtype=F64).expand(rows, 3)
    noise = Streams(3, range(rows))
    if what == "steps":
        made = variational_bound(field, x, noise, strata=6)
        wanted = variational_bound(field, x[:2], Signs(2)).likelihood.nats.mean()
        assert made.likelihood.nfe == 14
    else:
        options = dict(repeats=3)
        made = continuous_bound(field, x, noise, strata=6, **options)
        wanted = continuous_bound(
            field, x[:2], Middles(2), strata=500, repeats=1
        ).likelihood.nats.mean()
        assert made.likelihood.nfe == 21
    mean, error = made.likelihood.mean()
    assert abs(mean - float(wanted)) < 4 * error
    rms = float(made.likelihood.error.square().mean().sqrt())
    assert rms == pytest.approx(float(made.likelihood.nats.std()), rel=0.06)
    assert rms > 0.1  # so that the mean above was no accident


def test_repeated_steps_have_a_standard_error():
    rows, path = 2000, CHAINS["linear"].as_path()
    x = torch.full((rows, 1), 0.7, dtype=F64)
    made = variational_bound(gaussian(path), x, Streams(0, range(rows)), repeats=2)
    rms = float(made.likelihood.error.square().mean().sqrt())
    assert rms == pytest.approx(float(made.likelihood.nats.std()), rel=0.08)
    assert made.likelihood.nfe == 14


def test_of_a_mixture_it_stays_below_the_density_and_comes_near():
    rows = 1200
    field = mixture_2d(Chain.cosine(15).as_path())
    x = field.sample(Streams(1, range(rows), "data"))
    made = variational_bound(field, x, Streams(1, range(rows)), variance="transition")
    below = field.log_density(x, 0.0) - made.likelihood.nats
    error = float(below.std()) / math.sqrt(rows)
    assert float(below.mean()) > 3 * error
    assert float(below.mean()) < 2
    continuous = continuous_bound(field, x, Streams(1, range(rows)), strata=30)
    below = field.log_density(x, 0.0) - continuous.likelihood.nats
    error = float(below.std()) / math.sqrt(rows)
    assert -3 * error < float(below.mean()) < 0.1


def test_of_levels_it_is_the_probability_of_the_level():
    """Two of three levels, each as likely: −log p = log 2, and the bound comes close to it."""
    field = FiniteData(
        torch.tensor([[-1.0], [1.0]], dtype=F64), Chain.linear(400, 1e-4, 0.05).as_path()
    )
    x = torch.tensor([[-1.0], [1.0]], dtype=F64).repeat(100, 1)
    levels = Levels(count=3)
    made = variational_bound(field, x, Streams(0, range(200)), levels=levels)
    nats, error = made.likelihood.mean()
    assert -math.log(2) - 0.05 < nats < -math.log(2) + 3 * error
    assert float(made.likelihood.bits_per_dim().mean()) == pytest.approx(-nats / math.log(2))
    assert float(made.reconstruction.max()) < 1e-6


def test_the_terms_add_up_and_lie_where_they_were_taken():
    path = CHAINS["linear"].as_path()
    made = variational_bound(gaussian(path), pairs(), Streams(0, range(8)))
    total = made.prior + made.diffusion.sum(1) + made.reconstruction
    torch.testing.assert_close(made.likelihood.nats, -total)
    assert made.t[0].tolist() == [n / 7 for n in range(2, 8)]
    by_level = made.by_level(7)
    assert by_level[0][2] == 0  # the decoder's step
    torch.testing.assert_close(
        torch.tensor([nats for _, _, nats in by_level[1:]], dtype=F64), made.diffusion.mean(0)
    )
    assert [round(7 * low) for low, _, _ in by_level] == list(range(7))
    two = Bound.cat([made, made])
    assert two.prior.shape == two.likelihood.nats.shape == (16,)


def test_a_samples_bound_does_not_depend_on_its_batch():
    path = CHAINS["linear"].as_path()
    for strata in (None, 3):
        whole, second = (
            variational_bound(
                gaussian(path), pairs()[rows], Streams(0, range(8))[rows], strata=strata
            )
            for rows in (slice(0, 8), slice(4, 8))
        )
        torch.testing.assert_close(
            second.likelihood.nats, whole.likelihood.nats[4:], rtol=0, atol=0
        )


def test_the_prior_term_by_hand():
    path = VPLinear(0.1, 2.0)
    a, s = float(path.alpha(1.0)), float(path.sigma(1.0))
    p, q = torch.distributions.Normal(0.0, math.hypot(s, 0.5 * a)), None
    x = torch.tensor([[0.5, -2.0]], dtype=F64)
    q = torch.distributions.Normal(a * x, torch.tensor(s, dtype=F64))
    wanted = torch.distributions.kl_divergence(q, p).sum(1)
    torch.testing.assert_close(prior_kl(path, x, data_std=0.5), wanted)
