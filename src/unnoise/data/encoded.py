"""Stores of encoded pictures, by index, and the rows of their decoded values."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError
from .faults import Faults
from .order import Blocks
from .pictures import MODES, Header, read_picture, read_picture_header
from .rows import Rows, progress


class Store(ABC):
    """n encoded samples by index: files, members of tar files, cells of a column."""

    blocks: Blocks | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def get(self, indices: Sequence[int]) -> list[Path | bytes]:
        """Return each sample's file, or its bytes; raises DataError naming its place."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Return the place of a sample, for messages."""

    def key(self) -> str | None:
        """Return a key that changes with the files; None if that cannot be determined."""
        return None


class Files(Store):
    """Picture files of a folder."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    def get(self, indices: Sequence[int]) -> list[Path | bytes]:
        return [self.folder / self.names[i] for i in indices]

    def place(self, index: int) -> str:
        return str(self.folder / self.names[index])

    def key(self) -> str:
        return files_key([self.folder / name for name in self.names])


def files_key(files: Sequence[Path]) -> str:
    """Return the SHA-256 of names, sizes and times of files.

    It changes if one of them is written again.
    """
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Pictures(Rows):
    """Encoded pictures, decoded by `read_picture` on access.

    mode: L or RGB. size: (height, width) of all. chosen: the store's samples that are used.
    """

    dtype = torch.uint8

    def __init__(
        self, store: Store, mode: str, size: tuple[int, int], chosen: Tensor | None = None
    ) -> None:
        self.store, self.mode, self.size = store, mode, size
        self.shape = (MODES[mode], *size)
        self.chosen = torch.arange(len(store)) if chosen is None else chosen
        self.blocks = None if store.blocks is None else store.blocks.chosen(self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        rows = self.chosen[indices].tolist()
        values = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        for at, (row, source) in enumerate(zip(rows, self.store.get(rows), strict=True)):
            array = read_picture(source, self.mode, self.size, self.store.place(row))
            if array.shape != self.shape:
                raise DataError(
                    f"{self.store.place(row)} is {array.shape[1]} × {array.shape[2]} and the "
                    f"others {self.size[0]} × {self.size[1]}; pass size="
                )
            values[at] = torch.from_numpy(array.copy())
        return values

    def place(self, index: int) -> str:
        return self.store.place(int(self.chosen[index]))

    def key(self) -> str | None:
        key = self.store.key()
        if key is None:
            return None
        whole = len(self.chosen) == len(self.store)
        chosen = "" if whole else hashlib.sha256(self.chosen.numpy().tobytes()).hexdigest()
        return f"{key} {self.mode} {self.size} {chosen}"


def read_headers(store: Store, faults: Faults) -> tuple[list[int], list[Header]]:
    """Return the samples whose header is sound, and their headers."""
    good, headers = [], []
    with progress(len(store), "looking at pictures") as bar:
        for piece in torch.arange(len(store)).split(64):
            rows = piece.tolist()
            try:
                sources: list[Path | bytes | None] = [*store.get(rows)]
            except DataError:
                if faults.strict:
                    raise
                sources = [None] * len(rows)  # one by one, to name the faulty one
            for row, source in zip(rows, sources, strict=True):
                try:
                    source = store.get([row])[0] if source is None else source
                    headers.append(read_picture_header(source, store.place(row)))
                    good.append(row)
                except DataError as error:
                    faults.add("corrupt", error)
            bar.update(len(rows))
    return good, headers
