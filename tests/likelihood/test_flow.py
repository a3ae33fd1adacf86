"""Log-densities through the probability flow against the exact ones."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import BY_NAME, F64, PATHS, Seen, gaussian_3d, mixture_1d, mixture_2d
from tests.solvers.reference import slope
from unnoise.errors import InvalidArgument, NonFinite, Unsupported
from unnoise.fields import Field, Gaussian, Mixture
from unnoise.likelihood import log_likelihood
from unnoise.paths import EDM, VE, Cosine, Flow, VPLinear
from unnoise.randomness import Streams
from unnoise.solvers import Adaptive, RungeKutta, presets


def rms(error: torch.Tensor) -> float:
    return float(error.square().mean().sqrt())


def mixture_64d(path) -> Mixture:
    """Four correlated Gaussians with deviations from 0.06 to 1."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=F64)  # noqa: E731
    means, covariances = 0.8 * draw(4, 64), []
    for _ in range(4):
        turn = torch.linalg.qr(draw(64, 64))[0]
        covariances.append(turn @ torch.logspace(-2.5, 0, 64, dtype=F64).diag() @ turn.T)
    return Mixture(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64), means, covariances, path)


@pytest.mark.parametrize("path", [VPLinear(), Flow(), VE(), Cosine(), EDM()], ids=str)
def test_two_dimensions_at_the_default_tolerance(path):
    """The stated accuracy, 1e-4 nats; measured 6e-6."""
    field = mixture_2d(path)
    x = field.sample(Streams(5, range(32)))
    found = log_likelihood(field, x, prior="field")
    assert rms(found.nats - field.log_density(x, 0.0)) < 3e-5
    assert (found.kind, found.dimensions, found.error, found.dequantisation) == (
        "exact", 2, None, "none",
    )  # fmt: skip
    assert found.nfe < 150


@pytest.mark.parametrize("path", [VPLinear(), Flow(), VE(), Cosine()], ids=str)
def test_sixty_four_dimensions_at_the_default_tolerance(path):
    """The stated accuracy, 1e-3 nats; measured 1e-4."""
    field = mixture_64d(path)
    x = field.sample(Streams(5, range(4)))
    found = log_likelihood(field, x, prior="field")
    assert rms(found.nats - field.log_density(x, 0.0)) < 3e-4


@pytest.mark.parametrize("case", PATHS, ids=[case.name for case in PATHS])
def test_every_path_from_its_latest_start(case):
    field = gaussian_3d(case.path)
    x = field.sample(Streams(5, range(4)))
    found = log_likelihood(field, x, prior="field", start=case.start)
    assert float((found.nats - field.log_density(x, 0.0)).abs().max()) < 1e-4


