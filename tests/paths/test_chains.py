"""Discrete chains against their own recursion, Bayes' rule and published numbers."""

import math

import pytest
import torch

from tests.exact import F64
from unnoise.errors import InvalidArgument
from unnoise.paths import Chain

CHAINS = {
    "linear": Chain.linear(),
    "scaled_linear": Chain.scaled_linear(),
    "cosine": Chain.cosine(),
    "sigmoid": Chain.sigmoid(),
    "zero_terminal": Chain.linear().with_zero_terminal_snr(),
    "cosine_zero_terminal": Chain.cosine(50).with_zero_terminal_snr(),
    "short": Chain.linear(7, 0.05, 0.5),
    "one": Chain.linear(1, 0.3, 0.3),
}
every_chain = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


def recursion(chain):
    """(scale, variance) of x_n given x0 for n = 0..T, one step at a time, in exact sums."""
    scale, variance, out = 1.0, 0.0, [(1.0, 0.0)]
    for beta in chain.betas:
        scale, variance = scale * math.sqrt(1 - beta), (1 - beta) * variance + beta
        out.append((scale, variance))
    return out


def bayes(chain, n, m):
    """q(x_m | x_n, x0) as the product of two Gaussians in x_m: (on_x0, on_x, variance)."""
    steps = recursion(chain)
    root_m, before = steps[m]
    a, likelihood = 1.0, 0.0  # x_n = a·x_m + N(0, likelihood)
    for beta in chain.betas[m:n]:
        a, likelihood = a * math.sqrt(1 - beta), (1 - beta) * likelihood + beta
    precision = 1 / before + a * a / likelihood
    return root_m / before / precision, a / likelihood / precision, 1 / precision


@every_chain
def test_alpha_bar_is_the_product_of_the_steps(chain):
    for n, (scale, variance) in enumerate(recursion(chain)):
        assert chain.alpha_bar(n) == pytest.approx(scale**2, rel=1e-11)
        assert 1 - chain.alpha_bar(n) == pytest.approx(variance, rel=1e-9)
        if n:
            assert chain.beta(n) == chain.betas[n - 1]
            assert chain.alpha(n) == 1 - chain.betas[n - 1]


