import pytest
import torch

from unnoise.networks import blocks
from unnoise.networks.blocks import Attention, ChannelNorm, GroupNorm, attend


@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_channel_norm_is_per_position(size):
    x = torch.randn(2, 6, *size, dtype=torch.float64) * 3 + 1
    norm = ChannelNorm(6).double()
    with torch.no_grad():
        norm.gain.copy_(torch.arange(6) + 1.0)
        norm.bias.copy_(-torch.arange(6))
    column = (slice(None), slice(None), *(0 for _ in size))
    at = x[column]
    want = (at - at.mean(1, keepdim=True)) / (at.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x)[column], want * norm.gain + norm.bias)


def test_group_norm_has_groups_that_divide():
    for channels in (1, 3, 17, 24, 40, 64):
        norm = GroupNorm(channels)
        assert channels % norm.groups == 0
        assert norm(torch.randn(2, channels, 5)).shape == (2, channels, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_written_out_attention_equals_the_fused_one(dtype, monkeypatch):
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=dtype).unbind(0)
    written = attend(q, k, v)
    monkeypatch.setattr(blocks, "WRITTEN_OUT_TOKENS", 0)
    torch.testing.assert_close(written, attend(q, k, v))
    softmax = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, dim=-1) @ v
    torch.testing.assert_close(written, softmax)


def test_attention_carries_every_position_to_every_other():
    layer = Attention(2, 8).double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(1, 8, 3, 2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x)[0, :, 0, 0].sum(), x)
    assert bool((grad.abs().amax(1) > 0).all())


def test_attention_without_positions_commutes_with_their_order():
    layer = Attention(1, 8).double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 8, 6, dtype=torch.float64)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x)[..., order], layer(x[..., order]))


@pytest.mark.parametrize(
    ("channels", "head", "heads"), [(128, 64, 2), (96, 64, 1), (192, 64, 3), (32, 64, 1), (7, 2, 1)]
)
def test_heads_are_at_least_as_wide_as_asked(channels, head, heads):
    assert Attention(2, channels, head=head).heads == heads
