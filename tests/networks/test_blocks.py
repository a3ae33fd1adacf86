import pytest
import torch

from unnoise.networks import blocks
from unnoise.networks.blocks import Attention, ChannelNorm, GroupNorm, ResidualBlock, attend


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


def norm_of(x, gain=None, bias=None, eps=1e-5):
    """By the formula, channel by channel at every position."""
    out = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + eps).sqrt()
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    return out if gain is None else out * gain.view(shape) + bias.view(shape)


def moved(module):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return module.double()


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("resample", [None, "down", "up"])
@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_residual_block_is_its_formula(size, resample, rows):
    block = moved(ResidualBlock(len(size), 4, 6, 8, resample=resample))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, *size, generator=generator, dtype=torch.float64)
    embedding = torch.randn(rows, 8, generator=generator, dtype=torch.float64)
    conv = (torch.conv1d, torch.conv2d, torch.conv3d)[len(size) - 1]
    target = tuple(2 * n - 1 for n in size)

    def change(h):
        for axis, n in enumerate(h.shape[2:], start=2):
            if resample == "down":
                parts = [part.mean(axis, keepdim=True) for part in h.split(2, axis)]
                h = torch.cat(parts, axis)
            elif resample == "up":
                h = h.repeat_interleave(2, axis).narrow(axis, 0, 2 * n - 1)
        return h

    h = norm_of(x, block.before.gain, block.before.bias)
    h = h * torch.sigmoid(h)
    h = conv(
        change(h) if resample == "down" else h, block.first.weight, block.first.bias, padding=1
    )
    h = change(h) if resample == "up" else h
    modulation = embedding @ block.steer.weight.mT + block.steer.bias
    scale, shift = (part.view(rows, -1, *(1 for _ in size)) for part in modulation.chunk(2, dim=1))
    h = (1 + scale) * norm_of(h) + shift
    h = conv(h * torch.sigmoid(h), block.second.weight, block.second.bias, padding=1)
    wanted = conv(change(x) if resample else x, block.shortcut.weight) + h
    got = block(
        x, *block.modulation(embedding, torch.float64), target if resample == "up" else None
    )
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("norm", [ChannelNorm, GroupNorm])
def test_modulated_norms_have_right_derivatives_twice_and_forward(norm, rows):
    layer = norm(6, affine=False)
    x, gain, shift = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 6, 3), (rows, 6, 1), (rows, 6, 1))
    )
    torch.testing.assert_close(layer.modulated(x, gain, shift), gain * layer(x) + shift)
    torch.autograd.gradcheck(
        layer.modulated, (x, gain, shift), check_forward_ad=norm is ChannelNorm
    )
    torch.autograd.gradgradcheck(layer.modulated, (x, gain, shift))


def test_attention_is_its_formula():
    layer = moved(Attention(2, 12, head=4))
    x = torch.randn(2, 12, 2, 3, dtype=torch.float64)
    weight, bias = layer.project.weight[:, :, 0, 0], layer.project.bias
    tokens = norm_of(x, layer.norm.gain, layer.norm.bias).flatten(2)
    tokens = torch.einsum("oc,bct->bot", weight, tokens) + bias[:, None]
    q, k, v = tokens.view(2, 3, 3, 4, 6).unbind(1)  # (batch, head, width, token)
    q, k = (norm_of(part.flatten(0, 1)).view(part.shape) for part in (q, k))
    share = torch.softmax(torch.einsum("bhdq,bhdk->bhqk", q, k) / 2, dim=-1)
    out = torch.einsum("bhqk,bhdk->bhdq", share, v).reshape(2, 12, 6)
    out = torch.einsum("oc,bct->bot", layer.out.weight[:, :, 0, 0], out) + layer.out.bias[:, None]
    torch.testing.assert_close(layer(x), x + out.view(x.shape), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2])
def test_images_stay_channels_last_through_every_block(rows):
    """Otherwise each convolution would turn its input round first."""
    x = torch.randn(2, 8, 4, 6).contiguous(memory_format=torch.channels_last)
    for block in (
        ResidualBlock(2, 8, 12, 4),
        ResidualBlock(2, 8, 12, 4, resample="down"),
        ResidualBlock(2, 8, 12, 4, resample="up"),
    ):
        out = block(x, *block.modulation(torch.randn(rows, 4), torch.float32))
        assert out.is_contiguous(memory_format=torch.channels_last)
    assert Attention(2, 8)(x).is_contiguous(memory_format=torch.channels_last)