@pytest.mark.parametrize("lens", ["x0", "eps", "v", "velocity", "score"])
def test_every_lens_gives_one_density(lens):
    """Also where velocity and score are infinite at t = 0."""
    field = gaussian_3d(VPLinear())
    x = field.sample(Streams(5, range(4)))
    found = log_likelihood(Seen(field, lens), x, prior=lambda z: field.log_density(z, 1.0))
    torch.testing.assert_close(found.nats, field.log_density(x, 0.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("coordinate", ["t", "log_snr", "sigma", "signal", "flow"])
def test_every_coordinate_gives_one_density(coordinate):
    """Between two inner times: the scale s and its logarithm come in, or not."""
    field = gaussian_3d(VPLinear())
    x, method = field.sample(Streams(5, range(4)), 0.05), Adaptive(coordinate=coordinate, tol=1e-7)
    found = log_likelihood(field, x, method=method, prior="field", start=0.8, end=0.05)
    torch.testing.assert_close(found.nats, field.log_density(x, 0.05), rtol=0, atol=1e-5)


def test_the_paths_own_prior_is_exact_where_no_signal_is_left():
    """And its error on VP is that of the prior, not of the walk."""
    for path, least, most in ((Flow(), 0.0, 3e-5), (VPLinear(), 1e-3, 1e-2)):
        field = mixture_2d(path)
        x = field.sample(Streams(5, range(8)))
        error = rms(log_likelihood(field, x).nats - field.log_density(x, 0.0))
        assert least <= error < most
    wide = Gaussian(torch.zeros(3, dtype=F64), 4.0, VPLinear())
    x = wide.sample(Streams(5, range(8)))
    right = log_likelihood(wide, x, data_std=2.0, tol=1e-7).nats
    torch.testing.assert_close(right, wide.log_density(x, 0.0), rtol=0, atol=1e-5)
    assert rms(log_likelihood(wide, x, tol=1e-7).nats - wide.log_density(x, 0.0)) > 3e-5
    given = log_likelihood(wide, x, prior=lambda z: wide.log_density(z, 1.0), tol=1e-7).nats
    torch.testing.assert_close(given, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tableau", ["euler", "heun", "bogacki_shampine", "rk4"])
def test_fixed_steps_converge_at_their_order(tableau):
    """Out of σ = 0: a first step of lower order would show."""
    field = gaussian_3d(Cosine())
    x = field.sample(Streams(5, range(4)))
    exact = field.log_density(x, 0.0)
    order = RungeKutta(tableau).order
    first = 16 if order < 3 else 32
    errors = []
    for steps in (first, 2 * first, 4 * first):
        found = log_likelihood(field, x, method=tableau, steps=steps, prior="field")
        assert found.nfe == steps * {"euler": 1, "heun": 2, "rk4": 4}.get(tableau, 3) + 2
        errors.append(rms(found.nats - exact))
    assert slope(errors) == pytest.approx(order, abs=0.4)


def test_the_density_of_images_and_a_bound_condition():
    path = Cosine()
    mean = torch.linspace(-1, 1, 12, dtype=F64).reshape(1, 3, 4)

    class Shifted(Field):
        """A Gaussian whose mean is moved by what it is conditioned on, sample by sample."""

        def __init__(self):
            self.path = path

        def __call__(self, x_t, t, condition=None):
            said = Gaussian(mean, 0.5, path)
            shift = condition["shift"].reshape(-1, 1, 1, 1)
            sigma = path.sigma(t).reshape(-1, 1, 1, 1)
            alpha = path.alpha(t).reshape(-1, 1, 1, 1)
            gain = alpha * 0.5 / (alpha**2 * 0.5 + sigma**2)
            return said(x_t, t).with_value(
                "x0", mean + shift + gain * (x_t - alpha * (mean + shift))
            )

    x = Streams(0, range(3)).normal(1, 3, 4).double()
    shift = torch.tensor([0.0, 1.0, -2.0], dtype=F64)
    found = log_likelihood(Shifted().conditioned({"shift": shift}), x, tol=1e-6)
    exact = Gaussian(mean, 0.5, path).log_density(x - shift.reshape(-1, 1, 1, 1), 0.0)
    assert found.dimensions == 12
    torch.testing.assert_close(found.nats, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_and_knows_its_error(probe):
    """On one sample repeated: the mean of many estimates, and their spread against the stated."""
    field = gaussian_3d(Flow())
    x = field.sample(Streams(5, [0])).expand(300, -1)
    exact = float(field.log_density(x[:1], 0.0))
    found = log_likelihood(
        field, x, divergence="hutchinson", noise=Streams(1, range(300)), probe=probe, probes=8,
        tol=1e-4,
    )  # fmt: skip
    error = found.nats - exact
    assert (found.kind, found.error.shape) == ("estimate", (300,))
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(300)
    stated = float(found.error.square().mean().sqrt())
    assert float(error.std()) == pytest.approx(stated, rel=0.15)


def test_gaussian_probes_lean_on_the_linear_flow():
    """For data of the stated deviation what is left for the probes is nothing."""
    field = Gaussian(torch.tensor([0.5, -1.0], dtype=F64), 0.49, Cosine())
    x = field.sample(Streams(5, range(4)))
    found = log_likelihood(
        field, x, divergence="hutchinson", noise=Streams(1, range(4)), probe="gaussian",
        probes=2, data_std=0.7, tol=1e-6,
    )  # fmt: skip
    torch.testing.assert_close(found.nats, field.log_density(x, 0.0), rtol=0, atol=1e-5)
    assert float(found.error.max()) < 1e-8


def test_one_probe_has_no_error_and_no_sample_depends_on_its_batch():
    field = mixture_1d(Flow())
    x = field.sample(Streams(5, range(6)))
    options = dict(divergence="hutchinson", probe="gaussian", tol=1e-4)
    every = log_likelihood(field, x, noise=Streams(1, range(6)), **options)
    assert every.error is None
    part = log_likelihood(field, x[2:4], noise=Streams(1, range(2, 4)), **options)
    torch.testing.assert_close(part.nats, every.nats[2:4], rtol=0, atol=1e-12)


def test_float32_data_stay_close():
    field = mixture_2d(VPLinear())
    x = field.sample(Streams(5, range(8)))
    single = log_likelihood(field, x.float(), prior="field").nats
    assert rms(single - field.log_density(x, 0.0)) < 1e-3


def test_other_derivatives_give_the_same():
    field = mixture_2d(VPLinear())
    x = field.sample(Streams(5, range(4)))
    one, two = (
        log_likelihood(field, x, method="heun", steps=10, derivatives=mode)
        for mode in ("forward", "single")
    )
    torch.testing.assert_close(one.nats, two.nats, rtol=0, atol=1e-10)
    assert one.nfe == two.nfe == 22


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"method": "ddpm"}, Unsupported, "draws noise, and a likelihood follows one determin"),
        ({"method": presets.ddim(0.5)}, Unsupported, "draws noise"),
        ({"method": "dpmpp_2m"}, Unsupported, "cannot carry a density along; use 'rk45'"),
        ({"method": "rk54"}, InvalidArgument, "unknown solver 'rk54'"),
        ({"method": "rk4"}, InvalidArgument, "has fixed steps; give steps"),
        ({"method": "rk4", "steps": 0}, InvalidArgument, "steps is 0"),
        ({"method": "rk4", "steps": 5, "tol": 1e-3}, InvalidArgument, "has fixed steps"),
        ({"steps": 10}, InvalidArgument, "chooses its own; give tol"),
        ({"tol": -1.0}, InvalidArgument, "tol is -1.0"),
        ({"divergence": "hutchison"}, InvalidArgument, "did you mean 'hutchinson'"),
        ({"divergence": "hutchinson"}, InvalidArgument, r"noise=Streams\(seed, range\(2\)\)"),
        ({"probes": 4}, InvalidArgument, "are for divergence='hutchinson'"),
        ({"start": 0.2, "end": 0.3}, InvalidArgument, "need 0 ≤ end < start"),
        ({"prior": "fields"}, InvalidArgument, "did you mean 'field'"),
        ({"method": RungeKutta("rk4", "sigma"), "steps": 4}, Unsupported, "infinite at t = 1"),
    ],
)
def test_what_cannot_be_is_refused_before_work(options, error, says):
    field = mixture_2d(Flow())
    with pytest.raises(error, match=says):
        log_likelihood(field, torch.zeros(2, 2, dtype=F64), **options)


