"""Stochastic solvers without Monte Carlo: on a Gaussian every moment is read off exactly."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tests.exact import BY_NAME, F64, gaussian_elementwise
from unnoise.errors import InvalidArgument
from unnoise.fields import Field, Gaussian, Prediction
from unnoise.paths import VE, Chain, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import PredictorCorrector, SingleStep, StochasticMultistep, presets

from .reference import Impulses, exact_moments, moments, slope

SOLVERS = {
    "ddim 0.5": presets.ddim(0.5),
    "ddim 1": presets.ddim(1.0),
    "ddpm posterior": presets.ddpm(),
    "ddpm transition": presets.ddpm("transition"),
    "ancestral eps": SingleStep(direction=(0.0, 1.0), eta=1.0),
    "sde 2m": presets.dpmpp_2m_sde(),
    "sde 2m 0.5": presets.dpmpp_2m_sde(0.5),
    "sde exact 2": StochasticMultistep(2),
    "sde exact 2 in t": StochasticMultistep(2, coordinate="t"),
    "sde exact 3": StochasticMultistep(3),
    "sa 2 2": presets.get("sa_solver"),
    "sa 2 2 exact": presets.get("sa_solver", rule="exact"),
    "sa 1 0": presets.get("sa_solver", points=1, corrector=0),
    "sa 3 0, tau 0.6": presets.get("sa_solver", points=3, corrector=0, tau=0.6),
    "er sde 1": presets.get("er_sde", points=1),
    "er sde 2": presets.get("er_sde", points=2),
    "er sde 3": presets.get("er_sde"),
    "er sde 2, reverse sde": presets.get("er_sde", points=2, scale="sde"),
    "sde 2m, its own eta": presets.get("dpmpp_2m_sde", eta=0.5, variance="sde"),
    "sde 2m, eta 2": presets.get("dpmpp_2m_sde", eta=2.0, variance="sde"),
    "sde 2m heun": presets.get("dpmpp_2m_sde", rule="exact"),
    "sde 3m": presets.get("dpmpp_3m_sde"),
    "dpm2 ancestral": presets.get("dpm2_ancestral"),
    "dpm2 ancestral 0.5": presets.get("dpm2_ancestral", eta=0.5),
    "2s ancestral": presets.get("dpmpp_2s_ancestral"),
    "2s sde": presets.get("dpmpp_sde"),
    "2s sde 0.5": presets.get("dpmpp_sde", eta=0.5),
    "edm churn": presets.get("edm_churn", churn=10.0, scale=1.0),
    "edm churn dpm2": presets.get("edm_churn", method="dpm2", churn=10.0, scale=1.0),
    "edm churn euler": presets.get("edm_churn", method="euler", churn=10.0, scale=1.0),
    "consistent annealing": presets.get("consistent_annealing", rate=0.9),
    "ancestral, corrected": PredictorCorrector(presets.ddpm(), 2, 0.6, "level", consistent=True),
    "euler maruyama 0.5": presets.euler_maruyama(0.5),
    "euler maruyama": presets.euler_maruyama(),
    "euler maruyama 2": presets.euler_maruyama(2.0),
}
SPANS = {"vp": (VPLinear(), 1.0, 0.01), "flow": (Flow(), 0.99, 0.02), "ve": (VE(), 1.0, 0.05)}
# where a first-order term happens to cancel: the reverse SDE of VE in even log-SNR
LUCKY = {("euler maruyama", "ve"), *(("sa 2 2 exact", span) for span in SPANS)}


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("name", SOLVERS)
def test_declared_weak_order_is_measured(name, span):
    solver, (path, start, end) = SOLVERS[name], SPANS[span]
    field = gaussian_elementwise(path)
    wanted_mean, wanted = exact_moments(field, end)
    errors, drift = [], []
    for steps in (64, 128, 256):
        mean, variance = moments(
            solver, field, grids.log_snr(path, steps, start, end), *exact_moments(field, start)
        )
        errors.append(float((variance / wanted - 1).abs().max()))
        drift.append(float((mean - wanted_mean).abs().max()))
    measured = slope(errors)
    assert drift[-1] < 2e-3
    if (name, span) in LUCKY:
        assert solver.order <= measured < solver.order + 1.1
    else:
        assert measured == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("name", [n for n in SOLVERS if "transition" not in n and "euler" not in n])
@pytest.mark.parametrize("path_name", ["vp_linear", "sub_vp", "ve", "flow", "chain_short"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 13])
def test_marginals_of_known_data_are_exact_at_any_number_of_steps(name, path_name, steps):
    """x0 known: the step q(x₁|x₀, x0) is exact, so mean α·x0 and deviation σ hold everywhere."""
    case = BY_NAME[path_name]
    field = Gaussian(torch.tensor([0.7, -2.0], dtype=F64), 0.0, case.path)
    for end in (0.31, 0.0):
        grid = grids.uniform(steps, case.start, end)
        mean, variance = moments(SOLVERS[name], field, grid, *exact_moments(field, case.start))
        wanted_mean, wanted = exact_moments(field, end)
        torch.testing.assert_close(mean, wanted_mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(variance, wanted.expand(2), rtol=1e-8, atol=1e-20)


def recursion(chain: Chain, field: Gaussian, numbers: list[int], larger: bool):
    """Mean and variance of ancestral sampling down `numbers`, from Chain.posterior alone."""
    bar = chain.alpha_bar(numbers[0])
    mean, variance = math.sqrt(bar) * field.mean, bar * field.variance + 1 - bar
    for n, m in pairwise(numbers):
        bar, step = chain.alpha_bar(n), chain.posterior(n, m)
        # E[x0|x] = gain·x + rest
        gain = math.sqrt(bar) * field.variance / (bar * field.variance + 1 - bar)
        rest = field.mean - gain * math.sqrt(bar) * field.mean
        on_x = step.on_x + step.on_x0 * gain
        added = step.variance
        if larger and m > 0:
            added = 1 - bar / chain.alpha_bar(m)  # β of the step
        mean = on_x * mean + step.on_x0 * rest
        variance = on_x**2 * variance + added
    return mean, variance


@pytest.mark.parametrize("variance", ["posterior", "transition"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 13, 250, 1000])
@pytest.mark.parametrize("spacing", [grids.trailing, grids.leading, grids.linspace])
def test_ancestral_steps_follow_the_chains_own_posterior(variance, steps, spacing):
    chain = Chain.linear()
    path = chain.as_path()
    field, grid = gaussian_elementwise(path), spacing(path, steps)
    numbers = [round(float(t) * chain.steps) for t in grid]
    start = exact_moments(field, float(grid[0]))
    mean, var = moments(presets.ddpm(variance), field, grid, *start)
    wanted_mean, wanted = recursion(chain, field, numbers, variance == "transition")
    torch.testing.assert_close(mean, wanted_mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(var, wanted, rtol=1e-8, atol=1e-10)


def test_the_larger_variance_keeps_unit_data_and_the_posterior_one_does_not():
    """β_t is right for data N(0, I) (Ho et al. 2020, section 3.2)."""
    path = Chain.linear().as_path()
    grid = grids.trailing(path, 1000)
    unit = Gaussian(torch.zeros(1, dtype=F64), 1.0, path)
    one = torch.ones(1, dtype=F64)
    _, posterior = moments(presets.ddpm(), unit, grid[:-1], 0 * one, one)
    _, transition = moments(presets.ddpm("transition"), unit, grid[:-1], 0 * one, one)
    assert float((transition - 1).abs()) < 1e-9
    assert float(posterior) < 0.995


class Ramp(Field):
    """x0 = λ(t), whatever x: what a two-point rule must integrate without error."""

    def __init__(self, path):
        self.path = path

    def __call__(self, x_t, t, condition=None):
        return Prediction(x_t, t, self.path, "x0", self.path.log_snr(t).expand(x_t.shape))


@pytest.mark.parametrize("path", [VPLinear(), VE()], ids=["vp", "ve"])
def test_a_stochastic_step_integrates_over_its_own_measure(path):
    """Mean of the reverse SDE for x0 = λ: α₁·∫ 2·e^{2(λ−λ₁)}·λ dλ a step, not the ODE's e^λ."""
    grid = grids.log_snr(path, 5, 1.0, 0.1)
    alpha, sigma, lam = (f(grid).tolist() for f in (path.alpha, path.sigma, path.log_snr))
    x = torch.zeros(7, 1, dtype=F64)
    ours = StochasticMultistep(2).solve(Ramp(path), x, grid, Impulses(7, 2)).x[0, 0]
    mean = 0.0
    for k in range(5):
        h = lam[k + 1] - lam[k]
        kept = sigma[k + 1] / sigma[k] * math.exp(-h)
        integral = lam[k + 1] - lam[k] * math.exp(-2 * h) + math.expm1(-2 * h) / 2
        if k == 0:  # one point known: x0 as if constant
            integral = -math.expm1(-2 * h) * lam[0]
        mean = kept * mean + alpha[k + 1] * integral
    assert float(ours) == pytest.approx(mean, abs=1e-11)


