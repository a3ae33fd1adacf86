"""Members of tar shards by index: encoded pictures, or arrays of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError
from .encoded import Store, files_key
from .layout import channels_first
from .numpy_files import read_npy_bytes
from .order import Blocks
from .rows import Rows
from .tar_index import Handles, Index

BLOCK_BYTES = 2**25  # bytes of members that are stored together


class Members(Store):
    """The value members of tar shards, read at the places of the index."""

    def __init__(self, files: list[Path], index: Index, values: np.ndarray) -> None:
        self.files, self.index, self.values = files, index, values
        self.handles = Handles(files)
        sizes, offsets = index.size[values], index.offset[values]
        lump = np.stack([index.shard[values], offsets // BLOCK_BYTES], 1)
        _, of = np.unique(lump, axis=0, return_inverse=True)
        of = of.reshape(-1)
        held = np.bincount(of, weights=sizes).astype(np.int64)
        self.blocks = Blocks(torch.from_numpy(of.astype(np.int32)), tuple(held.tolist()))

    def __len__(self) -> int:
        return len(self.values)

    def get(self, indices: Sequence[int]) -> list[Path | bytes]:
        return [self.member(int(self.values[i])) for i in indices]

    def member(self, row: int) -> bytes:
        """Return the bytes of a member of the index."""
        size = int(self.index.size[row])
        shard = int(self.index.shard[row])
        content = self.handles.read(shard, int(self.index.offset[row]), size)
        if len(content) != size:
            raise DataError(f"{self.files[shard]} has been cut short since it was scanned")
        return content

    def place(self, index: int) -> str:
        return self.name(int(self.values[index]))

    def name(self, row: int) -> str:
        """Return shard and member name of a member of the index."""
        key = self.index.keys[self.index.sample[row]]
        return f"{self.files[int(self.index.shard[row])]}: {key}.{self.index.ending[row]}"

    def key(self) -> str:
        return f"{files_key(self.files)} {self.index.ending[self.values[0]]}"


class ArrayMembers(Rows):
    """.npy members of one shape."""

    def __init__(self, store: Members, layout: str, like: np.ndarray) -> None:
        self.store, self.layout, self.one, self.stored = store, layout, like.shape, like.dtype
        self.shape = channels_first(like[None], layout).shape[1:]
        self.dtype = torch.uint8 if like.dtype == np.uint8 else torch.float32
        self.blocks = store.blocks

    def __len__(self) -> int:
        return len(self.store)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        rows = indices.tolist()
        found = []
        for row, content in zip(rows, self.store.get(rows), strict=True):
            assert isinstance(content, bytes)
            x = read_npy_bytes(content, self.store.place(row))
            if x.shape != self.one or x.dtype != self.stored:
                raise DataError(
                    f"{self.store.place(row)} is {x.dtype} of shape {x.shape}, and the first "
                    f"{self.stored} of {self.one}; all must be alike"
                )
            found.append(x)
        kind = np.uint8 if self.dtype == torch.uint8 else np.float32
        whole = np.stack(found).astype(kind) if found else np.empty((0, *self.one), kind)
        return torch.from_numpy(np.array(channels_first(whole, self.layout), order="C"))

    def place(self, index: int) -> str:
        return self.store.place(index)

    def key(self) -> str:
        return f"{self.store.key()} {self.layout} {len(self)}"
