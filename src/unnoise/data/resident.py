"""A data set whose values lie on the device that learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ..fields import Condition
from ..objectives import Batch
from ..randomness import moved
from .dataset import Dataset

SHARE = 0.25  # of a device's free memory that values may take


class Resident:
    """The raw values and columns of a data set in memory, put on a device once: its batches are
    gathered and normalised there, and only the numbers of their rows travel.

    Has the `batch` and `order` of the data set, whose samples are the same.
    """

    def __init__(self, data: Dataset, device: torch.device) -> None:
        self.data, self.device = data, device
        self.values = data.values.to(device)
        self.columns = {
            name: data.spec.conditions[name].prepare(column).to(device)
            for name, column in data.columns.items()
        }
        self.scale = data.spec.scale(device)

    def batch(self, indices: Tensor | Sequence[int]) -> Batch:
        """Return normalised values and conditions of some samples; raise InvalidArgument for an
        index outside 0…n−1."""
        rows = moved(self.data.rows(indices), self.device)
        values = self.data.spec.normalise(self.values[rows], self.scale)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Batch(values, Condition.of(columns, len(rows)))

    def order(self, seed: int, counter: int, size: int) -> Int64[Tensor, " size"]:
        """Which samples stand at positions counter … counter + size − 1 of the training stream."""
        return self.data.order(seed, counter, size)


def resident(data: Any, device: torch.device) -> Resident | None:
    """The data set on a GPU, where it lies in memory and takes at most a quarter of what is free
    there; None elsewhere."""
    if device.type != "cuda" or not isinstance(data, Dataset) or data.streamed:
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return Resident(data, device) if data.nbytes <= SHARE * free else None
