"""Exact interpolants: fields that move their own marginals, and translate one law into another."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tests.exact import COVARIANCES_2D, F64, MEANS_2D, WEIGHTS_2D, mixture_2d
from tests.solvers.reference import Counter, Impulses
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.paths import Flow, Trigonometric, VPLinear
from unnoise.randomness import Streams
from unnoise.solvers import get
from unnoise.transport import GaussianPairs, Interpolant, diffuse, translate

from .pairs import COV0, COV1, LINE0, LINE1, MEAN0, MEAN1, below, line, mixed, plane

INTERPOLANTS = [
    Interpolant(Flow(), "none"),
    Interpolant(Flow(), "root", 2**0.5),
    Interpolant(Flow(), "quadratic", 3.0),
    Interpolant(Trigonometric(), "sine", 0.7),
    Interpolant(Flow().shifted(4.0), "quadratic"),
]
every = pytest.mark.parametrize("interpolant", INTERPOLANTS, ids=str)
SMOOTH = [i for i in INTERPOLANTS if i.latent not in ("root", "none")]
smooth = pytest.mark.parametrize("interpolant", SMOOTH, ids=str)
X = Streams(0, range(12)).normal(2).double() * 1.5


@every
def test_rates_are_derivatives(interpolant):
    t = torch.linspace(0.05, 0.95, 19, dtype=F64).requires_grad_()
    for name in ("alpha", "beta", "gamma"):
        value = getattr(interpolant, name)(t)
        if value.requires_grad:
            (rate,) = torch.autograd.grad(value.sum(), t)
            torch.testing.assert_close(getattr(interpolant, name + "_rate")(t), rate)
    assert [float(interpolant.gamma(t)) for t in (0.0, 1.0)] == [0.0, 0.0]


@every
@pytest.mark.parametrize("make", [plane, mixed])
def test_the_field_moves_its_own_marginals(interpolant, make):
    # ∂p/∂t + ∇·(p b) = 0, divided by p: ∂ log p/∂t + ∇·b + b·∇ log p = 0
    field, step = make(interpolant), 1e-4
    for t in (0.15, 0.5, 0.8):
        when = torch.tensor(t, dtype=F64)
        x = X.clone().requires_grad_()
        said = field(x, when)
        velocity = said.velocity
        divergence = sum(
            torch.autograd.grad(velocity[:, i].sum(), x, retain_graph=True)[0][:, i]
            for i in range(2)
        )
        (score,) = torch.autograd.grad(field.log_density(x, when).sum(), x)
        ends = [field.log_density(X, t + k * step) for k in (-2, -1, 1, 2)]
        rate = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * step)
        residual = rate + divergence + (velocity * score).sum(1)
        scale = float(rate.abs().max())
        assert float(residual.detach().abs().max()) < 1e-8 * max(scale, 1)
        if interpolant.latent != "none":
            torch.testing.assert_close(said.score, score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", [Flow(), Trigonometric()], ids=str)
def test_from_noise_without_a_latent_it_is_the_diffusion_field(path):
    source = tuple(torch.stack([v]) for v in (
        torch.tensor(1.0, dtype=F64), torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64),
    ))  # fmt: skip
    data = (WEIGHTS_2D, MEANS_2D, COVARIANCES_2D)
    field = GaussianPairs.independent(data, source, Interpolant(path, "none"))
    wanted = mixture_2d(path)
    for t in (0.1, 0.5, 0.9):
        when = torch.tensor(t, dtype=F64)
        torch.testing.assert_close(field(X, when).velocity, wanted(X, when).velocity)
        torch.testing.assert_close(field.log_density(X, when), wanted.log_density(X, when))


def test_its_ends_are_the_two_data_sets():
    for t, (mean, covariance) in {0.0: (MEAN0, COV0), 1.0: (MEAN1, COV1)}.items():
        wanted = torch.distributions.MultivariateNormal(mean, covariance).log_prob(X)
        torch.testing.assert_close(plane(SMOOTH[0]).log_density(X, t), wanted)
    x0, x1 = mixed(SMOOTH[0]).sample(Streams(0, range(4000)))
    at = mixed(SMOOTH[0])
    for x, end in ((x0, 0), (x1, 1)):
        share = at.log_weights.exp()
        mean = (share[:, None] * at.means[:, end]).sum(0)
        torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.08)
    inner = [
        torch.cov(torch.cat([x0, x1], 1).T) - torch.cov(
            torch.cat([at.means[:, 0], at.means[:, 1]], 1).T, aweights=share, correction=0
        ),
        (share[:, None, None] * at.covariances).sum(0),
    ]  # fmt: skip
    torch.testing.assert_close(inner[0], inner[1], rtol=0, atol=0.12)


@smooth
def test_on_a_line_the_flow_keeps_every_quantile(interpolant):
    field = line(interpolant)
    source = torch.linspace(-0.5, 4.5, 21, dtype=F64)[:, None]
    grid = torch.linspace(1, 0, 251, dtype=F64)
    data = translate(field, source, grid)
    torch.testing.assert_close(below(LINE0, data), below(LINE1, source), rtol=0, atol=2e-7)
    assert float(below(LINE0, source).sub(below(LINE1, source)).abs().max()) > 0.3
    back = translate(field, data, grid.flip(0))
    torch.testing.assert_close(back, source, rtol=0, atol=2e-6)


def affine(walk):
    """(matrix, offset) of a map that is affine in 2-D, read off three points."""
    out = walk(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=F64))
    return (out[1:] - out[0]).T, out[0]


@smooth
def test_the_flow_carries_one_gaussian_into_the_other(interpolant):
    matrix, offset = affine(lambda x: translate(plane(interpolant), x, torch.linspace(1, 0, 251)))
    torch.testing.assert_close(matrix @ MEAN1 + offset, MEAN0, rtol=0, atol=1e-8)
    torch.testing.assert_close(matrix @ COV1 @ matrix.T, COV0, rtol=0, atol=1e-8)


def test_a_root_latent_carries_it_too_short_of_the_ends():
    # at t within the ends the marginals are N(mean_t, cov_t): compare with the exact densities
    interpolant = INTERPOLANTS[1]
    field = plane(interpolant)
    ends = (0.999, 0.001)
    grid = torch.linspace(ends[0] ** 0.5, ends[1] ** 0.5, 801, dtype=F64) ** 2
    matrix, offset = affine(lambda x: translate(field, x, grid))

    def moments(t):
        a, b, g = (float(c(t)) for c in (interpolant.alpha, interpolant.beta, interpolant.gamma))
        joint = field.covariances[0]
        cross = joint[:2, 2:] + joint[2:, :2]
        total = a * a * COV0 + b * b * COV1 + a * b * cross + g * g * torch.eye(2, dtype=F64)
        return a * MEAN0 + b * MEAN1, total

    (m1, c1), (m0, c0) = moments(ends[0]), moments(ends[1])
    torch.testing.assert_close(matrix @ m1 + offset, m0, rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix @ c1 @ matrix.T, c0, rtol=0, atol=1e-5)
    for end in (0.0, 1.0):
        with pytest.raises(Unsupported, match=r"velocity at t = .* infinite.*quadratic"):
            _ = field(X, torch.tensor(end, dtype=F64)).velocity


class Half(Impulses):
    """Impulses on one coordinate of two."""

    axis = 0

    def normal(self, *event):
        out = torch.zeros(self.rows, *event, dtype=F64)
        out[self.first + self.drawn, self.axis] = 1.0
        self.drawn += 1
        return out


def carried(field, grid, mean, covariance, diffusion):
    """Exact mean and covariance that the walk gives N(mean, covariance): it is affine in its start
    and in every draw, so unit impulses give its matrices."""
    counter = Counter()
    diffuse(field, mean[None], grid, counter, diffusion)
    rows = []
    for axis in (0, 1):
        noise = Half(counter.drawn + 2, 2)
        noise.axis = axis
        x = mean.expand(counter.drawn + 2, 2).clone()
        x[1, axis] += 1.0
        out = diffuse(field, x, grid, noise, diffusion)
        rows.append((out[0], out[1:] - out[0]))
    end = rows[0][0]
    gains = torch.stack([row[1] for row in rows], -1)  # draw, out, in
    start, steps = gains[0], gains[1:]
    return end, start @ covariance @ start.T + (steps @ steps.mT).sum(0)


@pytest.mark.parametrize(
    "diffusion",
    [1.0, 0.3, lambda t: 0.8 * t * (1 - t), lambda t: 4 * (t * (1 - t)) ** 2],
    ids=["γ", "0.3γ", "t(1−t)", "t²(1−t)²"],
)
@pytest.mark.parametrize("backward", [True, False])
def test_the_diffusion_carries_one_gaussian_into_the_other(diffusion, backward):
    field = plane(Interpolant(Flow(), "quadratic", 1.5))
    start, wanted = ((MEAN1, COV1), (MEAN0, COV0))[:: 1 if backward else -1]
    errors = []
    for steps in (50, 100, 200, 400):
        grid = torch.linspace(0, 1, steps + 1, dtype=F64)
        mean, covariance = carried(field, grid.flip(0) if backward else grid, *start, diffusion)
        errors.append((mean - wanted[0], covariance - wanted[1]))
    # weak order 1, and after two extrapolations nothing is left
    sizes = [float(c.abs().max()) for _, c in errors]
    assert sizes[-1] < 0.04
    assert sizes[-2] / sizes[-1] == pytest.approx(2, rel=0.15)
    for part in (0, 1):
        values = [error[part] for error in errors]
        for power in (2, 4, 8):
            values = [(power * b - a) / (power - 1) for a, b in pairwise(values)]
        assert float(values[0].abs().max()) < 2e-5


def test_optimal_pairs_go_straight_to_their_partner():
    field = GaussianPairs.optimal(MEAN0, COV0, MEAN1, COV1, Interpolant(Flow(), "none"))
    one = affine(lambda x: translate(field, x, [1.0, 0.0], "euler"))
    many = affine(lambda x: translate(field, x, torch.linspace(1, 0, 6)))
    for got, wanted in zip(one, many, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)
    matrix, offset = one
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-10)  # Brenier: a gradient
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0
    torch.testing.assert_close(matrix @ MEAN1 + offset, MEAN0)
    torch.testing.assert_close(matrix @ COV1 @ matrix.T, COV0)


def test_translation_takes_fields_on_gaussian_paths_too():
    field = mixture_2d(VPLinear())
    grid = torch.linspace(0.9, 0.1, 41, dtype=F64)
    wanted = get("dpmpp_3m").solve(field, X, torch.linspace(0.9, 0.1, 801, dtype=F64)).x
    torch.testing.assert_close(translate(field, X, grid), wanted, rtol=0, atol=1e-4)


def test_what_cannot_be_walked_is_refused():
    for path in (VPLinear(), Flow().restricted(last=0.9)):
        with pytest.raises(Unsupported, match="use Flow or Trigonometric"):
            Interpolant(path)
    with pytest.raises(InvalidArgument, match="unknown latent 'sqrt'"):
        Interpolant(latent="sqrt")
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidArgument, match="scale"):
            Interpolant(scale=bad)
    noise = Streams(0, range(12))
    with pytest.raises(Unsupported, match=r"no score; use translate"):
        diffuse(plane(INTERPOLANTS[0]), X, [1.0, 0.0], noise)
    with pytest.raises(Unsupported, match=r"ε/γ is infinite at t = 1"):
        diffuse(plane(SMOOTH[0]), X, [1.0, 0.0], noise, lambda t: t)
    with pytest.raises(InvalidArgument, match="function ≥ 0"):
        diffuse(plane(SMOOTH[0]), X, [0.9, 0.1], noise, lambda t: -t)
    with pytest.raises(InvalidArgument, match="rise, or that fall"):
        diffuse(plane(SMOOTH[0]), X, [0.9, 0.9], noise)
    with pytest.raises(Unsupported, match="the score at t = 0"):
        _ = plane(SMOOTH[0])(X, torch.tensor(0.0, dtype=F64)).score
    eye = torch.eye(4, dtype=F64)
    for weights, means, covariances in [
        (torch.ones(1), torch.zeros(1, 2, 3), eye[None]),
        (torch.ones(1), torch.zeros(1, 2, 2), eye.triu().cumsum(1)[None]),
        (torch.zeros(1), torch.zeros(1, 2, 2), eye[None]),
    ]:
        with pytest.raises(InvalidArgument):
            GaussianPairs(weights, means, covariances, SMOOTH[0])
