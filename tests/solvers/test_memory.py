"""A walk holds few states, counted in bytes, and writes over none that anyone may still look at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import unnoise.solvers.multistep
import unnoise.solvers.runge_kutta
import unnoise.solvers.single_step
from benchmarks.live_bytes import LiveBytes, peak
from tests.exact import Seen, gaussian_elementwise
from unnoise.fields import Field, Prediction
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get
from unnoise.solvers.spare import LARGE

# torch's own forward derivatives are compiled by it
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)
WALKS = (
    unnoise.solvers.multistep,
    unnoise.solvers.runge_kutta,
    unnoise.solvers.single_step,
)
GRID = grids.log_snr(VPLinear(), 6, 1.0, 0.01)
EVENT = (4, 64, 64)
# the most that is held beyond the state given, the network's own answers among it
HELD = {
    "ddim": 2, "euler": 2, "ddpm": 2, "euler_ancestral": 2,
    "dpmpp_2m": 3, "dpm_2m": 3, "dpmpp_2m_exact": 3, "adams": 3, "dpmpp_2m_sde": 3,
    "heun": 3, "midpoint": 3, "dpmpp_2s": 3, "dpm2": 3, "unipc:order=1": 3,
    "unipc": 4, "dpmpp_3m": 4,
}  # fmt: skip
REUSING = (
    "ddim", "euler", "heun", "midpoint", "rk4", "dpmpp_2s", "dpmpp_2m", "dpm_2m", "dpmpp_3m",
    "lms", "unipc", "unipc:order=1", "pndm", "ddpm", "dpmpp_2m_sde", "edm_churn", "dpmpp_sde",
)  # fmt: skip


class Fresh(Field):
    """An affine answer in a lens, in new memory at every call; does `look` with the state."""

    def __init__(self, lens: str = "eps", look=lambda x, value: None) -> None:
        self.path, self.lens, self.look = VPLinear(), lens, look

    def __call__(self, x_t: Tensor, t: Tensor, condition=None) -> Prediction:
        value = torch.mul(x_t, 0.5)
        value.add_(0.1)
        self.look(x_t, value)
        return Prediction(x_t, t, self.path, self.lens, value)


def start(n: int = 1) -> Tensor:
    return Streams(0, range(n)).normal(*EVENT)


def walked(name: str, field: Field, x: Tensor, **options) -> Tensor:
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
    walked(name, Fresh(lens), x)  # plans are made
    most = peak(lambda: walked(name, Fresh(lens), x), x)
    few = 16 * len(GRID)  # times and coefficients
    assert most <= HELD[name] * x.nbytes + few


def test_states_held_where_nothing_is_reused() -> None:
    """A Prediction that on_step keeps is kept whole; then a step needs two states more."""
    x, kept = start(), []
    walked("dpmpp_2m", Fresh(), x)  # plans are made
    most = peak(lambda: walked("dpmpp_2m", Fresh(), x, on_step=lambda k, p: kept.append(p)), x)
    kept_bytes = 2 * 6 * x.nbytes - x.nbytes  # six states and six answers, the first x given
    assert most <= kept_bytes + 2 * x.nbytes + 16 * len(GRID)


KEEPERS = {
    "the state": lambda x: x,
    "a view": lambda x: x[:, 1:],
    "a detached one": lambda x: x.detach(),
    "an array": lambda x: x.numpy(),
    "its memory": lambda x: x.untyped_storage(),
    "an iterator over it": lambda x: iter(x.unbind()),
}


def numbers(kept) -> Tensor:
    if isinstance(kept, torch.UntypedStorage):
        return torch.empty(0).set_(kept).clone()
    if isinstance(kept, Tensor):
        return kept.clone()
    return torch.stack(list(kept)) if hasattr(kept, "__next__") else torch.tensor(kept)


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "lms", "unipc", "heun", "dpmpp_2s"])
def test_what_a_field_keeps_of_its_state_stays(name: str, keeper: str) -> None:
    kept, then = [], []

    def look(x: Tensor, value: Tensor) -> None:
        kept.append(KEEPERS[keeper](x))
        then.append(numbers(KEEPERS[keeper](x)))
        kept.append(KEEPERS[keeper](value))
        then.append(numbers(KEEPERS[keeper](value)))

    x = start()
    given = x.clone()
    lens = "eps" if name == "lms" else "v"  # lms then keeps the answers themselves
    walked(name, Fresh(lens, look), x)
    assert torch.equal(x, given)
    assert len(kept) >= 2 * len(GRID) - 2
    for now, before in zip(kept, then, strict=True):
        assert torch.equal(numbers(now), before)


@pytest.mark.parametrize("name", REUSING)
def test_what_on_step_keeps_stays(name: str) -> None:
    kept = []

    def look(step: int, said: Prediction) -> None:
        kept.append((said, said.x_t.clone(), said.value.clone()))

    walked(name, Fresh("v"), start(), on_step=look)
    for said, x_t, value in kept:
        assert torch.equal(said.x_t, x_t)
        assert torch.equal(said.value, value)


def test_what_autograd_keeps_stays() -> None:
    """A field that keeps a graph of its state, and says something cut off from it."""
    weight = torch.full(EVENT, 2.0, requires_grad=True)
    graphs, sums = [], []

    class Kept(Field):
        path = VPLinear()

        def __call__(self, x_t: Tensor, t: Tensor, condition=None) -> Prediction:
            with torch.enable_grad():
                graphs.append((x_t * weight).sum())
            sums.append(x_t[0].clone())
            return Prediction(x_t, t, self.path, "v", graphs[-1].detach() * 0 + 0.3 * x_t)

    for name in ("ddim", "dpmpp_2m", "heun"):
        walked(name, Kept(), start())
    for graph, x in zip(graphs, sums, strict=True):
        assert torch.equal(torch.autograd.grad(graph, weight)[0], x)


@pytest.mark.parametrize("lens", ["eps", "v", "x0"])
@pytest.mark.parametrize("name", REUSING)
def test_the_same_numbers_whether_memory_is_used_again(name: str, lens: str, monkeypatch) -> None:
    field = Seen(gaussian_elementwise(VPLinear(), (3,), torch.float32), lens)
    x, found = Streams(0, range(4)).normal(3), []
    for limit in (0, 1 << 60):
        for module in WALKS:
            monkeypatch.setattr(module, "LARGE", limit)
        found.append(walked(name, field, x))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "heun", "dpmpp_2s"])
def test_gradients_flow_through_walks_of_any_size(name: str) -> None:
    """Nothing that a gradient needs is written over; the same gradient as through a small state."""
    event = (LARGE // 4,)
    found = []
    for size in (event, (8,)):
        weight = torch.full((1,), 0.5, requires_grad=True)

        class Weighed(Field):
            path = VPLinear()

            def __call__(self, x_t, t, condition=None, weight=weight):
                return Prediction(x_t, t, self.path, "v", torch.tanh(weight * x_t) * x_t)

        x = torch.linspace(-1, 1, 8).repeat(size[0] // 8)[None].requires_grad_()
        out = get(name).solve(Weighed(), x, GRID).x
        found.append(torch.autograd.grad(out[:, :8].square().sum(), (weight, x)))
    (by_weight, by_x), (weight_small, x_small) = found
    torch.testing.assert_close(by_weight, weight_small, rtol=1e-5, atol=0)
    torch.testing.assert_close(by_x[:, :8], x_small, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun", "dpmpp_2s", "unipc"])
def test_gradients_flow_where_nothing_is_kept_for_them(name: str) -> None:
    """The field is linear: autograd holds no state, and yet none may be written over."""
    x = torch.linspace(-1, 1, 8).repeat(LARGE // 32)[None].requires_grad_()
    large = get(name).solve(Fresh("v"), x, GRID).x
    small = get(name).solve(Fresh("v"), x[:, :8], GRID).x
    for out in (large[:, :8], small):
        out.sum().backward()
    torch.testing.assert_close(large[:, :8], small)
    assert x.grad is not None
    assert bool((x.grad[:, :8] == x.grad[0, 0]).all())
    assert bool((x.grad[:, 8:] == 0).all())
    one = (small[0, 1] - small[0, 0]) / (x[0, 1] - x[0, 0])
    torch.testing.assert_close(x.grad[0, 0], 2 * one.detach(), rtol=1e-4, atol=0)


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
def test_tangents_flow_through_walks_of_any_size(name: str, lens: str) -> None:
    """The walk is linear: pushed forward, a direction is the difference of two walks."""
    x, along = start().double(), 0.1 * Streams(3, range(1)).normal(*EVENT).double()
    assert x.nbytes >= LARGE
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, along)
        tangent = forward_ad.unpack_dual(walked(name, Fresh(lens), dual)).tangent
    ends = [walked(name, Fresh(lens), x + part * along) for part in (0.5, -0.5)]
    torch.testing.assert_close(tangent, ends[0] - ends[1], rtol=1e-9, atol=1e-9)
