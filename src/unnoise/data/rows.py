"""Values that stay in their files and are read when they are asked for."""

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

    shape: of one event, channels first. dtype: uint8 or float32. blocks: which rows lie together
    in storage, None where each is as near as any other.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    blocks: Blocks | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        """(m, *shape) of dtype; raises DataError naming the place of what cannot be read."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Where a row stands, for messages: the file, and the row or member in it."""

    def key(self) -> str | None:
        """What changes with the files and with how they are read; None: measured every time."""
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of all values once read."""
        return len(self) * math.prod(self.shape) * self.dtype.itemsize

    def parts(self, size: int = 2**22) -> Iterator[Tensor]:
        """Indices 0…n−1 in pieces whose values take at most about `size` bytes."""
        each = max(1, self.nbytes // max(1, len(self)))
        yield from torch.arange(len(self)).split(max(1, min(256, size // each)))

    def whole(self) -> Tensor:
        """All values, with a progress bar."""
        values = torch.empty((len(self), *self.shape), dtype=self.dtype)
        with progress(len(self), "reading") as bar:
            for part in self.parts():
                values[part[0] : part[-1] + 1] = self.read(part)
                bar.update(len(part))
        return values


class Chosen(Rows):
    """Some of the rows of another, in the order given."""

    def __init__(self, rows: Rows, indices: Int64[Tensor, " m"]) -> None:
        self.rows: Rows = rows
        self.indices = indices
        if isinstance(rows, Chosen):
            self.rows, self.indices = rows.rows, rows.indices[indices]
        self.shape, self.dtype = rows.shape, rows.dtype
        self.blocks = None if rows.blocks is None else rows.blocks.chosen(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        return self.rows.read(self.indices[indices])

    def place(self, index: int) -> str:
        return self.rows.place(int(self.indices[index]))


class Kept(Rows):
    """Rows that are read once, all of them, when the first is asked for, and held from then on."""

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
    """A bar that appears after a second on a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="", disable=None, leave=False, delay=1)
