"""The parts of the U-Net: normalisation, residual block, attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .network import zero_
from .resampling import double, halve

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
WRITTEN_OUT_TOKENS = 256  # on a CPU, below this softmax(QKᵀ)V beats the fused kernel up to 5 ×


class ChannelNorm(nn.Module):
    """Normalise the channels at every position, with a gain and a bias per channel.

    Positions do not meet here: no size, border or neighbour changes what is normalised, and in
    channels-last memory it is one pass over contiguous rows.
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.gain = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(
        self, x: Float[Tensor, "batch channels *size"]
    ) -> Float[Tensor, "batch channels *size"]:
        gain = None if self.gain is None else self.gain.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        rows = x.movedim(1, -1)
        return nn.functional.layer_norm(rows, (self.channels,), gain, bias).movedim(-1, 1)


class GroupNorm(nn.Module):
    """Normalise groups of channels over all positions (Wu & He 2018)."""

    def __init__(self, channels: int, affine: bool = True, group: int = 16) -> None:
        super().__init__()
        self.groups = math.gcd(channels, max(channels // group, 1))
        self.gain = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(
        self, x: Float[Tensor, "batch channels *size"]
    ) -> Float[Tensor, "batch channels *size"]:
        gain = None if self.gain is None else self.gain.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return nn.functional.group_norm(x, self.groups, gain, bias)


NORMS = {"channel": ChannelNorm, "group": GroupNorm}


class ResidualBlock(nn.Module):
    """x + conv(SiLU(scale·norm(conv(SiLU(norm(x)))) + shift)), optionally halving or doubling.

    scale and shift come from the embedding (Dhariwal & Nichol 2021, adaptive group norm); the
    second convolution starts at zero. Halving comes before the first convolution and doubling
    after it, so that both run at the smaller size.
    """

    def __init__(
        self,
        dimensions: int,
        channels: int,
        channels_out: int,
        embedding: int,
        norm: str = "channel",
        resample: str | None = None,
    ) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dimensions]
        self.resample = resample
        self.before = NORMS[norm](channels)
        self.first = conv(channels, channels_out, 3, padding=1)
        self.between = NORMS[norm](channels_out, affine=False)
        self.steer = nn.Linear(embedding, 2 * channels_out)
        self.second = zero_(conv(channels_out, channels_out, 3, padding=1))
        same = channels == channels_out
        self.shortcut = nn.Identity() if same else conv(channels, channels_out, 1, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch channels *size"],
        embedding: Float[Tensor, "batch width"],
        size: tuple[int, ...] | None = None,
    ) -> Float[Tensor, "batch channels_out *size_out"]:
        h = nn.functional.silu(self.before(x))
        if self.resample == "down":
            h, x = halve(h), halve(x)
        h, x = self.first(h), self.shortcut(x)
        if self.resample == "up":
            size = size or tuple(2 * n for n in h.shape[2:])
            h, x = double(h, size), double(x, size)
        steer = self.steer(embedding.to(self.steer.weight.dtype)).to(h.dtype)
        scale, shift = steer.reshape(len(h), -1, *[1] * (h.ndim - 2)).chunk(2, dim=1)
        h = torch.addcmul(shift, self.between(h), 1 + scale)
        return x + self.second(nn.functional.silu(h))


class Attention(nn.Module):
    """x + W·softmax(QKᵀ/√d)V over all positions, heads of at least `head` channels.

    Queries and keys are normalised per head, so that logits stay bounded in bfloat16; W starts at
    zero. Where a channel count holds no whole number of heads, heads become wider.
    """

    def __init__(self, dimensions: int, channels: int, norm: str = "channel", head: int = 64):
        super().__init__()
        conv = CONVOLUTIONS[dimensions]
        self.heads = max(n for n in range(1, max(channels // head, 1) + 1) if channels % n == 0)
        self.norm = NORMS[norm](channels)
        self.project = conv(channels, 3 * channels, 1)
        self.out = zero_(conv(channels, channels, 1))

    def forward(
        self, x: Float[Tensor, "batch channels *size"]
    ) -> Float[Tensor, "batch channels *size"]:
        batch, channels, *size = x.shape
        tokens = self.project(self.norm(x)).flatten(2)
        tokens = tokens.unflatten(1, (3, self.heads, channels // self.heads))
        q, k, v = tokens.permute(1, 0, 2, 4, 3).unbind(0)
        q = nn.functional.layer_norm(q, q.shape[-1:])
        k = nn.functional.layer_norm(k, k.shape[-1:])
        out = attend(q, k, v).transpose(2, 3).reshape(batch, channels, *size)
        return x + self.out(out)


def attend(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch heads tokens width"],
    v: Float[Tensor, "batch heads tokens width"],
) -> Float[Tensor, "batch heads tokens width"]:
    """softmax(QKᵀ/√d)V, written out where the fused kernel is slower (few tokens on a CPU)."""
    if q.device.type == "cpu" and q.shape[2] <= WRITTEN_OUT_TOKENS:
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
    return nn.functional.scaled_dot_product_attention(q, k, v)