@pytest.mark.parametrize("name", SOLVERS)
def test_each_sample_has_its_own_noise_at_any_batch_size(name):
    """Samples 3 and 4 alone, or among seven: the same numbers to the bit."""
    path = VPLinear()
    field, grid = gaussian_elementwise(path), grids.uniform(5, 1.0, 0.1)
    x = Streams(1, range(7)).normal(3).double()
    every = SOLVERS[name].solve(field, x, grid, Streams(9, range(7))).x
    two = SOLVERS[name].solve(field, x[3:5], grid, Streams(9, range(3, 5))).x
    assert torch.equal(two, every[3:5])
    assert not torch.equal(SOLVERS[name].solve(field, x, grid, Streams(8, range(7))).x, every)


@pytest.mark.parametrize("name", SOLVERS)
def test_without_noise_they_refuse(name):
    field = gaussian_elementwise(VPLinear())
    with pytest.raises(InvalidArgument, match=r"noise=Streams"):
        SOLVERS[name].solve(field, torch.zeros(1, 3, dtype=F64), grids.uniform(3))


def test_eta_zero_draws_nothing():
    noise = Streams(0, range(2))
    field = gaussian_elementwise(VPLinear())
    for solver in (presets.ddim(0.0), presets.euler_maruyama(0.0), presets.dpmpp_2m_sde(0.0)):
        assert not solver.stochastic
        solver.solve(field, torch.ones(2, 3, dtype=F64), grids.uniform(4, 1.0, 0.1), noise)
    assert noise.mark() == 0
