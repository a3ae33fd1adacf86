"""Predictor–corrector, annealed Langevin and reverse diffusion: exact moments, published steps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tests.exact import (
    BY_NAME,
    COVARIANCES_2D,
    F64,
    MEANS_2D,
    WEIGHTS_2D,
    gaussian_elementwise,
    mixture_2d,
)
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Gaussian
from unnoise.paths import EDM, VE, Chain, Flow, SubVP, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import ConsistentAnnealing, PredictorCorrector, ReverseDiffusion, presets
from unnoise.solvers.composite.predictor_corrector import norm_step

from .reference import Watched, exact_moments, moments, slope

SPANS = {
    "vp": (VPLinear(), 1.0, 0.01),
    "sub_vp": (SubVP(), 1.0, 0.05),
    "flow": (Flow(), 0.99, 0.02),
    "ve": (VE(), 1.0, 0.05),
}


class Recursion:
    """Mean and variance on an elementwise Gaussian field, from the papers' formulas alone."""

    def __init__(self, field: Gaussian, t: float) -> None:
        self.field = field
        self.mean, self.variance = exact_moments(field, t)

    def at(self, t: float):
        path = self.field.path
        return (float(path.alpha(t)), float(path.sigma(t)), *exact_moments(self.field, t))

    def affine(self, keep, shift, added) -> None:
        self.mean = keep * self.mean + shift
        self.variance = keep**2 * self.variance + added

    def predict(self, start: float, end: float) -> None:
        """x₁ = (2 − k)x + G²·score + G·ξ."""
        (a0, s0, m0, v0), (a1, s1, _, _) = self.at(start), self.at(end)
        k = a0 / a1
        gone = s0**2 - (k * s1) ** 2
        self.affine(2 - k - gone / v0, gone * m0 / v0, gone if s1 else 0.0)

    def carry(self, start: float, end: float) -> None:
        (a0, *_), (a1, *_) = self.at(start), self.at(end)
        self.affine(a1 / a0, 0.0, 0.0)

    def correct(self, t: float, rate: float, consistent: bool) -> None:
        """x + h·score + √(2h)·ξ."""
        _, sigma, mean, variance = self.at(t)
        h = rate * sigma**2
        self.affine(
            1 - h / variance, h * mean / variance, 2 * h - (h * h / sigma**2 if consistent else 0)
        )

    def anneal(self, start: float, end: float, rate: float) -> None:
        """x0 and what is left of ε at the next level, with the noise that level lacks."""
        (a0, s0, m0, v0), (a1, s1, _, _) = self.at(start), self.at(end)
        left = min((1 - rate) * (s0 / a0) / (s1 / a1), 1.0) if s1 else 1.0
        gain = a0 * self.field.variance / v0  # E[x0|x] = mean + gain·(x − m0)
        keep = a1 * gain + left * s1 * (1 - a0 * gain) / s0
        rest = (
            a1 * (self.field.mean - gain * m0)
            - left * s1 * (a0 * self.field.mean - a0 * gain * m0) / s0
        )
        self.affine(keep, rest, s1**2 * (1 - left**2))


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@pytest.mark.parametrize("consistent", [False, True])
def test_moments_are_those_of_the_recursion(span, steps, consistent):
    path, start, end = SPANS[span]
    field, grid = gaussian_elementwise(path), grids.log_snr(path, steps, start, end)
    times, begin = grid.tolist(), exact_moments(field, start)
    rate, count = 0.13, 3
    for predictor in (ReverseDiffusion(), None):
        solver = PredictorCorrector(predictor, count, rate, "level", consistent)
        by_hand = Recursion(field, start)
        for t0, t1 in pairwise(times):
            (by_hand.predict if predictor else by_hand.carry)(t0, t1)
            for _ in range(count):
                by_hand.correct(t1, rate, consistent)
        got = moments(solver, field, grid, *begin)
        torch.testing.assert_close(got[0], by_hand.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(got[1], by_hand.variance, rtol=1e-9, atol=1e-12)
    for solver, step in (
        (ReverseDiffusion(), Recursion.predict),
        (ConsistentAnnealing(0.3), lambda r, t0, t1: r.anneal(t0, t1, 0.3)),
    ):
        by_hand = Recursion(field, start)
        for t0, t1 in pairwise(times):
            step(by_hand, t0, t1)
        got = moments(solver, field, grid, *begin)
        torch.testing.assert_close(got[0], by_hand.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(got[1], by_hand.variance, rtol=1e-9, atol=1e-12)


def test_the_published_steps_of_reverse_diffusion():
    """Song et al. 2021, algs. 2 and 3: σ_{i+1}² − σ_i² on VE; √(1−β), β on the DDPM chain."""
    x, z = Streams(0, range(4)).normal(3).double(), Streams(7, range(4)).normal(3).double()
    path = VE()
    field, grid = gaussian_elementwise(path), grids.uniform(10)
    s0, s1 = (float(path.sigma(grid[k])) for k in (3, 4))
    score = field(x, grid[3]).score
    wanted = x + (s0**2 - s1**2) * score + math.sqrt(s0**2 - s1**2) * z
    got = ReverseDiffusion().solve(field, x, grid[3:5], Streams(7, range(4))).x
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    chain = Chain.linear()
    field = gaussian_elementwise(chain.as_path())
    for n in (1000, 437, 2, 1):
        t, beta = torch.tensor(n / 1000, dtype=F64), chain.beta(n)
        mean = (2 - math.sqrt(1 - beta)) * x + beta * field(x, t).score
        wanted = mean + math.sqrt(beta) * z * (n > 1)  # the last step adds no noise
        got = ReverseDiffusion().solve(field, x, [n / 1000, (n - 1) / 1000], Streams(7, range(4))).x
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("span", SPANS)
def test_reverse_diffusion_is_of_weak_order_one_and_is_not_euler_maruyama(span):
    path, start, end = SPANS[span]
    field, errors, apart = gaussian_elementwise(path), [], []
    wanted_mean, wanted = exact_moments(field, end)
    for steps in (64, 128, 256):
        grid = grids.log_snr(path, steps, start, end)
        mean, variance = moments(ReverseDiffusion(), field, grid, *exact_moments(field, start))
        _, other = moments(presets.get("euler_maruyama"), field, grid, *exact_moments(field, start))
        errors.append(float((variance / wanted - 1).abs().max()))
        apart.append(float((variance / other - 1).abs().max()))
    assert slope(errors) == pytest.approx(1.0, abs=0.12)
    assert apart[0] > 1e-2
    assert float((mean - wanted_mean).abs().max()) < 1e-2


def test_one_step_of_annealed_langevin_as_published():
    """Song & Ermon 2019, alg. 1: x + (α_i/2)·score + √α_i·z, α_i = ε·σ_i²/σ_L², levels 2 … L;
    ε = 2e-5 and σ_L = 0.01 are rate 0.1."""
    path, epsilon = VE(0.01, 1.0), 2e-5
    field, ladder = mixture_2d(path), grids.log_snr(path, 9)
    x = path.prior(Streams(0, range(5)), (2,)).double()
    noise = Streams(3, range(5))
    wanted = x.clone()
    for t in ladder[1:]:
        alpha = epsilon * float(path.sigma(t)) ** 2 / 0.01**2
        for _ in range(7):
            z = noise.normal(2).double()
            wanted = wanted + alpha / 2 * field(wanted, t).score + math.sqrt(alpha) * z
    solver = presets.get("annealed_langevin", corrections=7)
    got = solver.solve(field, x, ladder, Streams(3, range(5)))
    torch.testing.assert_close(got.x, wanted, rtol=1e-9, atol=1e-9)
    assert got.nfe == 9 * 7


def test_consistent_annealing_as_published():
    """Jolicoeur-Martineau et al. 2020, alg. 2: x + ησ_i²·score + β·σ_{i+1}·z,
    β = √(1 − ((1 − η)/γ)²) with γ = σ_{i+1}/σ_i."""
    path, eta = VE(0.01, 1.0), 0.4
    field, ladder = mixture_2d(path), grids.log_snr(path, 20)
    x = path.prior(Streams(0, range(5)), (2,)).double()
    noise, wanted, gamma = Streams(3, range(5)), x.clone(), 0.01 ** (1 / 20)
    beta = math.sqrt(1 - ((1 - eta) / gamma) ** 2)
    for t0, t1 in pairwise(ladder):
        s0, s1 = float(path.sigma(t0)), float(path.sigma(t1))
        z = noise.normal(2).double()
        wanted = wanted + eta * s0**2 * field(wanted, t0).score + beta * s1 * z
    got = ConsistentAnnealing(eta).solve(field, x, ladder, Streams(3, range(5))).x
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path_name", ["vp_linear", "sub_vp", "ve", "flow", "chain_short"])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_consistent_noise_keeps_known_data_and_langevins_does_not(path_name, steps):
    """x0 known: ancestral steps with consistent corrections have mean α·x0, deviation σ."""
    case = BY_NAME[path_name]
    field = Gaussian(torch.tensor([0.7, -2.0], dtype=F64), 0.0, case.path)
    grid, begin = grids.uniform(steps, case.start, 0.1), exact_moments(field, case.start)
    wanted_mean, wanted = exact_moments(field, 0.1)
    for rate in (0.1, 1.0):
        for consistent in (True, False):
            solver = PredictorCorrector(presets.get("ddpm"), 2, rate, "level", consistent)
            mean, variance = moments(solver, field, grid, *begin)
            torch.testing.assert_close(mean, wanted_mean, rtol=1e-9, atol=1e-9)
            if consistent:
                torch.testing.assert_close(variance, wanted.expand(2), rtol=1e-9, atol=0)
            elif steps == 1:  # v ← (1 − r)²v + 2r, twice from 1
                other = wanted * (1 + rate**2 * (1 + (1 - rate) ** 2))
                torch.testing.assert_close(variance, other.expand(2), rtol=1e-9, atol=0)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_where_many_corrections_lead(rate):
    """On data of variance V at level σ: Langevin's own v/(1 − h/2v), v = V + σ²; with consistent
    noise (2 − r)/(2 − h/v)·v, too little by up to r/2 where σ² is far below V."""
    path = VE()
    field = gaussian_elementwise(path)
    t = float(path.time(-math.log(0.5)))
    _, total = exact_moments(field, t)
    h = rate * 0.25
    for consistent, wanted in (
        (False, total / (1 - h / (2 * total))),
        (True, total * (2 - rate) / (2 - h / total)),
    ):
        solver = PredictorCorrector(None, 800, rate, "level", consistent)
        _, got = moments(
            solver, field, torch.tensor([t + 0.01, t], dtype=F64), *exact_moments(field, t)
        )
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=0)


def test_the_size_of_a_correction_from_its_norms():
    """2a(r‖z‖/‖g‖)² of each sample alone, never above σ² (Song et al. 2021, algs. 4 and 5)."""
    score = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=F64)
    draw = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 0.0]], dtype=F64)
    size = norm_step(score, draw, 2 * 0.16**2, 0.9)
    torch.testing.assert_close(
        size[:, 0], torch.tensor([2 * 0.16**2 * 5 / 25, 0.9, 0.9], dtype=F64)
    )
    picture = norm_step(torch.full((2, 1, 4, 4), 0.5), torch.ones(2, 1, 4, 4), 0.02, 1.0)
    assert picture.shape == (2, 1, 1, 1)
    torch.testing.assert_close(picture.flatten(), torch.full((2,), 0.08))


