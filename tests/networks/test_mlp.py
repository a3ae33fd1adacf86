import pytest
import torch

from unnoise.networks import Mlp


@pytest.mark.parametrize("event", [2, (5,), (2, 3), (1, 4, 4)])
def test_any_event(event):
    network = Mlp(event, width=8, depth=1)
    shape = (event,) if isinstance(event, int) else event
    x = torch.randn(3, *shape)
    assert torch.equal(network(x, torch.rand(3)), torch.zeros_like(x))
    torch.nn.init.normal_(network.leave.weight)
    assert network(x, torch.rand(3)).shape == x.shape


def test_it_learns_a_function_of_the_noise_level():
    network = Mlp(1, width=32, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        x, t = torch.randn(128, 1, generator=generator), torch.rand(128, generator=generator)
        loss = (network(x, t) - x * (6 * t[:, None]).sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02  # the best answer blind to t leaves 0.45
