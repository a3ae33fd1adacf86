"""The exact fields against autograd, quadrature and brute force."""

import math

import pytest
import torch
from scipy.integrate import quad

from tests.exact import (
    COVARIANCE_3D,
    COVARIANCES_2D,
    EVENTS,
    F64,
    FIELDS,
    IDS,
    MEAN_3D,
    MEANS_2D,
    PATHS,
    POINTS,
    WEIGHTS_2D,
    finite_data,
    gaussian_3d,
    gaussian_elementwise,
    mixture_1d,
    mixture_2d,
)
from unnoise.errors import InvalidArgument
from unnoise.fields import FiniteData, Gaussian, Mixture
from unnoise.paths import EDM, Flow, VPLinear
from unnoise.randomness import Streams

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
every_field = pytest.mark.parametrize("name", FIELDS)
TIMES = torch.tensor([0.03, 0.2, 0.5, 0.8, 0.97], dtype=F64)


def points(name, path, t, seed=0):
    """A few typical points a time."""
    generator = torch.Generator().manual_seed(seed)
    size = (path.alpha(t) ** 2 + path.sigma(t) ** 2).sqrt()
    return size[:, None] * torch.randn(len(t), *EVENTS[name], generator=generator, dtype=F64)


def close(got, wanted, rel=1e-9, abs_=1e-11):
    torch.testing.assert_close(got, wanted, rtol=rel, atol=abs_)


@every_path
@every_field
def test_the_score_is_the_gradient_of_the_log_density(name, path):
    field = FIELDS[name](path)
    x = points(name, path, TIMES).requires_grad_()
    (gradient,) = torch.autograd.grad(field.log_density(x, TIMES).sum(), x)
    said = field(x.detach(), TIMES)
    close(said.score, gradient, rel=1e-8, abs_=1e-11 / float(path.sigma(TIMES).min()) ** 2)


@every_path
@every_field
def test_tweedie(name, path):
    # E[x0 | x_t] = (x_t + σ²·∇log p)/α
    field = FIELDS[name](path)
    x = points(name, path, TIMES).requires_grad_()
    (gradient,) = torch.autograd.grad(field.log_density(x, TIMES).sum(), x)
    alpha, sigma = path.alpha(TIMES)[:, None], path.sigma(TIMES)[:, None]
    close(field(x.detach(), TIMES).x0, (x.detach() + sigma**2 * gradient) / alpha, 1e-7, 1e-9)


@every_path
def test_a_correlated_gaussian_is_regression_on_the_joint(path):
    for t in TIMES:
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        x = points("gaussian_3d", path, t.expand(5))
        cross, total = alpha * COVARIANCE_3D, alpha**2 * COVARIANCE_3D
        total = total + sigma**2 * torch.eye(3, dtype=F64)
        wanted = MEAN_3D + (cross @ torch.linalg.solve(total, (x - alpha * MEAN_3D).T)).T
        field = gaussian_3d(path)
        close(field(x, t).x0, wanted, rel=1e-8)
        law = torch.distributions.MultivariateNormal(alpha * MEAN_3D, total)
        close(field.log_density(x, t), law.log_prob(x), rel=1e-8)


@every_path
def test_a_2d_mixture_is_its_components_weighed(path):
    for t in TIMES:
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        x = points("mixture_2d", path, t.expand(6))
        eye = torch.eye(2, dtype=F64)
        joint, answers = [], []
        for weight, mean, cov in zip(WEIGHTS_2D, MEANS_2D, COVARIANCES_2D, strict=True):
            total = alpha**2 * cov + sigma**2 * eye
            law = torch.distributions.MultivariateNormal(alpha * mean, total)
            joint.append(weight.log() + law.log_prob(x))
            answers.append(mean + (alpha * cov @ torch.linalg.solve(total, (x - alpha * mean).T)).T)
        share = torch.stack(joint).softmax(0)
        field = mixture_2d(path)
        close(field(x, t).x0, (share[..., None] * torch.stack(answers)).sum(0), rel=1e-7)
        close(field.log_density(x, t), torch.stack(joint).logsumexp(0), rel=1e-8)


def normal(x, mean, variance):
    return math.exp(-0.5 * (x - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)


@pytest.mark.parametrize("path", [VPLinear(), Flow(), EDM(5.0)], ids=str)
@pytest.mark.parametrize("t", [0.1, 0.4, 0.9])
def test_the_1d_mixture_is_the_integral_over_its_data(path, t):
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))

    def data(z):
        return 0.4 * normal(z, -1, 0.09) + 0.6 * normal(z, 1.5, 0.04)

    for x in (-1.3, 0.2, 0.9):

        def integral(power, x=x):
            return quad(
                lambda z: z**power * data(z) * normal(x, alpha * z, sigma**2),
                -4,
                4,
                points=[-1, 0.2, 1.5],
                limit=400,
                epsabs=1e-14,
                epsrel=1e-12,
            )[0]

        at = torch.tensor([[x]], dtype=F64)
        field = mixture_1d(path)
        assert float(field.log_density(at, t)) == pytest.approx(math.log(integral(0)), abs=1e-8)
        when = torch.tensor(t, dtype=F64)
        assert float(field(at, when).x0) == pytest.approx(integral(1) / integral(0), rel=1e-7)


