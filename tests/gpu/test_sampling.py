"""Sampling and likelihoods on a GPU: the noise bitwise that of the CPU, the rest to the dtype."""

from __future__ import annotations

import pytest
import torch

from tests.exact import F64, gaussian_elementwise, mixture_2d
from tests.gpu.runs import ATTENTION, CPU, DIT, MLP, field_on, model_on
from unnoise.artifacts import Model
from unnoise.errors import NonFinite
from unnoise.fields import Field
from unnoise.likelihood import log_likelihood, variational_bound
from unnoise.paths import Chain, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get, sample

pytestmark = pytest.mark.gpu
SOLVERS = (
    "ddim", "ddpm", "dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde", "dpmpp_sde", "unipc", "heun", "rk4",
    "lms", "deis", "sa_solver", "er_sde", "euler_maruyama", "predictor_corrector", "restart",
    "rk23", "dpm_adaptive",
)  # fmt: skip


@pytest.mark.parametrize("name", SOLVERS)
def test_exact_fields_in_float64(device, name):
    """Elementwise arithmetic alone: no rounding but the last bits'."""
    path, made = VPLinear(), []
    steps = grids.uniform(8, 0.98, 0.02)
    for where in (device, CPU):
        x = Streams(3, range(5)).normal(2).double().to(where)
        field = mixture_2d(path)
        solution = get(name).solve(field_on(field, where), x, steps, Streams(4, range(5)))
        assert solution.x.device == where
        made.append(solution.x.cpu())
    torch.testing.assert_close(*made, rtol=1e-9, atol=1e-9)


def test_the_noise_is_bitwise_that_of_the_cpu(device):
    kept = []
    for where in (device, CPU):
        seen = []
        sample(
            field_on(gaussian_elementwise(Flow()), where), Streams(7, range(40, 48)), (3,),
            get("ddim"), grids.uniform(3), 1.0, where,
            on_step=lambda step, prediction, seen=seen: seen.append(prediction.x_t.clone()),
        )  # fmt: skip
        assert seen[0].device == where
        kept.append(seen[0].cpu())
    assert torch.equal(*kept)


@pytest.mark.parametrize("network", [ATTENTION, DIT])
@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun", "ddpm", "rk23"])
def test_samples_are_those_of_the_cpu(device, network, solver):
    options = {"solver": solver, "steps": 6, "seed": 3, "guidance": 1.5}
    found, wanted = (model_on(d, "fp32", network).sample(6, **options) for d in (device, CPU))
    assert torch.equal(found.labels, wanted.labels)
    assert found.nfe == wanted.nfe
    torch.testing.assert_close(found.x, wanted.x, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.03), ("fp16", 0.004)])
@pytest.mark.parametrize("network", [ATTENTION, DIT])
def test_samples_in_narrow_arithmetic(device, network, precision, most):
    exact, coarse = (
        model_on(device, name, network).sample(6, seed=3).x for name in ("fp32", precision)
    )
    assert not torch.equal(exact, coarse)
    assert float((exact - coarse).square().mean().sqrt()) < most * float(exact.std())


def test_a_sample_does_not_depend_on_its_batch(device):
    model = model_on(device, "fp32", ATTENTION)
    whole = model.sample(9, seed=1, batch=9).x
    parts = model.sample(9, seed=1, batch=4).x
    torch.testing.assert_close(parts, whole, rtol=2e-4, atol=2e-4)


def test_a_model_is_read_to_the_device(device, tmp_path):
    model_on(CPU, "fp32", DIT).save(tmp_path / "model")
    there = Model.load(tmp_path / "model", "fp32", str(device))
    here = Model.load(tmp_path / "model", "fp32", "cpu")
    assert next(there.denoiser.parameters()).device == device
    torch.testing.assert_close(there.sample(4).x, here.sample(4).x, rtol=2e-4, atol=2e-4)


class Broken(Field):
    """A field that is infinite at one number of sample 2 from the middle of a path on."""

    def __init__(self, field):
        self.field, self.path = field, field.path

    def __call__(self, x_t, t, condition=None):
        prediction = self.field(x_t, t, condition)
        if float(t) > 0.55:
            return prediction
        value = prediction.value.clone()
        value[2, 1] = torch.inf
        return prediction.with_value(prediction.lens, value)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "ddpm"])
def test_numbers_that_break_down_are_named(device, name):
    field = Broken(field_on(gaussian_elementwise(Chain.linear().as_path()), device))
    x = Streams(1, range(4)).normal(3).double().to(device)
    with pytest.raises(NonFinite, match=r"prediction is not finite at step 5 of 10.*sample 2 of 4"):
        get(name).solve(field, x, grids.uniform(10, 1.0, 0.01), Streams(2, range(4)))


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_likelihoods_of_an_exact_field(device, divergence):
    path, nats = VPLinear(), []
    for where in (device, CPU):
        field = field_on(mixture_2d(path), where)
        x = Streams(3, range(5)).normal(2).double().to(where)
        noise = Streams(1, range(5)) if divergence == "hutchinson" else None
        found = log_likelihood(field, x, divergence=divergence, noise=noise, prior="field")
        assert found.nats.device == where
        nats.append(found.nats.cpu())
    torch.testing.assert_close(*nats, rtol=1e-8, atol=1e-8)


def test_likelihoods_of_a_network(device):
    flow, bound = [], []
    for where in (device, CPU):
        model = model_on(where, "fp32", MLP)
        x = Streams(3, range(2)).normal(*model.spec.shape).to(where)
        options = {"method": "midpoint", "steps": 2, "divergence": "hutchinson"}
        made = log_likelihood(model.denoiser, x, noise=Streams(2, range(2)), **options)
        flow.append(made.nats.cpu())
        noise = Streams(1, range(2))
        made = variational_bound(model.denoiser, x, noise, grid=grids.uniform(5, 1.0, 0.01))
        bound.append(made.likelihood.nats.cpu())
    assert flow[0].dtype == F64
    torch.testing.assert_close(*flow, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(*bound, rtol=1e-3, atol=1e-3)
