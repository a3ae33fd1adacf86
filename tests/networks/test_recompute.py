import pytest
import torch

from tests.networks.test_unet import noise, perturbed
from unnoise.networks import DiT, Mlp, UNet

NETWORKS = {
    "unet": lambda: UNet(2, widths=(8, 12), blocks=2, attention=(1,), embedding=8),
    "mlp": lambda: Mlp((2, 6, 5), width=16, depth=4),
    "dit": lambda: DiT(2, width=16, depth=3, head=8),
}
INPUT = noise(3, 2, 6, 5).double(), torch.tensor([0.1, 0.5, 0.9])


@pytest.fixture(params=NETWORKS)
def network(request):
    return perturbed(NETWORKS[request.param]()).double()


def saved_bytes(network):
    """Bytes that a forward pass keeps for the backward pass, and the loss."""
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    weights = {p.data_ptr() for p in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(*INPUT).square().mean()
    return sum(size for at, size in kept.items() if at not in weights), loss


def test_gradients_are_equal_and_less_is_kept(network):
    wanted_bytes, loss = saved_bytes(network)
    wanted = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    network.recompute = True
    bytes_, again = saved_bytes(network)
    got = torch.autograd.grad(again, list(network.parameters()), allow_unused=True)
    assert torch.equal(again, loss)
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert bytes_ < 0.5 * wanted_bytes


def test_every_block_is_run_twice_with_gradients_and_once_without(network):
    runs = {}
    for block in network.blocks():
        block.register_forward_pre_hook(lambda m, *_: runs.update({m: runs.get(m, 0) + 1}))
    network.recompute = True
    network(*INPUT).sum().backward()
    assert set(runs) == set(network.blocks())
    assert set(runs.values()) == {2}
    runs.clear()
    with torch.no_grad():
        network(*INPUT)
    assert set(runs.values()) == {1}


def test_second_derivatives(network):
    x, level = INPUT

    def second(recompute):
        network.recompute = recompute
        at = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(network(at, level).square().sum(), at, create_graph=True)
        loss = first.square().sum()
        return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)

    for a, b in zip(second(True), second(False), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)
