"""A data set in the memory of the device that trains on it."""

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


class OnDevice:
    """The raw values and columns of a data set, copied to a device once: batches are gathered and
    normalised there, and only their indices are transferred.

    `batch` and `order` return the same samples as those of the data set.
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
        """Return the samples at positions counter … counter + size − 1 of the training stream."""
        return self.data.order(seed, counter, size)


def on_device(data: Any, device: torch.device) -> OnDevice | None:
    """Return the data set on a GPU if it is in memory and takes at most a quarter of the GPU's free
    memory, else None."""
    if device.type != "cuda" or not isinstance(data, Dataset) or data.streamed:
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return OnDevice(data, device) if data.nbytes <= SHARE * free else None