@every_path
def test_finite_data_by_brute_force(path):
    for t in TIMES:
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        x = points("finite_data", path, t.expand(4))
        field = finite_data(path)
        for row in range(4):
            exponents = [-float(((x[row] - alpha * p) ** 2).sum()) / (2 * sigma**2) for p in POINTS]
            top = max(exponents)
            weights = [math.exp(e - top) for e in exponents]
            wanted = sum(w * p for w, p in zip(weights, POINTS, strict=True)) / sum(weights)
            close(field(x[row : row + 1], t).x0[0], wanted, rel=1e-7)
            density = top + math.log(sum(weights) / 5) - math.log(2 * math.pi * sigma**2)
            assert float(field.log_density(x[row : row + 1], t)) == pytest.approx(density)


def test_finite_data_with_little_noise_returns_the_nearest_point():
    field = finite_data(VPLinear())
    t = torch.tensor(1e-6, dtype=F64)
    close(field(POINTS + 1e-4, t).x0, POINTS, abs_=1e-9)


def test_images_are_events_like_any_other():
    flat, shaped = finite_data(Flow()), FiniteData(POINTS.reshape(5, 2, 1, 1), Flow())
    x = points("finite_data", Flow(), TIMES)
    close(shaped(x.reshape(5, 2, 1, 1), TIMES).x0.flatten(1), flat(x, TIMES).x0)
    close(shaped.log_density(x.reshape(5, 2, 1, 1), TIMES), flat.log_density(x, TIMES))
    x = points("gaussian_3d", Flow(), TIMES)
    shaped = Gaussian(MEAN_3D.reshape(3, 1), COVARIANCE_3D, Flow())
    close(shaped(x[..., None], TIMES).x0[..., 0], gaussian_3d(Flow())(x, TIMES).x0)
    diagonal = Gaussian(MEAN_3D, torch.diag(COVARIANCE_3D.diag()), Flow())
    elementwise = Gaussian(MEAN_3D, COVARIANCE_3D.diag(), Flow())
    close(diagonal(x, TIMES).x0, elementwise(x, TIMES).x0)
    close(diagonal.log_density(x, TIMES), elementwise.log_density(x, TIMES))
    x = points("mixture_2d", Flow(), TIMES)
    shaped = Mixture(WEIGHTS_2D, MEANS_2D.reshape(3, 1, 2), COVARIANCES_2D, Flow())
    close(shaped(x[:, None], TIMES).x0[:, 0], mixture_2d(Flow())(x, TIMES).x0)


def exact_moments(name, path, t):
    """Mean and covariance of x_t, from the components."""
    alpha, variance = float(path.alpha(t)), float(path.sigma(t)) ** 2
    if name == "gaussian_3d":
        mean, cov = MEAN_3D, COVARIANCE_3D
    elif name == "gaussian_elementwise":
        field = gaussian_elementwise(path)
        mean, cov = field.mean, torch.diag(field.variance)
    elif name == "mixture_1d":
        mean = torch.tensor([0.5], dtype=F64)
        second = 0.4 * (1 + 0.09) + 0.6 * (2.25 + 0.04)
        cov = torch.tensor([[second - 0.25]], dtype=F64)
    elif name == "mixture_2d":
        mean = WEIGHTS_2D @ MEANS_2D
        outer = COVARIANCES_2D + MEANS_2D[:, :, None] * MEANS_2D[:, None]
        cov = (WEIGHTS_2D[:, None, None] * outer).sum(0) - mean[:, None] * mean
    else:
        mean, cov = POINTS.mean(0), (POINTS - POINTS.mean(0)).T @ (POINTS - POINTS.mean(0)) / 5
    return alpha * mean, alpha**2 * cov + variance * torch.eye(len(mean), dtype=F64)


@every_field
@pytest.mark.parametrize("t", [0.0, 0.35, 1.0])
def test_samples_have_the_exact_moments(name, t):
    # z-tests on every mean and every second moment; 5 σ over all of them
    n, path = 4000, Flow()
    x = FIELDS[name](path).sample(Streams(11, range(n)), t)
    assert x.shape == (n, *EVENTS[name])
    assert x.dtype == F64
    mean, cov = exact_moments(name, path, t)
    z = (x.mean(0) - mean) / (cov.diag() / n).sqrt()
    assert float(z.abs().max()) < 5
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    z = (products.mean(0) - cov) / (products.var(0) / n).sqrt()
    assert float(z.abs().max()) < 5


