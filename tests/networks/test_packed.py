import copy
import pickle

import pytest
import torch
from torch.func import jvp, vmap

from tests.networks.test_dit import dit, noise
from tests.networks.test_unet import condition
from unnoise.networks.freezing import frozen
from unnoise.networks.packed import PackedLinear, pack


def packed(dtype=torch.float32, bias=True):
    """A linear layer, and the same one packed."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(40, 24, bias=bias)).to(dtype).requires_grad_(False)
    other = copy.deepcopy(plain)
    pack(other)
    assert type(other[0]) is PackedLinear
    return plain, other


@pytest.fixture
def products(monkeypatch):
    """How often the packed product was used."""
    calls, real = [], torch.ops.mkldnn._linear_pointwise
    fake = type("Ops", (), {"_linear_pointwise": lambda *a: (calls.append(1), real(*a))[1]})
    fake._reorder_linear_weight = staticmethod(torch.ops.mkldnn._reorder_linear_weight)
    fake._linear_pointwise = staticmethod(fake._linear_pointwise)
    monkeypatch.setattr(torch.ops, "mkldnn", fake)
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 5, 40), (2, 3, 4, 40)])
def test_the_same_product(dtype, shape, bias, products):
    plain, other = packed(dtype, bias)
    x = noise(*shape).to(dtype)
    torch.testing.assert_close(other(x), plain(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other(x.flip(0)), plain(x.flip(0)), rtol=1e-5, atol=1e-5)
    assert len(products) == 2


def test_what_knows_no_blocks_gets_the_plain_one(products):
    plain, other = packed()
    x, direction = noise(3, 40), noise(3, 40, seed=1)
    both = [jvp(layer, (x,), (direction,))[1] for layer in (plain, other)]
    torch.testing.assert_close(*both)
    both = [vmap(layer)(x) for layer in (plain, other)]
    torch.testing.assert_close(*both)
    wanting = x.clone().requires_grad_()
    both = [torch.autograd.grad(layer(wanting).sum(), wanting)[0] for layer in (plain, other)]
    torch.testing.assert_close(*both)
    with torch.autocast("cpu", torch.bfloat16):
        assert other(x).dtype == torch.bfloat16
    assert torch.equal(copy.deepcopy(other).double()(x.double()), plain.double()(x.double()))
    assert products == []


def test_copies_and_pickles_are_packed_again(products):
    plain, other = packed()
    x = noise(3, 40)
    for again in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        torch.testing.assert_close(again(x), plain(x))
        assert again[0].weight is not other[0].weight
    assert len(products) == 2


def test_a_torch_without_these_operations_keeps_the_plain_layers(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    layers = torch.nn.Sequential(torch.nn.Linear(3, 2))
    pack(layers)
    assert type(layers[0]) is torch.nn.Linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_transformer_answers_the_same(dtype, products):
    network = dit().requires_grad_(False)
    x, level = noise(3, 3, 8, 6), torch.tensor([0.3]).expand(3)
    copy_ = frozen(network, dtype)
    plain = copy.deepcopy(network).to(dtype)
    for given in (None, condition([0, 3, 1])):
        made, want = copy_(x, level, given), plain(x, level, given)
        close = 1e-5 if dtype == torch.float32 else 0.03
        assert (made - want).square().mean().sqrt() < close * want.square().mean().sqrt()
    assert len(products) == 2 * 2 * 4
    assert list(copy_.state_dict()) == list(network.state_dict())
