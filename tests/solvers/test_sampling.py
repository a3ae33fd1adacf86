"""sample() and grids by name: priors, the last denoising step, what is counted."""

from __future__ import annotations

import pytest
import torch

from tests.exact import F64, Seen, gaussian_elementwise
from unnoise.fields import Condition, Field, Gaussian, Prediction
from unnoise.guidance import classifier_free
from unnoise.paths import EDM, VE, Chain, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import presets, sample

from .reference import Watched

LINEAR = Chain.linear().as_path()


def test_a_path_that_ends_in_noise_is_denoised_once_more():
    path = VE()
    field = Watched(gaussian_elementwise(path))
    grid, noise = grids.karras(path, 5), Streams(0, range(4))
    seen = []
    made = sample(
        field, noise, (3,), presets.dpmpp_2m(), grid, dtype=F64,
        on_step=lambda step, said: seen.append((step, float(said.t))),
    )  # fmt: skip
    assert made.finished
    assert seen == list(enumerate(grid.tolist()))
    walked = presets.dpmpp_2m().solve(
        field.field, path.prior(Streams(0, range(4)), (3,), data_std=1.0).double(), grid
    )
    assert torch.equal(made.x, field.field(walked.x, grid[-1]).x0)
    assert made.nfe == 6 == len(field.times)
    assert field.times == grid.tolist()


@pytest.mark.parametrize(
    "path", [VPLinear(), Flow(), EDM(), LINEAR], ids=["vp", "flow", "edm", "ddpm"]
)
def test_a_path_that_ends_in_data_is_not(path):
    field = Watched(gaussian_elementwise(path))
    made = sample(field, Streams(0, range(4)), (3,), presets.dpmpp_2m(), grids.uniform(5))
    assert made.nfe == 5
    assert min(field.times) > 0
    assert made.x.dtype == torch.float32


def test_a_walk_that_stops_before_the_data_is_not_denoised():
    for end in (0.1, 0.0):
        field = Watched(gaussian_elementwise(VE()))
        grid = grids.log_snr(VE(), 4, 1.0, end)
        stop = (lambda k, said: k < 2) if end == 0 else None
        made = sample(field, Streams(0, range(2)), (3,), presets.ddim(), grid, on_step=stop)
        assert made.nfe == (3 if end == 0 else 4)
        assert made.finished == (end > 0)


@pytest.mark.parametrize("start", [1.0, 0.6])
@pytest.mark.parametrize("data_std", [0.5, 2.0])
@pytest.mark.parametrize("path", [VPLinear(), Flow(), VE()], ids=["vp", "flow", "ve"])
def test_the_start_has_the_marginals_deviation(path, start, data_std):
    """Data N(0, s²): from any start the prior is exact, and so is what a long walk makes of it."""
    field = Watched(Gaussian(torch.zeros(1, dtype=F64), data_std**2, path))
    first = []
    sample(
        field,
        Streams(1, range(4000)),
        (1,),
        presets.ddim(),
        grids.uniform(2, start, 0.1),
        data_std=data_std,
        dtype=F64,
        on_step=lambda k, said: first.append(said.x_t) or False,
    )
    wanted = float(path.alpha(start) ** 2 * data_std**2 + path.sigma(start) ** 2)
    # the variance of 4000 draws has deviation √(2/4000) = 2.2 %
    assert float((first[0] ** 2).mean()) == pytest.approx(wanted, rel=0.09)


def test_samples_have_the_datas_moments_from_the_prior():
    """Gaussian data, 60 steps down to t = 0: mean and variance within four standard errors."""
    path, n = Flow(), 4000
    field = gaussian_elementwise(path)
    for solver in (presets.dpmpp_2m(), presets.dpmpp_2m_sde(), presets.ddpm(), presets.heun()):
        steps = 400 if solver.order == 1 else 60
        grid = grids.karras(path, steps, start=1.0)
        made = sample(field, Streams(2, range(n)), (3,), solver, grid, dtype=F64).x
        error = (made.mean(0) - field.mean) / (field.variance / n).sqrt()
        assert float(error.abs().max()) < 4
        assert float((made.var(0) / field.variance - 1).abs().max()) < 4 * (2 / n) ** 0.5 + 0.02


def test_samples_do_not_depend_on_the_batch():
    field, grid = gaussian_elementwise(Flow(), (5, 3), torch.float32), grids.uniform(6)
    for solver in (presets.dpmpp_2m(), presets.ddpm()):
        every = sample(field, Streams(4, range(8)), (5, 3), solver, grid).x
        parts = [sample(field, Streams(4, [i]), (5, 3), solver, grid).x for i in range(8)]
        assert torch.equal(every, torch.cat(parts))
        shuffled = sample(field, Streams(4, [6, 2]), (5, 3), solver, grid).x
        assert torch.equal(shuffled, every[[6, 2]])


class TwoClasses(Field):
    def __init__(self, path):
        self.path = path

    def __call__(self, x_t, t, condition=None):
        condition = Condition.of(condition, len(x_t))
        centre = torch.where(condition.keep["class"], condition.values["class"].double() * 2, 1.0)[
            :, None
        ]
        said = Gaussian(torch.zeros(1, dtype=F64), 0.0, self.path)(x_t, t)
        return Prediction(x_t, t, self.path, "x0", said.x0 + centre)


def test_guidance_costs_two_passes_where_it_acts():
    field = TwoClasses(Flow())
    grid = grids.uniform(10)
    for guided, passes in (
        (classifier_free(field, 1.0), 10),
        (classifier_free(field, 2.0), 20),
        (classifier_free(field, 2.0, interval=(0.35, 0.75)), 14),
    ):
        bound = guided.conditioned({"class": torch.tensor([0, 1])})
        made = sample(bound, Streams(0, range(2)), (1,), presets.dpmpp_2m(), grid, dtype=F64)
        assert made.nfe == passes
    # at scale 2 the centres 0 and 2 move away from the unconditional 1 by as much again
    made = sample(
        classifier_free(field, 2.0).conditioned({"class": torch.tensor([0, 1])}),
        Streams(0, range(2)), (1,), presets.dpmpp_2m(), grid, dtype=F64,
    )  # fmt: skip
    torch.testing.assert_close(made.x.flatten(), torch.tensor([-1.0, 3.0], dtype=F64))


def test_the_lens_of_the_network_does_not_change_samples():
    field, grid = gaussian_elementwise(VPLinear()), grids.karras(VPLinear(), 6)
    first, *rest = (
        sample(Seen(field, lens), Streams(0, range(3)), (3,), presets.dpmpp_2m(), grid, dtype=F64).x
        for lens in ("x0", "eps", "score", "v", "velocity")
    )
    for other in rest:
        torch.testing.assert_close(other, first, rtol=1e-9, atol=1e-9)
