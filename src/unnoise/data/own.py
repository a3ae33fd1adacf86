"""Data made in a program of the caller's: a tensor, or a data set of torch."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from ..errors import DataError
from .arrays import from_arrays
from .dataset import MAX_BYTES, Dataset


def own_data(data: Any, normalisation: str = "standardise") -> Dataset:
    """Return a data set in memory of a tensor (n, *event), of a pair of such a tensor and labels
    (n,), or of torch's map-style data set, whose items are an event, or an event and a label.

    A data set of ours is returned as it is. Raises DataError for anything else, items of unlike
    shapes, more than MAX_BYTES of them, and what `from_arrays` refuses.
    """
    if isinstance(data, Dataset):
        return data
    values, labels = data, None
    if isinstance(data, tuple | list) and len(data) == 2:
        values, labels = data
    elif isinstance(data, torch.utils.data.Dataset):
        values, labels = _read(data)
    if not isinstance(values, Tensor) and not hasattr(values, "__array__"):
        raise DataError(
            f"data are a {type(data).__name__}; give a tensor (n, *event), a pair of it and labels "
            "(n,), or a torch Dataset whose items are an event, or an event and a label"
        )
    return from_arrays(values, labels, name="own", normalisation=normalisation, source="a program")


def _read(data: Any) -> tuple[Tensor, Tensor | None]:
    """Return every item of torch's data set: events, and labels where its items have one."""
    events: list[Tensor] = []
    labels: list[int] = []
    for index in range(len(data)):
        item = data[index]
        event, *label = item if isinstance(item, tuple | list) else (item,)
        event = torch.as_tensor(event)
        if events and (event.shape, len(labels) > 0) != (events[0].shape, len(label) > 0):
            raise DataError(
                f"item {index} is of shape {tuple(event.shape)} with {len(label)} label(s), and "
                f"item 0 of shape {tuple(events[0].shape)} with {int(len(labels) > 0)}; give all "
                "items one shape"
            )
        if not events and len(data) * 4 * math.prod(event.shape) > MAX_BYTES:
            raise DataError(
                f"{len(data)} items of shape {tuple(event.shape)} take more than "
                f"{MAX_BYTES / 2**30:.0f} GiB in memory; save them as a .npy file or as shards, "
                "and train on that by unnoise.open_data"
            )
        events.append(event)
        labels += [int(one) for one in label[:1]]
    if not events:
        raise DataError("the data set has no items; give at least two")
    return torch.stack(events), torch.tensor(labels) if labels else None