def test_a_field_without_a_density_and_data_without_a_batch_are_refused():
    field = Seen(mixture_2d(Flow()), "v")
    with pytest.raises(Unsupported, match="Seen has no log_density"):
        log_likelihood(field, torch.zeros(2, 2, dtype=F64), prior="field")
    with pytest.raises(InvalidArgument, match="give floats"):
        log_likelihood(field, torch.zeros(2, dtype=F64))
    x = torch.zeros(2, 2, dtype=F64)
    x[1, 0] = torch.inf
    with pytest.raises(NonFinite, match="sample 1"):
        log_likelihood(field, x)


def test_torchdiffeq_agrees_with_a_fixed_grid():
    """An independent integrator on the plain equation dx/dt, with autograd's divergence."""
    torchdiffeq = pytest.importorskip("torchdiffeq", reason="compares with torchdiffeq's dopri5")
    path, end = BY_NAME["cosine"].path, 0.02
    field = mixture_2d(path)
    x = field.sample(Streams(5, range(4)), end)

    def motion(t, state):
        with torch.enable_grad():
            at = state[0].detach().requires_grad_()
            velocity = field(at, t).velocity
            parts = [torch.autograd.grad(velocity[:, i].sum(), at, retain_graph=True)[0][:, i]
                     for i in range(2)]  # fmt: skip
        return velocity.detach(), sum(parts)

    times = torch.tensor([end, 0.98], dtype=F64)
    moved, gained = torchdiffeq.odeint(
        motion, (x, torch.zeros(4, dtype=F64)), times, rtol=1e-8, atol=1e-8
    )
    theirs = field.log_density(moved[-1], 0.98) + gained[-1]
    ours = log_likelihood(field, x, prior="field", start=0.98, end=end, tol=1e-7).nats
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