@pytest.mark.parametrize("path", [VE(), Chain.linear().as_path()], ids=["ve", "chain"])
def test_a_step_of_predictor_and_corrector_by_hand(path):
    field, r = mixture_2d(path), 0.16
    x, noise = Streams(0, range(5)).normal(2).double(), Streams(3, range(5))
    grid = [0.401, 0.4, 0.399]
    wanted = x
    for k in (0, 1):
        t0, t1 = (torch.tensor(t, dtype=F64) for t in grid[k : k + 2])
        a0, a1, s0, s1 = (
            float(v) for v in (path.alpha(t0), path.alpha(t1), path.sigma(t0), path.sigma(t1))
        )
        g2 = s0**2 - (a0 / a1 * s1) ** 2
        z = noise.normal(2).double()
        wanted = (2 - a0 / a1) * wanted + g2 * field(wanted, t0).score + math.sqrt(g2) * z
        g, z = field(wanted, t1).score, noise.normal(2).double()
        # a = 1 − β of the level, from the times themselves; nothing comes after the last
        kept = (a1 / float(path.alpha(grid[2]))) ** 2 if k == 0 else 1.0
        h = (2 * kept * (r * z.norm(dim=1) / g.norm(dim=1)) ** 2).clamp(max=s1**2)[:, None]
        wanted = wanted + h * g + (2 * h).sqrt() * z
    if isinstance(path, VE):
        assert kept == 1.0
    else:  # 1 − β_n of the chain
        a = (float(path.alpha(0.4)) / float(path.alpha(0.399))) ** 2
        assert a == pytest.approx(1 - path.chain.beta(400), rel=1e-9)
    solver = presets.get("predictor_corrector", snr=r, norms="sample")
    got = solver.solve(field, x, grid, Streams(3, range(5)))
    torch.testing.assert_close(got.x, wanted, rtol=1e-9, atol=1e-9)
    assert got.nfe == 4


