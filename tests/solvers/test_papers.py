"""Each preset against its paper's own formula, written out here independently, on a mixture."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from tests.exact import BY_NAME, F64, Seen, mixture_2d
from unnoise.paths import EDM, Chain, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import Multistep, RungeKutta, SingleStep, presets

PATH = VPLinear()
FIELD = mixture_2d(PATH)
STEPS = [1, 2, 3, 7, 13]
GRIDS = {
    "log_snr": lambda path, n: grids.log_snr(path, n, 1.0, 0.01),
    "uniform": lambda path, n: grids.uniform(n, 1.0, 0.01),
    "uneven": lambda path, n: torch.linspace(0.97, 0.03, n + 1, dtype=F64) ** 1.7,
}
each_grid = pytest.mark.parametrize("spacing", GRIDS)
each_count = pytest.mark.parametrize("steps", STEPS)


def start(n: int = 9) -> torch.Tensor:
    return Streams(5, range(n)).normal(2).double()


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def numbers(path, grid):
    """Floats α, σ, λ of every time of a grid."""
    return ([float(f(t)) for t in grid] for f in (path.alpha, path.sigma, path.log_snr))


@each_grid
@each_count
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_equation_12(steps, spacing, eta):
    grid, noise = GRIDS[spacing](PATH, steps), Streams(1, range(9))
    x = start()
    ours = presets.ddim(eta).solve(Seen(FIELD, "eps"), x, grid, Streams(1, range(9))).x
    for now, then in pairwise(grid):
        bar, bar_next = float(PATH.alpha(now)) ** 2, float(PATH.alpha(then)) ** 2
        eps = FIELD(x, now).eps
        spread = eta * math.sqrt((1 - bar_next) / (1 - bar)) * math.sqrt(1 - bar / bar_next)
        x0 = (x - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
        x = math.sqrt(bar_next) * x0 + math.sqrt(1 - bar_next - spread**2) * eps
        if eta:
            x = x + spread * noise.normal(2).double()
    same(ours, x)


@pytest.mark.parametrize("variance", ["posterior", "transition"])
@pytest.mark.parametrize(
    "chain", [Chain.linear(10, 1e-2, 0.4), Chain.cosine(13), Chain.linear()], ids=["10", "13", "T"]
)
def test_ancestral_ddpm_algorithm_2(chain, variance):
    """Every step of the chain, with β and ᾱ by the paper's own recursion."""
    path, steps = chain.as_path(), chain.steps
    field, noise, x = mixture_2d(path), Streams(2, range(9)), start()
    grid = grids.trailing(path, steps)
    ours = presets.ddpm(variance).solve(field, x, grid, Streams(2, range(9))).x
    bars = [1.0]
    for beta in chain.betas:
        bars.append(bars[-1] * (1 - beta))
    for n in range(steps, 0, -1):
        beta, bar, bar_before = chain.betas[n - 1], bars[n], bars[n - 1]
        eps = field(x, torch.tensor(n / steps, dtype=F64)).eps
        x = (x - beta / math.sqrt(1 - bar) * eps) / math.sqrt(1 - beta)
        tilde = (1 - bar_before) / (1 - bar) * beta
        if n > 1:
            x = x + math.sqrt(tilde if variance == "posterior" else beta) * noise.normal(2).double()
    torch.testing.assert_close(ours, x, rtol=1e-8, atol=1e-8)


