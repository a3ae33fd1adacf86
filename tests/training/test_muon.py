"""Muon against torch's, and against what its iteration should give in exact arithmetic."""

import pytest
import torch
from torch import nn

from unnoise.training import Muon
from unnoise.training.muon import orthogonal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def by_singular_values(matrix):
    """Each singular value put through the quintic five times, the vectors left as they are."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ v


@pytest.mark.parametrize("shape", [(8, 8), (6, 11), (6, 12), (40, 5), (3, 70)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 3e-5)])
def test_singular_values_go_through_the_quintic(shape, dtype, close):
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=g, dtype=torch.float64)
    torch.testing.assert_close(
        orthogonal(matrix.to(dtype)).double(), by_singular_values(matrix), rtol=0, atol=close
    )
    stack = torch.stack([matrix, -2 * matrix, matrix.flip(0)]).to(dtype)
    for one, whole in zip(stack, orthogonal(stack), strict=True):
        torch.testing.assert_close(orthogonal(one), whole, rtol=0, atol=close)


@pytest.mark.parametrize("shape", [(32, 48), (32, 300), (300, 32)])
def test_rounding_of_small_singular_values_stays_that_of_the_plain_iteration(shape):
    # six decades of singular values: squaring them in one go would lose half of the digits
    g = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=g).double(), full_matrices=False)
    matrix = ((u * torch.logspace(0, -6, 32).double()) @ v).float()
    apart = (orthogonal(matrix).double() - by_singular_values(matrix)).norm()
    assert apart < 4e-5 * by_singular_values(matrix).norm()
    rounded = matrix * (1 + 6e-8 * torch.randn(shape, generator=g))
    assert (orthogonal(rounded) - orthogonal(matrix)).norm() < 5e-5 * orthogonal(matrix).norm()


def both(first, **options):
    whole = nn.Parameter(first.clone())
    matrix = nn.Parameter(first.flatten(1).clone())
    return whole, Muon([whole], **options), matrix, torch.optim.Muon([matrix], **options)


@pytest.mark.parametrize("kernel", [(), (3,), (3, 3), (2, 2, 2)])
@pytest.mark.parametrize(
    "options",
    [{"weight_decay": 0.1}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}, {}],
)
def test_the_rule_is_torchs(kernel, options):
    g = torch.Generator().manual_seed(0)
    first = torch.randn(6, 4, *kernel, generator=g)
    whole, ours, matrix, torchs = both(first, lr=0.02, momentum=0.9, **options)
    for _ in range(3):
        gradient = torch.randn(first.shape, generator=g)
        whole.grad, matrix.grad = gradient, gradient.flatten(1).clone()
        ours.step()
        torchs.step()
        ours.zero_grad()
        assert whole.grad is None
    moved = (matrix.detach() - first.flatten(1)).norm()
    assert (whole.detach().flatten(1) - matrix.detach()).norm() < 0.02 * moved  # torch's bfloat16
    mine = ours.state[ours.matrices[0]]["momentum_buffer"]
    torch.testing.assert_close(mine, torchs.state[matrix]["momentum_buffer"])


def test_a_state_that_torchs_wrote_is_taken_up():
    g = torch.Generator().manual_seed(0)
    first = torch.randn(5, 9, generator=g)
    whole, ours, matrix, torchs = both(first, lr=0.02, momentum=0.9)
    matrix.grad = torch.randn(5, 9, generator=g)
    torchs.step()
    ours.load_state_dict(torchs.state_dict())
    assert ours.state_dict()["param_groups"] == torchs.state_dict()["param_groups"]
    with torch.no_grad():
        whole.copy_(matrix)
    whole.grad = torch.zeros(5, 9)
    matrix.grad = torch.zeros(5, 9)  # momentum alone moves them
    before = matrix.detach().clone()
    ours.step()
    torchs.step()
    assert (whole - matrix).norm() < 0.02 * (matrix - before).norm()


def test_what_has_no_gradient_stays_and_equal_shapes_are_not_mixed_up():
    g = torch.Generator().manual_seed(0)
    some = [nn.Parameter(torch.randn(4, 4, generator=g)) for _ in range(3)]
    alone = [nn.Parameter(p.detach().clone()) for p in some]
    gradients = [torch.randn(4, 4, generator=g) for _ in range(3)]
    together = Muon(some, lr=0.1)
    for k in (0, 2):
        some[k].grad = gradients[k].clone()
        alone[k].grad = gradients[k].clone()
        Muon([alone[k]], lr=0.1).step()
    together.step()
    for one, other in zip(some, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_other_devices_than_the_cpu_take_bfloat16(monkeypatch):
    # none is here: that the CPU keeps float32 is what agreement of processes rests on
    seen = []
    monkeypatch.setattr("unnoise.training.muon.orthogonal", lambda m, *_: seen.append(m.dtype) or m)
    p = nn.Parameter(torch.randn(3, 3))
    p.grad = torch.randn(3, 3)
    Muon([p], lr=0.1).step()
    assert seen == [torch.float32]
