"""The positions of tokens: rotations of queries and keys, sines and cosines, a learned table."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InvalidArgument

POSITIONS = ("rotary", "sincos", "learned", "none")
ROTARY_SPAN = 100.0  # cells in which the slowest pair turns by about one radian
SINCOS_SPAN = 10_000.0
Turn = tuple[Tensor, Tensor]


def axes_of(cells: tuple[int, ...]) -> Float[Tensor, "axes tokens"]:
    """Return the coordinate of every token along every axis, in cells, the last axis fastest."""
    grid = [torch.arange(n, dtype=torch.float64, device="cpu") for n in cells]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*grid, indexing="ij")])


@lru_cache(maxsize=64)
def rotation(
    cells: tuple[int, ...], head: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "tokens 1 1 head"], Float[Tensor, "tokens 1 1 head"]]:
    """Return cos and ±sin of the angles by which `rotate` turns each token's channels.

    Channels j and j + head/2 are a pair; the pairs are shared out evenly among the axes, and pair
    k of an axis' n turns by position·100^(−k/n) radians. Remaining pairs do not turn. Computed in
    float64.

    Source: Su et al. 2021 (RoFormer), along every axis as Heo et al. 2024, sec. 3.2.
    """
    with torch.inference_mode(False), torch.no_grad():
        pairs, share = head // 2, head // 2 // len(cells)
        speeds = ROTARY_SPAN ** -(torch.arange(share, dtype=torch.float64, device="cpu") / share)
        angles = (axes_of(cells)[:, :, None] * speeds).transpose(0, 1).flatten(1)
        angles = nn.functional.pad(angles, (0, pairs - angles.shape[1]))
        cos, sin = angles.cos(), angles.sin()
        both = torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)
        first, second = (part[:, None, None].to(device, dtype) for part in both)
        return first, second


def rotate(
    x: Float[Tensor, "batch tokens kinds heads head"],
    turn: Turn,
) -> Float[Tensor, "batch tokens kinds heads head"]:
    """Turn every pair of channels by its token's angle: (a, b) -> (a·cos − b·sin, a·sin + b·cos).

    The product of two rotated vectors depends on the difference of their positions alone.
    """
    cos, sin = turn
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


@lru_cache(maxsize=64)
def sincos(
    cells: tuple[int, ...], width: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "tokens width"]:
    """Return sines and cosines of the position along every axis: sin(ω_k·n), cos(ω_k·n).

    width/axes channels an axis, the last axis first, ω_k = 10000^(−k/K); remaining channels are 0.

    Source: Vaswani et al. 2017, sec. 3.5; in this order Peebles & Xie 2023.
    """
    with torch.inference_mode(False), torch.no_grad():
        share = width // 2 // len(cells)
        speeds = SINCOS_SPAN ** -(torch.arange(share, dtype=torch.float64, device="cpu") / share)
        angles = axes_of(cells).flip(0)[:, :, None] * speeds
        table = torch.cat([angles.sin(), angles.cos()], dim=-1).transpose(0, 1).flatten(1)
        return nn.functional.pad(table, (0, width - table.shape[1])).to(device, dtype)


class LearnedPositions(nn.Module):
    """A learned vector for every cell of one size."""

    def __init__(self, size: tuple[int, ...], patch: int, width: int) -> None:
        super().__init__()
        self.size, self.cells = size, tuple(-(-n // patch) for n in size)
        self.embed = nn.Embedding(torch.Size(self.cells).numel(), width)
        with torch.no_grad():
            self.embed.weight.mul_(0.02)  # from standard normal numbers

    def forward(
        self, h: Float[Tensor, "batch tokens width"], cells: tuple[int, ...]
    ) -> Float[Tensor, "batch tokens width"]:
        """Return h with the table added; raises InvalidArgument for another number of cells."""
        if cells != self.cells:
            raise InvalidArgument(
                f"the data make {' × '.join(map(str, cells))} cells and the learned positions are "
                f"for data of size {' × '.join(map(str, self.size))}; resize the data, or train "
                "with positions='rotary', which takes any size"
            )
        return h + self.embed.weight.to(h.dtype)