@each_grid
@each_count
def test_dpmpp_2m_algorithm_2(steps, spacing):
    grid = GRIDS[spacing](PATH, steps)
    alpha, sigma, lam = numbers(PATH, grid)
    x, before = start(), None
    ours = presets.dpmpp_2m().solve(FIELD, x, grid).x
    for k in range(steps):
        x0, h = FIELD(x, grid[k]).x0, lam[k + 1] - lam[k]
        d = x0
        if k:
            r = (lam[k] - lam[k - 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        x, before = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * math.expm1(-h) * d, x0
    same(ours, x)


@each_grid
@each_count
@pytest.mark.parametrize("exact", [False, True])
def test_dpmpp_3m(steps, spacing, exact):
    """As published, and with its last term doubled: the integral it stands for."""
    grid = GRIDS[spacing](PATH, steps)
    alpha, sigma, lam = numbers(PATH, grid)
    x, past = start(), []
    solver = presets.dpmpp_3m_exact() if exact else presets.dpmpp_3m()
    ours = solver.solve(FIELD, x, grid).x
    for k in range(steps):
        past.insert(0, FIELD(x, grid[k]).x0)
        h = lam[k + 1] - lam[k]
        phi1 = math.expm1(-h)
        phi2 = phi1 / h + 1
        phi3 = phi2 / h - 0.5
        x = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * phi1 * past[0]
        if k == 1:
            r = (lam[1] - lam[0]) / h
            share = phi2 if exact else -0.5 * phi1
            x = x + alpha[2] * share * (past[0] - past[1]) / r
        elif k > 1:
            r0, r1 = (lam[k] - lam[k - 1]) / h, (lam[k - 1] - lam[k - 2]) / h
            d10, d11 = (past[0] - past[1]) / r0, (past[1] - past[2]) / r1
            d1 = d10 + r0 / (r0 + r1) * (d10 - d11)
            d2 = (d10 - d11) / (r0 + r1)
            x = x + alpha[k + 1] * (phi2 * d1 - (2 if exact else 1) * phi3 * d2)
    same(ours, x)


@each_grid
@each_count
def test_dpm_solver_2_multistep_in_eps(steps, spacing):
    grid = GRIDS[spacing](PATH, steps)
    alpha, sigma, lam = numbers(PATH, grid)
    x, before = start(), None
    ours = presets.dpm_2m().solve(FIELD, x, grid).x
    for k in range(steps):
        eps, h = FIELD(x, grid[k]).eps, lam[k + 1] - lam[k]
        x = alpha[k + 1] / alpha[k] * x - sigma[k + 1] * math.expm1(h) * eps
        if k:
            r = (lam[k] - lam[k - 1]) / h
            x = x - 0.5 * sigma[k + 1] * math.expm1(h) * (eps - before) / r
        before = eps
    same(ours, x)


def unipc(field, x, grid, order: int, rule: str, lens: str):
    """UniPC by its linear systems R·ρ = b (Zhao et al. 2023, appendix), corrector included."""
    alpha, sigma, lam = numbers(field.path, grid)
    scale, other = (alpha, sigma) if lens == "x0" else (sigma, alpha)
    base, models = x, []

    def step(k, start, known, p, newest=None):
        """From time k − 1 to k; with `newest` = model at time k, corrected."""
        h = lam[k] - lam[k - 1]
        hh = -h if lens == "x0" else h
        rks = [(lam[k - 1 - i] - lam[k - 1]) / h for i in range(1, p)]
        diffs = [(known[i] - known[0]) / r for i, r in zip(range(1, p), rks, strict=True)]
        grow = math.expm1(hh) if rule == "bh2" else hh
        b, phi, factorial = [], math.expm1(hh) / hh - 1, 1
        for i in range(1, p + 1):
            b.append(phi * factorial / grow)
            factorial *= i + 1
            phi = phi / hh - 1 / factorial
        if newest is not None:
            rks, diffs = [*rks, 1.0], [*diffs, newest - known[0]]
        size = len(rks)
        rows = torch.tensor([[r**i for r in rks] for i in range(size)], dtype=F64)
        rho = torch.tensor([0.5], dtype=F64)
        if size > 1:
            rho = torch.linalg.solve(rows, torch.tensor(b[:size], dtype=F64))
        out = other[k] / other[k - 1] * start - scale[k] * math.expm1(hh) * known[0]
        for weight, diff in zip(rho[:size].tolist() if size else [], diffs, strict=True):
            out = out - scale[k] * grow * weight * diff
        return out

    for k in range(1, len(grid)):
        said = getattr(field(x, grid[k - 1]), lens)
        if k > 1:
            base = step(k - 1, base, models, min(order, k - 1), said)
        models = [said, *models][:order]
        x = step(k, base, models, min(order, k))
    return x


@each_grid
@each_count
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("rule", ["bh1", "bh2"])
@pytest.mark.parametrize("lens", ["x0", "eps"])
def test_unipc_by_its_linear_systems(steps, spacing, order, rule, lens):
    grid = GRIDS[spacing](PATH, steps)
    ours = presets.unipc(order, rule, lens).solve(FIELD, start(), grid).x
    same(ours, unipc(FIELD, start(), grid, order, rule, lens))


def lagrange(nodes, j, at):
    return math.prod((at - n) / (nodes[j] - n) for i, n in enumerate(nodes) if i != j)


@each_grid
@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_deis_tab_by_quadrature(steps, spacing, order):
    """Zhang & Chen 2023, eq. 15: C_j = ∫ ½·Ψ(t', τ)·g²(τ)/σ(τ)·ℓ_j(τ) dτ."""
    grid = GRIDS[spacing](PATH, steps)
    times, x, past = grid.tolist(), start(), []
    ours = presets.deis(order).solve(FIELD, x, grid).x

    def rate(tau, k):
        carried = float(PATH.alpha(times[k + 1])) / float(PATH.alpha(tau))
        return 0.5 * carried * float(PATH.diffusion(tau)) ** 2 / float(PATH.sigma(tau))

    for k in range(steps):
        past = [FIELD(x, grid[k]).eps, *past][:order]
        nodes = [times[k - i] for i in range(len(past))]
        x = float(PATH.alpha(times[k + 1]) / PATH.alpha(times[k])) * x
        for j, eps in enumerate(past):
            share = quad(
                lambda tau, j=j, k=k, nodes=nodes: rate(tau, k) * lagrange(nodes, j, tau),
                times[k],
                times[k + 1],
                epsabs=1e-14,
                epsrel=1e-13,
            )[0]
            x = x + share * eps
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_by_quadrature(steps, order):
    """k-diffusion's linear multistep: dx/dσ = ε, integrated over ℓ_j(σ); α = 1."""
    path = EDM()
    field, grid = mixture_2d(path), grids.karras(path, steps, sigma_min=0.02)
    sigma, x, past = path.sigma(grid).tolist(), 80 * start(), []
    ours = presets.lms(order).solve(field, x, grid).x
    for k in range(steps):
        past = [field(x, grid[k]).eps, *past][:order]
        nodes = [sigma[k - i] for i in range(len(past))]
        for j, eps in enumerate(past):
            share = quad(lambda s, j=j, n=nodes: lagrange(n, j, s), sigma[k], sigma[k + 1])[0]
            x = x + share * eps
    same(ours, x)


@each_count
def test_edm_algorithm_1(steps):
    """Karras et al. 2022, deterministic, down to σ = 0: two passes a step, one on the last."""
    path = EDM()
    field, grid, x = mixture_2d(path), grids.karras(path, steps), 80 * start()
    solution = presets.heun("sigma").solve(field, x, grid)
    sigma = path.sigma(grid).tolist()
    for k in range(steps):
        d = (x - field(x, grid[k]).x0) / sigma[k]
        ahead = x + (sigma[k + 1] - sigma[k]) * d
        if sigma[k + 1] > 0:
            d2 = (ahead - field(ahead, grid[k + 1]).x0) / sigma[k + 1]
            ahead = x + (sigma[k + 1] - sigma[k]) * 0.5 * (d + d2)
        x = ahead
    same(solution.x, x)
    assert solution.nfe == 2 * steps - 1


@each_grid
@each_count
def test_sde_dpmpp_2m(steps, spacing):
    grid, noise = GRIDS[spacing](PATH, steps), Streams(3, range(9))
    alpha, sigma, lam = numbers(PATH, grid)
    x, before = start(), None
    ours = presets.dpmpp_2m_sde().solve(FIELD, x, grid, Streams(3, range(9))).x
    for k in range(steps):
        x0, h = FIELD(x, grid[k]).x0, lam[k + 1] - lam[k]
        x = sigma[k + 1] / sigma[k] * math.exp(-h) * x - alpha[k + 1] * math.expm1(-2 * h) * x0
        if k:
            r = (lam[k] - lam[k - 1]) / h
            x = x - 0.5 * alpha[k + 1] * math.expm1(-2 * h) * (x0 - before) / r
        x = x + sigma[k + 1] * math.sqrt(-math.expm1(-2 * h)) * noise.normal(2).double()
        before = x0
    same(ours, x)


@each_count
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["vp_linear", "sub_vp", "ve", "flow"])
def test_euler_maruyama(steps, eta, name):
    """Song et al. 2021, eq. 6, and the family of SDEs with the same marginals."""
    case = BY_NAME[name]
    path, field = case.path, mixture_2d(case.path)
    grid, noise = grids.uniform(steps, case.start, 0.05), Streams(4, range(9))
    x = start()
    ours = presets.euler_maruyama(eta).solve(field, x, grid, Streams(4, range(9))).x
    for now, then in pairwise(grid.tolist()):
        gap, f, g = now - then, float(path.drift(now)), float(path.diffusion(now))
        score = field(x, torch.tensor(now, dtype=F64)).score
        x = x - (f * x - 0.5 * (1 + eta**2) * g**2 * score) * gap
        if eta:
            x = x + eta * g * math.sqrt(gap) * noise.normal(2).double()
    torch.testing.assert_close(ours, x, rtol=1e-10, atol=1e-9)


@each_count
def test_rectified_flow_euler_and_adams(steps):
    path = Flow()
    field, grid = mixture_2d(path), torch.linspace(1, 0, steps + 1, dtype=F64)
    x, y, before = start(), start(), None
    for k in range(steps):
        x = x - field(x, grid[k]).velocity / steps
        now = field(y, grid[k]).velocity
        y, before = y - (now if before is None else 1.5 * now - 0.5 * before) / steps, now
    for solver in (presets.euler(), presets.euler("t"), presets.ddim()):
        same(solver.solve(field, start(), grid).x, x)
    same(presets.adams(2).solve(field, start(), grid).x, y)


CLASSICAL = {
    "heun": lambda f, x, t, h: x + h / 2 * (f(x, t) + f(x + h * f(x, t), t + h)),
    "midpoint": lambda f, x, t, h: x + h * f(x + h / 2 * f(x, t), t + h / 2),
    "ralston": lambda f, x, t, h: (
        x + h * (f(x, t) / 4 + 0.75 * f(x + 2 / 3 * h * f(x, t), t + 2 / 3 * h))
    ),
}


@each_count
@pytest.mark.parametrize("name", CLASSICAL)
def test_runge_kutta_on_the_plain_ode(steps, name):
    field, grid = mixture_2d(PATH), GRIDS["uniform"](PATH, steps)
    x = start()
    ours = RungeKutta(name, "t").solve(field, x, grid).x
    for now, then in pairwise(grid.tolist()):
        x = CLASSICAL[name](
            lambda y, t: field(y, torch.tensor(t, dtype=F64)).velocity, x, now, then - now
        )
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


# where x/s is integrated over c with the slope k: (s, c, k) from α, σ, x0, ε
RESCALED = {
    "sigma": lambda a, s, x0, eps: (a, s / a, eps),
    "signal": lambda a, s, x0, eps: (s, -a / s, -x0),
    "flow": lambda a, s, x0, eps: (a + s, s / (a + s), eps - x0),
}


@each_grid
@each_count
@pytest.mark.parametrize("coordinate", RESCALED)
def test_heun_in_rescaled_coordinates(steps, spacing, coordinate):
    """Karras et al. 2022, eq. 4 with s(t) = α for "sigma"; the others are its mirror images."""
    grid, x = GRIDS[spacing](PATH, steps), start()
    ours = presets.heun(coordinate).solve(FIELD, x, grid).x

    def look(x, t):
        said = FIELD(x, t)
        return RESCALED[coordinate](PATH.alpha(t), PATH.sigma(t), said.x0, said.eps)

    for now, then in pairwise(grid):
        s0, c0, k0 = look(x, now)
        s1, c1, _ = look(x, then)
        y = x / s0
        k1 = look(s1 * (y + (c1 - c0) * k0), then)[2]
        x = s1 * (y + (c1 - c0) * (k0 + k1) / 2)
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@each_grid
@pytest.mark.parametrize("lens", ["x0", "eps", "score", "v", "velocity"])
@pytest.mark.parametrize(
    "solver",
    [presets.dpmpp_2m(), presets.unipc(3), presets.lms(), presets.heun(), presets.deis()],
    ids=["dpmpp_2m", "unipc", "lms", "heun", "deis"],
)
def test_what_the_network_predicts_does_not_matter(spacing, lens, solver):
    grid = GRIDS[spacing](PATH, 7)
    same(solver.solve(Seen(FIELD, lens), start(), grid).x, solver.solve(FIELD, start(), grid).x)


@pytest.mark.parametrize("direction", [(0.0, 1.0), (1.0, 1.0), (1.0, 0.2)])
def test_with_one_point_every_direction_is_ddim(direction):
    grid = GRIDS["uneven"](PATH, 7)
    for eta in (0.0, 0.7, 1.0):
        ddim = presets.ddim(eta).solve(FIELD, start(), grid, Streams(0, range(9))).x
        ways = [SingleStep(direction=direction, eta=eta), Multistep(1, direction)]
        for solver in ways[: 2 if eta == 0 else 1]:
            same(solver.solve(FIELD, start(), grid, Streams(0, range(9))).x, ddim)
