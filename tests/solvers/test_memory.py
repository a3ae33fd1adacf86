"""A solve holds few states, counted in bytes, and writes over none that others may still read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from benchmarks.live_bytes import LiveBytes, peak
from tests.exact import Seen, gaussian_elementwise
from unnoise.fields import Field, Prediction
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

GRID = grids.log_snr(VPLinear(), 6, 1.0, 0.01)
EVENT = (4, 64, 64)
# the most that is held beyond the state given, the network's own values among it
HELD = {
    "ddim": 3, "euler": 3, "ddpm": 4, "ddim:eta=0.5": 4,
    "dpmpp_2m": 4, "dpm_2m": 4, "dpmpp_2m_exact": 4, "adams": 4, "dpmpp_2m_sde": 4,
    "heun": 4, "midpoint": 4, "dpmpp_2s": 4, "dpm2": 4,
}  # fmt: skip


class Fresh(Field):
    """An affine prediction in a lens, in new memory at every call."""

    def __init__(self, lens: str = "eps") -> None:
        self.path, self.lens = VPLinear(), lens

    def __call__(self, x_t: Tensor, t: Tensor, condition=None) -> Prediction:
        value = torch.mul(x_t, 0.5)
        value.add_(0.1)
        return Prediction(x_t, t, self.path, self.lens, value)


def start(n: int = 1) -> Tensor:
    return Streams(0, range(n)).normal(*EVENT)


def solved(name: str, field: Field, x: Tensor, **options) -> Tensor:
    noise = Streams(1, range(len(x)))
    with torch.no_grad():
        return get(name).solve(field, x, GRID, noise, **options).x


def test_bytes_are_counted() -> None:
    x = start()

    def three() -> None:
        a = x + 1
        b = a[:, :2]  # no memory of its own
        c = a + 1
        del a, c
        d = b + 1  # half, beside the first
        del b, d
        _ = x * 2

    with LiveBytes(x) as counted:
        three()
    assert counted.peak == 2 * x.nbytes


@pytest.mark.parametrize("lens", ["eps", "v"])
@pytest.mark.parametrize("name", HELD)
def test_states_held(name: str, lens: str) -> None:
    x = start()
    solved(name, Fresh(lens), x)  # plans are made
    most = peak(lambda: solved(name, Fresh(lens), x), x)
    few = 32 * len(GRID)  # times and coefficients
    assert most <= HELD[name] * x.nbytes + few


@pytest.mark.parametrize("lens", ["eps", "v"])
@pytest.mark.parametrize(
    "name", ["ddim", "heun", "rk4", "dpmpp_2m", "dpmpp_3m", "lms", "unipc", "pndm", "sa_solver",
             "dpmpp_2m_sde", "edm_churn", "dpmpp_sde", "auto"],
)  # fmt: skip
def test_no_prediction_and_no_state_is_written_over(name: str, lens: str) -> None:
    seen = []

    def copied(step: int, prediction: Prediction) -> None:
        seen.append((prediction, prediction.x_t.clone(), prediction.value.clone()))

    x = start()
    given = x.clone()
    solved(name, Fresh(lens), x, on_step=copied)
    assert torch.equal(x, given)
    for prediction, x_t, value in seen:
        assert torch.equal(prediction.x_t, x_t)
        assert torch.equal(prediction.value, value)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun", "dpmpp_2s", "unipc", "sa_solver"])
def test_gradients_are_those_of_differences(name: str) -> None:
    """Nothing that a gradient needs is written over."""

    class Weighed(Field):
        path = VPLinear()

        def __call__(self, x_t, t, condition=None):
            return Prediction(x_t, t, self.path, "v", torch.tanh(0.5 * x_t) * x_t)

    def loss(x: Tensor) -> Tensor:
        return get(name).solve(Weighed(), x, GRID, Streams(1, [0])).x.square().sum()

    x = torch.linspace(-1, 1, 8, dtype=torch.float64)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    eye, step = torch.eye(8, dtype=torch.float64), 1e-6
    with torch.no_grad():
        slopes = [(loss(x + step * e) - loss(x - step * e)) / (2 * step) for e in eye]
    torch.testing.assert_close(gradient[0], torch.stack(slopes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "dpmpp_2s", "unipc"])
def test_a_plan_made_in_inference_mode_serves_with_gradients(name: str) -> None:
    path = VPLinear(0.1, 19.0 + 0.01 * len(name))  # no plan for it yet
    field = Seen(gaussian_elementwise(path, (3,), torch.float32), "v")
    x = Streams(0, range(2)).normal(3)
    with torch.inference_mode():
        first = get(name).solve(field, x, GRID).x
    again = get(name).solve(field, x.requires_grad_(), GRID).x
    assert torch.equal(first, again)
    again.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("lens", ["x0", "eps"])
@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "dpm_2m", "heun"])
def test_tangents_flow_through_solves(name: str, lens: str) -> None:
    """The solve is affine: pushed forward, a direction is the difference of two solves."""
    x, along = start().double(), 0.1 * Streams(3, range(1)).normal(*EVENT).double()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, along)
        tangent = forward_ad.unpack_dual(solved(name, Fresh(lens), dual)).tangent
    ends = [solved(name, Fresh(lens), x + part * along) for part in (0.5, -0.5)]
    torch.testing.assert_close(tangent, ends[0] - ends[1], rtol=1e-9, atol=1e-9)
