"""The parts of the U-Net: normalisation, residual block, attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as ConvNd

from .network import zero_
from .resampling import double, halve

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
WRITTEN_OUT_TOKENS = 256  # on a CPU, below this softmax(QKᵀ)V beats the fused kernel up to 5 ×


def to_rows(x: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch *size channels"]:
    """Return x with its channels last: contiguous if the memory is channels-last."""
    return x.permute(0, *range(2, x.ndim), 1)


def from_rows(x: Float[Tensor, "batch *size channels"]) -> Float[Tensor, "batch channels *size"]:
    """Return x with its channels second: the inverse of `to_rows`."""
    return x.permute(0, -1, *range(1, x.ndim - 1))


class ChannelNorm(nn.Module):
    """Normalisation of the channels at every position, with a gain and a bias per channel.

    Positions are independent: no size, border or neighbour changes the result, and in channels-last
    memory it is one pass over contiguous rows.
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.gain = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(
        self, x: Float[Tensor, "batch channels *size"]
    ) -> Float[Tensor, "batch channels *size"]:
        return from_rows(self.rows(to_rows(x)))

    def rows(self, rows: Float[Tensor, "batch *size channels"]) -> Tensor:
        """Normalise data whose channels come last."""
        gain = None if self.gain is None else self.gain.to(rows.dtype)
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        return nn.functional.layer_norm(rows, (self.channels,), gain, bias)

    def modulated(self, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        """Return gain·norm(x) + shift, both (rows, channels, 1, …).

        One pass if all share one row.
        """
        if len(gain) > 1 or self.gain is not None:
            return torch.addcmul(shift, self(x), gain)
        rows = to_rows(x)
        gain, shift = gain.flatten(), shift.flatten()
        return from_rows(nn.functional.layer_norm(rows, (self.channels,), gain, shift))


class GroupNorm(nn.Module):
    """Normalisation of groups of channels over all positions (Wu & He 2018)."""

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

    def rows(self, rows: Float[Tensor, "batch *size channels"]) -> Tensor:
        """Normalise data whose channels come last."""
        return to_rows(self(from_rows(rows)))

    def modulated(self, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        """Return gain·norm(x) + shift, both (rows, channels, 1, …)."""
        return torch.addcmul(shift, self(x), gain)


NORMS = {"channel": ChannelNorm, "group": GroupNorm}


class ResidualBlock(nn.Module):
    """x + conv(SiLU(gain·norm(conv(SiLU(norm(x)))) + shift)), optionally halving or doubling.

    gain and shift come from the embedding through `modulation` (Dhariwal & Nichol 2021, adaptive
    group norm); the second convolution starts at zero. Halving comes before the first convolution
    and doubling after it, so that both run at the smaller size; operations on single positions come
    before the doubling.
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

    def modulation(
        self, embedding: Float[Tensor, "rows width"], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the embedding's (gain, shift), each (rows, channels_out, 1, …)."""
        modulation = self.steer(embedding.to(self.steer.weight.dtype)).to(dtype)
        scale, shift = modulation[(...,) + (None,) * (self.first.weight.ndim - 2)].chunk(2, dim=1)
        return 1 + scale, shift

    def forward(
        self,
        x: Float[Tensor, "batch channels *size"],
        gain: Float[Tensor, "rows channels_out *ones"],
        shift: Float[Tensor, "rows channels_out *ones"],
        size: tuple[int, ...] | None = None,
    ) -> Float[Tensor, "batch channels_out *size_out"]:
        h = nn.functional.silu(self.before(x))
        if self.resample == "down":
            h, x = halve(h), halve(x)
        h, x = self.first(h), self.shortcut(x)
        gain, shift = gain.to(h.dtype), shift.to(h.dtype)
        if self.resample != "up":
            return x + self.second(nn.functional.silu(self.between.modulated(h, gain, shift)))
        size = size or tuple(2 * n for n in h.shape[2:])
        if isinstance(self.between, ChannelNorm):
            h = double(nn.functional.silu(self.between.modulated(h, gain, shift)), size)
        else:
            h = nn.functional.silu(self.between.modulated(double(h, size), gain, shift))
        return double(x, size) + self.second(h)


class Attention(nn.Module):
    """x + W·softmax(QKᵀ/√d)V over all positions, heads of at least `head` channels.

    Queries and keys are normalised per head, so that logits stay bounded in bfloat16; W starts at
    zero. If a channel count holds no whole number of heads, heads become wider.
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
        rows = to_rows(x)
        tokens = pointwise(self.project, self.norm.rows(rows).flatten(1, -2))
        tokens = tokens.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = nn.functional.layer_norm(tokens[:2], tokens.shape[-1:]).unbind(0)
        out = attend(q, k, tokens[2]).transpose(1, 2).flatten(2)
        return from_rows(rows + pointwise(self.out, out).view(rows.shape))


def pointwise(
    layer: ConvNd, rows: Float[Tensor, "batch tokens channels"]
) -> Float[Tensor, "batch tokens channels_out"]:
    """Return a convolution of one cell as a matrix product, channels last."""
    return nn.functional.linear(rows, layer.weight.flatten(1), layer.bias)


def attend(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch heads tokens width"],
    v: Float[Tensor, "batch heads tokens width"],
) -> Float[Tensor, "batch heads tokens width"]:
    """Return softmax(QKᵀ/√d)V, written out if the fused kernel is slower (few tokens on a CPU)."""
    if q.device.type == "cpu" and q.shape[2] <= WRITTEN_OUT_TOKENS:
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
    return nn.functional.scaled_dot_product_attention(q, k, v)
