"""Rows of parquet files by index: encoded pictures, or lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError
from .encoded import Store
from .layout import channels_first
from .order import Blocks
from .rows import Rows
from .tables import Tables


class Cells(Store):
    """The encoded pictures of a column."""

    def __init__(self, tables: Tables, column: str) -> None:
        self.tables, self.column = tables, column
        self.blocks = _blocks(tables, column)

    def __len__(self) -> int:
        return len(self.tables)

    def get(self, indices: Sequence[int]) -> list[Path | bytes]:
        rows = np.asarray(indices, dtype=np.int64)
        groups = self.tables.group_of(rows)
        found: list[Any] = [None] * len(rows)
        for group in np.unique(groups).tolist():
            array = self.tables.group(group, self.column)
            start = int(self.tables.starts[group])
            for at in np.nonzero(groups == group)[0].tolist():
                found[at] = self._bytes(array[int(rows[at]) - start].as_py(), int(rows[at]))
        return found

    def _bytes(self, cell: Any, row: int) -> bytes:
        path = cell.get("path") if isinstance(cell, dict) else None
        cell = cell.get("bytes") if isinstance(cell, dict) else cell
        if cell is None:
            only = f" but the path {path!r}, which is never followed" if path else ""
            raise DataError(
                f"{self.tables.place(row)}: {self.column} holds no picture{only}; write the "
                "pictures into the file"
            )
        return cell

    def place(self, index: int) -> str:
        return f"{self.tables.place(index)}: {self.column}"

    def key(self) -> str:
        return f"{self.tables.key()} {self.column}"


class Lists(Rows):
    """The numbers of a column of lists, in `layout`."""

    def __init__(self, tables: Tables, column: str, layout: str, like: np.ndarray) -> None:
        self.tables, self.column, self.layout, self.one = tables, column, layout, like.shape[1:]
        self.shape = channels_first(like, layout).shape[1:]
        self.dtype = torch.uint8 if like.dtype == np.uint8 else torch.float32
        self.blocks = _blocks(tables, column)

    def __len__(self) -> int:
        return len(self.tables)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        rows = indices.numpy()
        groups = self.tables.group_of(rows)
        kind = np.uint8 if self.dtype == torch.uint8 else np.float32
        values = np.empty((len(rows), *self.one), kind)
        for group in np.unique(groups).tolist():
            at = np.nonzero(groups == group)[0]
            inside = rows[at] - self.tables.starts[group]
            try:
                found = self.tables.numbers(group, self.column, inside)
            except DataError:
                for row in inside.tolist():  # name the row
                    self._one(group, row)
                raise
            if found.shape[1:] != self.one:
                for row in inside.tolist():
                    self._one(group, row)
            with np.errstate(over="ignore"):
                values[at] = found
        return torch.from_numpy(np.array(channels_first(values, self.layout), order="C"))

    def _one(self, group: int, row: int) -> None:
        """Raise DataError naming a row unless it has the shape and type of the first."""
        place = self.place(row + int(self.tables.starts[group]))
        try:
            shape = self.tables.numbers(group, self.column, slice(row, row + 1)).shape[1:]
        except DataError as error:
            raise DataError(f"{place} holds {error}; all must be of one shape") from None
        if shape != self.one:
            raise DataError(
                f"{place} has shape {shape}, and the first {self.one}; all must be alike"
            )

    def place(self, index: int) -> str:
        return f"{self.tables.place(index)}: {self.column}"

    def key(self) -> str:
        return f"{self.tables.key()} {self.column} {self.layout}"


def _blocks(tables: Tables, column: str) -> Blocks:
    of = tables.group_of(np.arange(len(tables))).astype(np.int32)
    return Blocks(torch.from_numpy(of), tables.sizes(column))