def test_mixture_samples_fill_the_components_by_weight():
    n = 4000
    x = mixture_1d(Flow()).sample(Streams(5, range(n)))
    left = x[x < 0.25]
    assert abs(len(left) / n - 0.4) < 5 * math.sqrt(0.24 / n)
    assert abs(float(left.mean()) + 1) < 5 * 0.3 / math.sqrt(len(left))
    assert float(left.std()) == pytest.approx(0.3, abs=5 * 0.3 / math.sqrt(2 * len(left)))


@every_field
def test_samples_do_not_depend_on_the_batch_and_advance_the_streams(name):
    field = FIELDS[name](Flow())
    whole = field.sample(Streams(1, range(9)), 0.5)
    parts = torch.cat([field.sample(Streams(1, [i]), 0.5) for i in range(9)])
    close(parts, whole, rel=1e-13)
    noise = Streams(1, range(9))
    assert not torch.equal(field.sample(noise, 0.5), field.sample(noise, 0.5))


@pytest.mark.parametrize(
    "event", [(1,), (2,), (3,), (7,), (17,), (1, 5, 5), (3, 11, 7), (1, 28, 28), (3, 32, 32)]
)
@pytest.mark.parametrize("batched_time", [False, True])
def test_the_elementwise_gaussian_is_bitwise_at_any_batch(event, batched_time):
    field = gaussian_elementwise(VPLinear(), event, torch.float32)
    x = Streams(0, range(64)).normal(*event)
    t = torch.linspace(0.05, 1, 64, dtype=F64)

    def run(rows):
        when = t[rows] if batched_time else t[20]
        said = field(x[rows], when)
        return torch.stack([said.x0, said.eps, said.v, said.velocity, said.score])

    whole = run(slice(None))
    assert whole.dtype == torch.float32
    for size in (1, 8):
        parts = [run(slice(i, i + size)) for i in range(0, 64, size)]
        assert torch.equal(torch.cat(parts, 1), whole)


def test_float32_agrees_with_float64():
    t = torch.tensor([0.01, 0.4, 1.0], dtype=F64)
    for path in (VPLinear(), Flow(), EDM()):
        low = gaussian_elementwise(path, (4,), torch.float32)
        high = gaussian_elementwise(path, (4,))
        x = 2 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
        got = low(x.float(), t).x0
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), high(x, t).x0, rtol=1e-5, atol=1e-5)


def test_a_gaussian_at_the_ends():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    for field in (gaussian_3d(Flow()), gaussian_elementwise(Flow())):
        mean = field.mean.expand(4, 3)
        close(field(x, torch.tensor(1.0, dtype=F64)).x0, mean)
        close(field(x, torch.tensor(0.0, dtype=F64)).x0, x)
    # a point mass: x0 is known whatever x is, also where σ = 0
    sure = Gaussian(MEAN_3D, 0.0, Flow())
    for t in (0.0, 0.5, 1.0):
        close(sure(x, torch.tensor(t, dtype=F64)).x0, MEAN_3D.expand(4, 3))


def test_impossible_fields_are_refused():
    with pytest.raises(InvalidArgument, match="negative"):
        Gaussian(MEAN_3D, -1.0, Flow())
    indefinite = torch.tensor([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=F64)
    with pytest.raises(InvalidArgument, match="negative"):
        Gaussian(MEAN_3D, indefinite, Flow())
    lopsided = COVARIANCE_3D.clone()
    lopsided[0, 1] = 0.0
    with pytest.raises(InvalidArgument, match="symmetric"):
        Gaussian(MEAN_3D, lopsided, Flow())
    with pytest.raises(InvalidArgument, match="shape"):
        Gaussian(MEAN_3D, torch.ones(4, dtype=F64), Flow())
    with pytest.raises(InvalidArgument, match="2 weights, 3 means"):
        Mixture(WEIGHTS_2D[:2], MEANS_2D, COVARIANCES_2D, Flow())
    with pytest.raises(InvalidArgument, match="positive"):
        Mixture(torch.tensor([0.5, 0.0, 0.5]), MEANS_2D, COVARIANCES_2D, Flow())
    with pytest.raises(InvalidArgument, match="empty"):
        FiniteData(POINTS[:0], Flow())
    with pytest.raises(InvalidArgument, match="σ = 0"):
        finite_data(Flow())(POINTS, torch.tensor(0.0, dtype=F64))
