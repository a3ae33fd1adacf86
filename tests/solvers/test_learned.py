"""Ancestral sampling with a learned variance: exact where the data are Gaussian."""

import itertools

import pytest
import torch

from tests.exact import F64, Seen
from tests.likelihood.gaussians import WithFraction, best_fraction, conditional_variance
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Gaussian
from unnoise.paths import Chain, Cosine, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import DDIM, get

from .reference import exact_moments, moments

MEAN, VARIANCE = torch.tensor([0.7, -2.0], dtype=F64), 0.3


def learned(path, grid):
    """The Gaussian field that knows the right variance of every step of a grid."""
    after = dict(itertools.pairwise(grid))

    def variance_fraction(t):
        return best_fraction(path, VARIANCE, after[t], t) if float(path.sigma(after[t])) else 0.0

    return WithFraction(Gaussian(MEAN, VARIANCE, path), variance_fraction)


@pytest.mark.parametrize("steps", [2, 3, 10])
@pytest.mark.parametrize(
    "path",
    [Chain.linear(30, 1e-3, 0.3).as_path(), VPLinear(), Cosine()],
    ids=["chain", "vp", "cosine"],
)
@pytest.mark.parametrize("lens", ["x0", "v"])
def test_with_the_right_variance_the_marginals_are_exact_at_any_number_of_steps(path, lens, steps):
    grid = grids.uniform(steps, 1.0, 0.1).tolist()
    field = learned(path, grid)
    begin, wanted = exact_moments(field.field, 1.0), exact_moments(field.field, 0.1)
    mean, variance = moments(DDIM(1.0, "learned"), Seen(field, lens), grid, *begin)
    torch.testing.assert_close(mean, wanted[0], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(variance, wanted[1], rtol=1e-11, atol=1e-11)
    # the fixed ones are not
    for name in ("posterior", "transition"):
        wrong = moments(get("ddpm", variance=name), field.field, grid, *begin)[1]
        assert float((wrong / wanted[1] - 1).abs().max()) > 0.01


def test_the_last_step_adds_no_noise():
    path, grid = VPLinear(), [1.0, 0.5, 0.0]
    field = learned(path, grid)
    begin = exact_moments(field.field, 1.0)
    variance = moments(DDIM(1.0, "learned"), field, grid, *begin)[1]
    missing = conditional_variance(path, VARIANCE, 0.0, 0.5)
    torch.testing.assert_close(variance, torch.full((2,), VARIANCE - missing, dtype=F64))


@pytest.mark.parametrize(("fraction", "name"), [(0.0, "posterior"), (1.0, "transition")])
def test_its_ends_are_the_fixed_variances(fraction, name):
    path = Chain.cosine(8).as_path()
    field = WithFraction(Gaussian(MEAN, VARIANCE, path), lambda t: fraction)
    x = Streams(0, range(5), "start").normal(2).double()
    a = get("ddpm:variance=learned").solve(field, x, grids.trailing(path, 8), Streams(1, range(5)))
    b = get("ddpm", variance=name).solve(field, x, grids.trailing(path, 8), Streams(1, range(5)))
    torch.testing.assert_close(a.x, b.x, rtol=1e-12, atol=1e-12)
    assert (a.nfe, a.steps, a.finished) == (8, 8, True)


def test_each_sample_and_number_has_its_own_variance():
    path, grid = VPLinear(), [1.0, 0.5]

    class Own(WithFraction):
        def __call__(self, x_t, t, condition=None):
            said = self.field(x_t, t, condition)
            said.variance_fraction = torch.arange(6.0).reshape(3, 2)
            return said

    field = Own(Gaussian(MEAN, VARIANCE, path), None)
    x = torch.zeros(3, 2, dtype=F64)
    made = DDIM(1.0, "learned").solve(field, x, grid, Streams(1, range(3))).x
    for index in range(6):
        one = WithFraction(field.field, lambda t, index=index: index)
        alone = DDIM(1.0, "learned").solve(one, x, grid, Streams(1, range(3))).x
        assert made.flatten()[index] == pytest.approx(float(alone.flatten()[index]), rel=1e-9)


def test_a_field_without_one_is_refused():
    path, x = VPLinear(), torch.zeros(3, 2, dtype=F64)
    field = Gaussian(MEAN, VARIANCE, path)
    with pytest.raises(Unsupported, match=r"learned_variance=true, or use ddpm"):
        get("ddpm:variance=learned").solve(field, x, [1.0, 0.5], Streams(0, range(3)))
    with pytest.raises(InvalidArgument, match="draws noise"):
        get("ddpm:variance=learned").solve(field, x, [1.0, 0.5])


def test_it_can_be_stopped_and_watched():
    grid = [1.0, 0.6, 0.3, 0.1]
    field = learned(VPLinear(), grid)
    seen = []
    x = torch.zeros(3, 2, dtype=F64)
    stopped = DDIM(1.0, "learned").solve(
        field, x, grid, Streams(0, range(3)), lambda k, said: seen.append(float(said.t)) or k < 1
    )
    assert seen == [1.0, 0.6]
    assert (stopped.t, stopped.steps, stopped.nfe, stopped.finished) == (0.6, 1, 2, False)


@pytest.mark.parametrize("steps", [8, 4])
def test_it_is_the_learned_range_of_diffusers(steps, monkeypatch):
    diffusers = pytest.importorskip("diffusers", reason="compares with diffusers' DDPMScheduler")
    from diffusers.schedulers import scheduling_ddpm

    chain = Chain.linear(8, 0.01, 0.3)
    path, n = chain.as_path(), 5
    field = WithFraction(Gaussian(MEAN, VARIANCE, path), lambda t: 0.2 + 0.5 * t)
    grid = grids.trailing(path, steps)
    x = Streams(0, range(n), "start").normal(2).double()
    states = []
    DDIM(1.0, "learned").solve(
        field, x, grid, Streams(1, range(n)), lambda k, said: states.append(said.x_t)
    )

    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=8,
        trained_betas=list(chain.betas),
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.betas = torch.tensor(chain.betas, dtype=F64)
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas, 0)
    scheduler.one = torch.tensor(1.0, dtype=F64)
    scheduler.set_timesteps(steps)
    noise = Streams(1, range(n))
    monkeypatch.setattr(
        scheduling_ddpm, "randn_tensor", lambda shape, **_: noise.normal(*shape[1:]).double()
    )
    # its step into the data replaces β̃ = 0 by 1e-20, and where it skips steps adds that as noise
    for k, t in enumerate(scheduler.timesteps):
        torch.testing.assert_close(states[k], x, rtol=1e-9, atol=1e-9)
        said = field(x, grid[k])
        answer = torch.cat([said.eps, 2 * said.variance_fraction - 1], 1)
        x = scheduler.step(answer, int(t), x).prev_sample