def test_norms_tend_to_the_level_in_high_dimension():
    """‖z‖² ≈ d and ‖score‖² ≈ d/σ²: both rules then take one step."""
    path, t = EDM(), 0.05
    d, sigma = 20_000, 0.05 * 80
    field = Gaussian(torch.zeros(d), 0.01, path)
    x, z = Streams(0, range(3)).normal(d) * sigma, Streams(1, range(3)).normal(d)
    size = norm_step(field(x, torch.tensor(t)).score, z, 0.05, sigma**2)
    torch.testing.assert_close(size.flatten(), torch.full((3,), 0.05 * sigma**2), rtol=0.05, atol=0)


def test_against_diffusers_score_sde_ve():
    """Its predictor and, for a batch of one, its corrector (float32; the batch's mean norm)."""
    module = pytest.importorskip(
        "diffusers.schedulers.scheduling_sde_ve", reason="compares with diffusers"
    )
    theirs = module.ScoreSdeVeScheduler(num_train_timesteps=50, sigma_min=0.01, sigma_max=50.0)
    theirs.set_timesteps(50)
    theirs.set_sigmas(50)
    path, draws = VE(0.01, 50.0), Streams(5, range(1))
    field, solver = mixture_2d(path), presets.get("predictor_corrector", snr=0.15, norms="sample")
    x = path.prior(Streams(0, range(1)), (2,)).double()
    other = x.clone()
    original = module.randn_tensor
    module.randn_tensor = lambda shape, **k: draws.normal(2).double()
    try:
        for k in range(20, 30):  # theirs predicts at level i and corrects at that same level
            sigma = float(theirs.discrete_sigmas[49 - k])
            lower = float(theirs.discrete_sigmas[48 - k])
            t0, t1 = (float(path.time(-math.log(s))) for s in (sigma, lower))
            said = field(other, torch.tensor(t0, dtype=F64)).score
            step = theirs.timesteps[k]
            other = theirs.step_pred(said, step, other).prev_sample
            said = field(other, torch.tensor(t1, dtype=F64)).score
            other = theirs.step_correct(said, other).prev_sample
            if k == 20:
                first = t0
            last = t1
    finally:
        module.randn_tensor = original
    grid = [first]
    for k in range(20, 30):
        grid.append(float(path.time(-math.log(float(theirs.discrete_sigmas[48 - k])))))
    assert grid[-1] == last
    got = solver.solve(field, x, grid, Streams(5, range(1))).x
    torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["ddim", "ddpm", "heun", "rk4", "euler_maruyama", "reverse_diffusion"]
)
def test_any_solver_predicts(name):
    """Corrections at a vanishing rate leave the predictor's own steps."""
    path = VPLinear()
    field, grid = mixture_2d(path), grids.uniform(4, 1.0, 0.2)
    x, predictor = Streams(0, range(3)).normal(2).double(), presets.get(name)
    solver = PredictorCorrector(predictor, 1, 1e-16, "level")
    got = solver.solve(field, x, grid, Still())
    wanted, passes = x, 0
    for pair in pairwise(grid.tolist()):
        one = predictor.solve(field, wanted, pair, Still())
        wanted, passes = one.x, passes + one.nfe
    torch.testing.assert_close(got.x, wanted, rtol=1e-12, atol=1e-12)
    assert got.nfe == passes + 4