@every_chain
def test_single_step_posterior_is_bayes_rule(chain):
    for n in sorted({2, 3, chain.steps // 2, chain.steps - 1, chain.steps}):
        if not 2 <= n <= chain.steps:
            continue
        got = chain.posterior(n)
        expected = bayes(chain, n, n - 1)
        assert (got.on_x0, got.on_x, got.variance) == pytest.approx(expected, rel=1e-10)
        assert chain.beta_tilde(n) == pytest.approx(expected[2], rel=1e-10)


@every_chain
def test_strided_posterior_is_bayes_rule(chain):
    big = chain.steps
    for n, m in [(big, 1), (big, big // 3), (big // 2, big // 4), (5, 2), (3, 1), (big, big - 2)]:
        if not 1 <= m < n <= big:
            continue
        got = chain.posterior(n, m)
        expected = bayes(chain, n, m)
        assert (got.on_x0, got.on_x, got.variance) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine", "short", "zero_terminal"])
def test_strides_are_single_steps_composed(name):
    # x_m drawn through n−1, n−2, …, m given x0 has the law of one stride from n to m
    chain = CHAINS[name]
    for n, m in [(chain.steps, chain.steps - 4), (5, 1), (6, 3)]:
        on_x0, on_x, variance = 0.0, 1.0, 0.0
        for k in range(n, m, -1):
            one = chain.posterior(k)
            on_x0 = one.on_x0 + one.on_x * on_x0
            on_x, variance = one.on_x * on_x, one.variance + one.on_x**2 * variance
        got = chain.posterior(n, m)
        assert (got.on_x0, got.on_x, got.variance) == pytest.approx(
            (on_x0, on_x, variance), rel=1e-9
        )


def test_posterior_coefficients_in_the_middle_of_the_linear_chain():
    got = Chain.linear().posterior(500)
    assert f"{got.on_x0:.4f} {got.on_x:.3f}" == "0.0031 0.994"
    assert Chain.linear().alpha_bar(1000) == pytest.approx(4.0358e-5, rel=1e-4)


@every_chain
def test_the_last_posterior_returns_the_data_without_noise(chain):
    assert chain.beta_tilde(1) == 0.0
    for n in {1, chain.steps}:
        got = chain.posterior(n, 0)
        assert (got.on_x, got.variance) == (0.0, 0.0)
        assert got.on_x0 == pytest.approx(1.0, rel=1e-12)


@every_chain
def test_the_posterior_keeps_the_marginals(chain):
    # E[x_m | x0] and Var[x_m | x0] from x_n ~ q(x_n | x0)
    steps = recursion(chain)
    for n, m in [(chain.steps, chain.steps - 1), (chain.steps, 0), (min(4, chain.steps), 0)]:
        got = chain.posterior(n, m)
        assert got.on_x0 + got.on_x * steps[n][0] == pytest.approx(steps[m][0], rel=1e-9)
        total = got.variance + got.on_x**2 * steps[n][1]
        assert total == pytest.approx(steps[m][1], rel=1e-9)


def test_published_betas():
    linear = Chain.linear(1000)
    assert linear.betas[0] == 1e-4
    assert linear.betas[-1] == 0.02
    assert linear.beta(501) == pytest.approx(1e-4 + 500 / 999 * 0.0199)
    scaled = Chain.scaled_linear(1000)
    assert math.sqrt(scaled.beta(334)) == pytest.approx(
        math.sqrt(0.00085) + 333 / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))
    )
    assert scaled.alpha_bar(1000) == pytest.approx(0.0047, abs=5e-5)  # Stable Diffusion 1
    logistic = Chain.sigmoid(101)
    assert logistic.beta(51) == pytest.approx((1e-4 + 0.02) / 2)
    assert logistic.beta(101) == pytest.approx(1e-4 + 0.0199 / (1 + math.exp(-6)))
    assert logistic.beta(1) == pytest.approx(1e-4 + 0.0199 / (1 + math.exp(6)))


def test_cosine_chain_follows_its_curve_until_the_clip():
    chain = Chain.cosine(1000)

    def f(t):
        return math.cos(math.pi / 2 * (t + 0.008) / 1.008) ** 2

    assert max(chain.betas) == 0.999 == chain.beta(1000)
    assert chain.beta(999) < 0.999
    for n in (1, 10, 500, 999):
        assert chain.alpha_bar(n) == pytest.approx(f(n / 1000) / f(0), rel=1e-9)
    assert chain.alpha_bar(1000) == pytest.approx(chain.alpha_bar(999) * 1e-3, rel=1e-9)
    assert Chain.cosine(1000, clip=0.5).beta(1000) == 0.5


def test_zero_terminal_snr():
    for before in (Chain.linear(), Chain.scaled_linear(), Chain.sigmoid(20, 1e-3, 0.3)):
        after = before.with_zero_terminal_snr()
        last, n = before.steps, before.steps // 2
        assert after.alpha_bar(last) == 0.0
        assert after.beta(last) == 1.0
        assert after.alpha_bar(1) == pytest.approx(before.alpha_bar(1), rel=1e-13)
        roots = [math.sqrt(before.alpha_bar(k)) for k in (1, n, last)]
        expected = roots[0] * (roots[1] - roots[2]) / (roots[0] - roots[2])
        assert math.sqrt(after.alpha_bar(n)) == pytest.approx(expected, rel=1e-10)
        path = after.as_path()
        assert float(path.alpha(1.0)) == 0.0
        assert float(path.log_snr(1.0)) == -math.inf


@every_chain
def test_the_path_is_exact_at_whole_steps(chain):
    n = torch.arange(chain.steps + 1, dtype=F64)
    path = chain.as_path()
    steps = recursion(chain)
    alpha = torch.tensor([scale for scale, _ in steps], dtype=F64)
    sigma = torch.tensor([variance for _, variance in steps], dtype=F64).sqrt()
    torch.testing.assert_close(path.alpha(n / chain.steps), alpha, rtol=1e-11, atol=0)
    torch.testing.assert_close(path.sigma(n / chain.steps), sigma, rtol=1e-10, atol=0)


@every_chain
def test_the_path_between_steps_preserves_variance_and_joins_without_jumps(chain):
    path = chain.as_path()
    n = torch.arange(1, chain.steps, dtype=F64)[:: max(1, chain.steps // 50)]
    halves = (torch.cat([n - 0.5, n + 0.25])) / chain.steps
    one = path.alpha(halves) ** 2 + path.sigma(halves) ** 2
    torch.testing.assert_close(one, torch.ones_like(one), rtol=1e-12, atol=0)
    for side in (-1e-7, 1e-7):
        near, at = (n + side) / chain.steps, n / chain.steps
        torch.testing.assert_close(path.alpha(near), path.alpha(at), rtol=0, atol=1e-7)
        torch.testing.assert_close(path.sigma(near), path.sigma(at), rtol=0, atol=1e-7)


def test_the_path_has_noise_however_close_to_the_data():
    path = Chain.linear().as_path()
    t = torch.tensor([1e-4, 1e-8, 1e-10, 1e-14], dtype=F64)
    torch.testing.assert_close(path.sigma(t), 1000 * t * math.asin(0.01), rtol=1e-5, atol=0)
    assert bool(torch.isfinite(path.log_snr(t)).all())


def test_impossible_chains_are_refused():
    for betas, said in [
        ((0.1, 0.0, 0.2), "beta of step 2 is 0.0"),
        ((0.1, 1.5), "beta of step 2 is 1.5"),
        ((-0.1,), "beta of step 1 is -0.1"),
        ((0.1, 1.0, 0.5), "beta of step 2 is 1.0"),
        ((0.1, math.nan), "nan"),
        ((), "number of steps of the chain is 0"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            Chain(betas)
    for steps in (0, -5, 2.0, True):
        for make in (Chain.linear, Chain.cosine, Chain.scaled_linear, Chain.sigmoid):
            with pytest.raises(InvalidArgument, match="steps is"):
                make(steps)
    with pytest.raises(InvalidArgument, match="at least 2 steps"):
        Chain.linear(1).with_zero_terminal_snr()


def test_betas_from_a_list_or_an_array_make_the_same_chain():
    import numpy as np

    chain = Chain((0.1, 0.2))
    for betas in ([0.1, 0.2], np.array([0.1, 0.2]), torch.tensor([0.1, 0.2], dtype=F64)):
        assert Chain(betas) == chain
        assert hash(Chain(betas)) == hash(chain)
        assert Chain(betas).as_path().log_snr_range() == chain.as_path().log_snr_range()


def test_steps_outside_the_chain_are_refused():
    chain = Chain.linear(10)
    for call in (
        lambda: chain.beta(0),
        lambda: chain.beta(11),
        lambda: chain.alpha_bar(-1),
        lambda: chain.alpha_bar(2.0),
        lambda: chain.beta_tilde(0),
        lambda: chain.posterior(0),
        lambda: chain.posterior(11, 3),
        lambda: chain.posterior(3, 3),
        lambda: chain.posterior(3, 1.5),
        lambda: chain.posterior(3, -1),
    ):
        with pytest.raises(InvalidArgument):
            call()
