"""The range of raw values: declared or measured, and the scale that follows from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import DataError, InvalidArgument
from .measure import Pair, scale
from .rows import Rows
from .spec import Range


def pair(value_range: Range) -> tuple[float, float]:
    """Return a declared range as two finite numbers; raises InvalidArgument otherwise."""
    try:
        low, high = (float(edge) for edge in value_range)
        sound = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InvalidArgument(
            f"value_range is {value_range!r}; give two finite numbers, the lower one first"
        )
    return low, high


def scale_of(values: Tensor, normalisation: str, value_range: tuple[float, float]) -> Pair:
    return ends(value_range) if normalisation == "range" else scale(values)


def ends(value_range: tuple[float, float]) -> Pair:
    low, high = value_range
    return ((low + high) / 2,), ((high - low) / 2,)


def inside(
    values: Tensor | Rows, value_range: tuple[float, float], low: float, high: float
) -> None:
    least, most = torch.tensor(value_range, dtype=torch.float32).tolist()
    if least <= low and high <= most:
        return
    if isinstance(values, Rows):
        raise DataError(
            f"values reach from {low:g} to {high:g}, outside the declared value_range "
            f"{tuple(value_range)}; declare that range or clip"
        )
    wrong = ((values < least) | (values > most)).flatten()
    at = tuple(int(i) for i in torch.unravel_index(wrong.int().argmax(), values.shape))
    raise DataError(
        f"value {float(values[at]):g} at {list(at)} lies outside the declared value_range "
        f"{tuple(value_range)}; values reach from {low:g} to {high:g}, declare that range or clip"
    )