class Still:
    """Noise of three samples that is always zero."""

    def normal(self, *event):
        return torch.zeros(3, *event, dtype=F64)

    def mark(self):
        return 0

    def rewound(self, mark=0):
        return Still()


ALL = {
    "reverse diffusion": ReverseDiffusion(),
    "consistent annealing": ConsistentAnnealing(0.2),
    "annealed langevin": presets.get("annealed_langevin"),
    "sample norms": presets.get("predictor_corrector", norms="sample"),
    "level norms": presets.get("predictor_corrector"),
}


@pytest.mark.parametrize("name", ALL)
def test_each_sample_is_its_own_at_any_batch_size(name):
    path = VPLinear()
    field, grid = gaussian_elementwise(path, (3, 5)), grids.uniform(5, 1.0, 0.1)
    x = Streams(1, range(7)).normal(3, 5).double()
    every = ALL[name].solve(field, x, grid, Streams(9, range(7))).x
    two = ALL[name].solve(field, x[3:5], grid, Streams(9, range(3, 5))).x
    assert torch.equal(two, every[3:5])
    with pytest.raises(InvalidArgument, match="noise=Streams"):
        ALL[name].solve(field, x, grid)


@pytest.mark.parametrize("name", [n for n in ALL if n != "sample norms"])
def test_a_mixture_is_sampled_with_its_moments(name):
    """Mean and covariance of the mixture from 500 walks, to 4.5 standard errors."""
    path, n = VE(0.02, 20.0), 500
    field = mixture_2d(path)
    x = path.prior(Streams(0, range(n)), (2,)).double()
    x = ALL[name].solve(field, x, grids.log_snr(path, 60), Streams(1, range(n))).x
    mean = WEIGHTS_2D @ MEANS_2D
    off = MEANS_2D - mean
    covariance = (
        WEIGHTS_2D[:, None, None] * (COVARIANCES_2D + off[:, :, None] * off[:, None])
    ).sum(0)
    deviation = covariance.diagonal().sqrt()
    assert float(((x.mean(0) - mean) / deviation).abs().max()) < 4.5 / math.sqrt(n)
    gap = (x.T.cov() - covariance) / (deviation[:, None] * deviation)
    assert float(gap.abs().max()) < 4.5 * math.sqrt(2 / n)


