"""Traces of Jacobians: of linear maps, of networks by two ways, and probed at random."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from tests.exact import F64, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.fields import Denoiser
from unnoise.fields.derivatives import (
    Products,
    backward_products,
    basis,
    draw_probes,
    forward_products,
    single_products,
    trace,
)
from unnoise.networks import DiT, Mlp, UNet
from unnoise.paths import Cosine
from unnoise.randomness import Streams


def awake(network: nn.Module) -> nn.Module:
    """Weights that start at zero would make every Jacobian trivial."""
    generator = torch.Generator().manual_seed(0)
    for p in network.parameters():
        if not bool(p.any()):
            p.data.normal_(0, 0.1, generator=generator)
    return network.eval().requires_grad_(False).double()


NETWORKS = {
    "mlp": (lambda: Mlp(5, 16, 2), (5,)),
    "unet": (lambda: UNet(2, 2, (8, 16), 1, embedding=16), (2, 4, 3)),
    "unet with attention": (lambda: UNet(1, 2, (8, 16), 1, attention=(1,), head=8), (1, 4, 4)),
    "wave": (lambda: UNet(2, 1, (8, 8), 1, skips="concat", norm="group", patch=2), (2, 9)),
    "volume": (lambda: UNet(1, 3, (8,), 1), (1, 2, 3, 2)),
    "transformer": (lambda: DiT(2, 2, 16, 2, head=8), (2, 4, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_is_one_for_every_event_shape(name):
    make, event = NETWORKS[name]
    denoiser = Denoiser(awake(make()), Cosine(), "v")
    x = Streams(0, range(3)).normal(*event).double()
    t = torch.tensor([0.2, 0.5, 0.9], dtype=F64)
    function = lambda x: denoiser(x, t).value  # noqa: E731
    wanted_value, wanted = single_products(function, x, basis(x))
    assert wanted.shape == (x[0].numel(), 3)
    for way in (backward_products, forward_products):
        value, products = way(function, x, basis(x))
        torch.testing.assert_close(value, wanted_value, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(products, wanted, rtol=1e-6, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x).flatten(1), x)
    jacobian = jacobian.flatten(3)
    own = torch.stack([jacobian[i, :, i].diagonal().sum() for i in range(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no silent way back to the slow one
        torch.testing.assert_close(trace(function, x)[1], own, rtol=1e-6, atol=1e-9)


def test_the_trace_of_a_matrix():
    matrix = torch.arange(16, dtype=F64).reshape(4, 4)
    x = Streams(0, range(2)).normal(2, 2).double()
    function = lambda x: (x.flatten(1) @ matrix.T).reshape(x.shape)  # noqa: E731
    for mode in ("forward", "backward", "single"):
        assert trace(function, x, mode)[1].tolist() == [30.0, 30.0]
    with pytest.raises(InvalidArgument, match="did you mean 'forward'"):
        trace(function, x, "forwards")


def test_the_chunks_change_nothing(monkeypatch):
    field, t = mixture_2d(Cosine()), torch.tensor(0.4, dtype=F64)
    x = Streams(0, range(3)).normal(2).double()
    whole = trace(lambda x: field(x, t).value, x)[1]
    monkeypatch.setattr("unnoise.fields.derivatives.MOST_NUMBERS", {"cpu": 6})
    assert torch.equal(trace(lambda x: field(x, t).value, x)[1], whole)


class OneByOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        assert bool(torch.isfinite(grad).all())  # looks at numbers: cannot be batched
        return 3 * x**2 * grad


def test_a_network_without_batched_derivatives_falls_back_and_says_so():
    x, products = Streams(0, range(3)).normal(4).double(), Products()
    with pytest.warns(UserWarning, match=r"no batched derivative \(.+\); its divergence"):
        diagonal = products(OneByOne.apply, x, basis(x))[1]
    torch.testing.assert_close(diagonal.sum(0), (3 * x**2).sum(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        products(OneByOne.apply, x, basis(x))
    for mode in ("forward", "backward"):
        with pytest.raises(RuntimeError):
            trace(OneByOne.apply, x, mode)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_probes_are_unbiased_with_their_known_variance(kind):
    """Var[vᵀAv] of symmetric A: 2·Σᵢ≠ⱼ Aᵢⱼ² for ±1, 2·Σ Aᵢⱼ² for normal entries."""
    matrix = torch.tensor([[2.0, 0.5, 0.0], [0.5, -1.0, 0.3], [0.0, 0.3, 0.5]], dtype=F64)
    count = 4000
    x = torch.zeros(5, 3, dtype=F64)
    probes = draw_probes(Streams(0, range(5)), count, (3,), kind).double()
    assert probes.shape == (count, 5, 3)
    _, products = backward_products(lambda x: x @ matrix, x, probes)
    square = matrix.square().sum() - (matrix.diagonal().square().sum() * (kind == "rademacher"))
    spread = float((2 * square).sqrt())
    assert float(products.mean()) == pytest.approx(1.5, abs=4 * spread / (5 * count) ** 0.5)
    assert float(products.std()) == pytest.approx(spread, rel=0.05)
    assert torch.equal(
        draw_probes(Streams(0, range(3, 5)), count, (3,), kind).double(), probes[:, 3:]
    )


def test_bad_probes_are_refused():
    with pytest.raises(InvalidArgument, match="did you mean 'gaussian'"):
        draw_probes(Streams(0, [0]), 1, (2,), "gauss")
    with pytest.raises(InvalidArgument, match="probes is 0"):
        draw_probes(Streams(0, [0]), 0, (2,))
    with pytest.raises(InvalidArgument, match="noise=Streams"):
        draw_probes(None, 1, (2,))
