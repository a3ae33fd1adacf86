"""Halving, doubling and patches, in one, two or three dimensions and at any size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def halve(x: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels *half"]:
    """Return the mean of each cell of 2 along every dimension; an odd last cell is unchanged."""
    pool = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)
    cell = tuple(min(n, 2) for n in x.shape[2:])
    if x.ndim == 5 and x.device.type == "cpu" and x.dtype == torch.bfloat16:
        return halve(x.float()).to(x.dtype)  # the processor has no kernel for this dtype
    return pool[x.ndim - 3](x, cell, ceil_mode=True, count_include_pad=False)


def double(
    x: Float[Tensor, "batch channels *half"], size: tuple[int, ...]
) -> Float[Tensor, "batch channels *size"]:
    """Repeat every element twice along every dimension, then crop to `size`."""
    x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return crop(x, size)


def to_patches(
    x: Float[Tensor, "batch channels *size"], patch: int
) -> Float[Tensor, "batch more *fewer"]:
    """Move cells of `patch` along every dimension into the channels.

    A size that `patch` does not divide is first filled up by repeating its last element.
    """
    if patch == 1:
        return x
    size = x.shape[2:]
    counts = [-(-n // patch) for n in size]
    for axis, (n, count) in enumerate(zip(size, counts, strict=True), start=2):
        if count * patch != n:
            index = torch.arange(count * patch, device=x.device).clamp(max=n - 1)
            x = x.index_select(axis, index)
    dimensions = len(size)
    cells = [part for count in counts for part in (count, patch)]
    x = x.reshape(*x.shape[:2], *cells)
    inner = range(3, 3 + 2 * dimensions, 2)
    outer = range(2, 2 + 2 * dimensions, 2)
    return x.permute(0, 1, *inner, *outer).flatten(1, 1 + dimensions)


def from_patches(
    x: Float[Tensor, "batch more *fewer"], patch: int, size: tuple[int, ...]
) -> Float[Tensor, "batch channels *size"]:
    """Undo `to_patches`: move the channels back into cells of `patch` and crop to `size`."""
    if patch == 1:
        return x
    counts, dimensions = x.shape[2:], len(size)
    x = x.reshape(x.shape[0], -1, *[patch] * dimensions, *counts)
    order = [axis for k in range(dimensions) for axis in (2 + dimensions + k, 2 + k)]
    x = x.permute(0, 1, *order)
    x = x.reshape(*x.shape[:2], *(count * patch for count in counts))
    return crop(x, size)


def crop(
    x: Float[Tensor, "batch channels *larger"], size: tuple[int, ...]
) -> Float[Tensor, "batch channels *size"]:
    """Return the first `size` elements along every dimension."""
    for axis, n in enumerate(size, start=2):
        if x.shape[axis] != n:
            x = x.narrow(axis, 0, n)
    return x