def test_norms_of_one_sample_are_biased_in_few_dimensions_alone():
    """Variance of N(0, 1) at level σ = 1/2 after 60 corrections of h ≈ 0.1·σ²: exact at once for
    "level", too wide in 2 dimensions and not in 256 where the norms are each sample's own."""
    path, excess = VE(), {}
    t = float(path.time(-math.log(0.5)))
    for d, n in ((2, 1000), (256, 12)):
        field = Gaussian(torch.zeros(d, dtype=F64), 0.75, path)
        solver = PredictorCorrector(None, 60, 0.1, "sample")
        x = field.sample(Streams(0, range(n)), t)
        x = solver.solve(field, x, [t + 0.01, t], Streams(1, range(n))).x
        excess[d] = float(x.square().mean()) - 1
    assert excess[2] > 0.1
    assert abs(excess[256]) < 0.08  # 12·256 numbers: 4 standard errors are 0.1


def test_stopping_inside_a_step_returns_its_beginning():
    field, grid = Watched(mixture_2d(VPLinear())), grids.uniform(3, 1.0, 0.1)
    x = Streams(0, range(2)).normal(2).double()
    solver, seen = presets.get("predictor_corrector", corrections=2), []

    def on_step(step, said):
        seen.append(step)
        return len(seen) < 6

    stopped = solver.solve(field, x, grid, Streams(1, range(2)), on_step)
    one = solver.solve(field.field, x, grid[:2], Streams(1, range(2)))
    assert torch.equal(stopped.x, one.x)
    assert (stopped.finished, stopped.steps, stopped.nfe) == (False, 1, 6)
    assert seen == [0, 0, 0, 1, 1, 1]
    assert stopped.t == float(grid[1])


def test_the_last_step_into_no_noise():
    """No correction where σ = 0; annealed Langevin ends in E[x0|x], the others add no noise."""
    path = EDM()
    field, x = mixture_2d(path), 0.3 * Streams(0, range(3)).normal(2).double()
    t = torch.tensor(0.004, dtype=F64)
    wanted = field(x, t).x0
    for name in (
        "annealed_langevin",
        "consistent_annealing",
        "reverse_diffusion",
        "predictor_corrector",
    ):
        got = presets.get(name).solve(field, x, [0.004, 0.0], Streams(0, range(3)))
        torch.testing.assert_close(got.x, wanted, rtol=1e-10, atol=1e-10)
        assert got.nfe == 1


def test_what_is_refused():
    field, x, noise = mixture_2d(Flow()), torch.zeros(2, 2, dtype=F64), Streams(0, range(2))
    with pytest.raises(Unsupported, match=r"keeps x/α, infinite at t = 1, .*start=0.999"):
        presets.get("annealed_langevin").solve(field, x, grids.uniform(3), noise)
    with pytest.raises(Unsupported, match=r"direction of ε"):
        presets.get("predictor_corrector", predictor="lms").solve(field, x, grids.uniform(3), noise)
    presets.get("predictor_corrector").solve(field, x, grids.uniform(3), noise)
    for make, says in (
        (lambda: PredictorCorrector(corrections=0), "corrections is 0"),
        (lambda: PredictorCorrector(rate=1.5), "rate is 1.5"),
        (lambda: PredictorCorrector(norms="batch"), "unknown norms 'batch'; known: level, sample"),
        (lambda: ConsistentAnnealing(0.0), "rate is 0.0"),
        (lambda: presets.get("predictor_corrector", snr=0.8), "snr is 0.8"),
        (lambda: presets.get("predictor_corrector", predictor="ddmp"), "did you mean 'ddpm'"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            make()
