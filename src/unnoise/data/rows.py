"""Values that stay in their files and are read on access."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from .order import Blocks


class Rows(ABC):
    """n raw events of one shape, by index; can be pickled, so that workers can read.

    shape: of one event, channels first. dtype: uint8 or float32. blocks: the rows stored together,
    None if all rows are equally near.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    blocks: Blocks | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        """Return (m, *shape) of dtype; raises DataError naming the place of an unreadable row."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Return the place of a row, for messages: the file, and the row or member in it."""

    def key(self) -> str | None:
        """Return a key that changes with the files and their decoding; None: measure every time."""
        return None

    @property
    def nbytes(self) -> int:
        """The bytes of all values once read."""
        return len(self) * math.prod(self.shape) * self.dtype.itemsize

    def parts(self, size: int = 2**22) -> Iterator[Tensor]:
        """Yield indices 0…n−1 in pieces whose values take at most about `size` bytes."""
        each = max(1, self.nbytes // max(1, len(self)))
        yield from torch.arange(len(self)).split(max(1, min(256, size // each)))

    def whole(self) -> Tensor:
        """Return all values, with a progress bar."""
        values = torch.empty((len(self), *self.shape), dtype=self.dtype)
        with progress(len(self), "reading") as bar:
            for part in self.parts():
                values[part[0] : part[-1] + 1] = self.read(part)
                bar.update(len(part))
        return values


class Subset(Rows):
    """Some of the rows of another source, in the given order."""

    def __init__(self, rows: Rows, indices: Int64[Tensor, " m"]) -> None:
        self.rows: Rows = rows
        self.indices = indices
        if isinstance(rows, Subset):
            self.rows, self.indices = rows.rows, rows.indices[indices]
        self.shape, self.dtype = rows.shape, rows.dtype
        self.blocks = None if rows.blocks is None else rows.blocks.chosen(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        return self.rows.read(self.indices[indices])

    def place(self, index: int) -> str:
        return self.rows.place(int(self.indices[index]))


class Cached(Rows):
    """Rows that are all read into memory on the first access."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.held: Tensor | None = None
        self.shape, self.dtype, self.blocks = rows.shape, rows.dtype, rows.blocks

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        if self.held is None:
            self.held = self.rows.whole()
        return self.held[indices]

    def place(self, index: int) -> str:
        return self.rows.place(index)


def progress(total: int, what: str) -> Any:
    """Return a bar that appears after a second on a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="", disable=None, leave=False, delay=1)
