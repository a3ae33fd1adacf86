"""The order of training data as a pure function of the number of samples seen so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from ..errors import need_count
from ..randomness import Streams

WINDOW_BYTES = 2**28  # stored bytes among which samples of shards are mixed


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of samples that are stored together, and the size of each block.

    of: the block of every sample, (n,). sizes: bytes of each block as stored.
    """

    of: Integer[Tensor, " n"]
    sizes: tuple[int, ...]

    def chosen(self, rows: Int64[Tensor, " m"]) -> Blocks:
        """Return the blocks of some of the samples."""
        return Blocks(self.of[rows], self.sizes)


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int, purpose: str = "data order") -> Int64[Tensor, " n"]:
    """Return a uniform permutation of 0…n−1, fixed by (seed, epoch, purpose).

    The result is shared: do not write into it.
    """
    need_count("n", n)
    keys = Streams(seed, [epoch], purpose).integers(2**63 - 1, n)[0]
    return torch.argsort(keys, stable=True)


@lru_cache(maxsize=4)
def block_permutation(seed: int, epoch: int, blocks: Blocks) -> Int64[Tensor, " n"]:
    """Return `permutation` with the samples of a window of blocks brought together.

    The blocks come in an order drawn for the epoch; windows are consecutive ones of at most
    WINDOW_BYTES (or a single larger block). If one window holds all, this is `permutation`.
    """
    mixed = permutation(seed, epoch, len(blocks.of))
    present, inside = torch.unique(blocks.of, return_inverse=True)
    window = torch.empty(len(present), dtype=torch.int64)
    at, held = 0, 0
    for block in permutation(seed, epoch, len(present), "data blocks").tolist():
        size = blocks.sizes[int(present[block])]
        if held and held + size > WINDOW_BYTES:
            at, held = at + 1, 0
        window[block] = at
        held += size
    return mixed[torch.argsort(window[inside[mixed]], stable=True)]


def order(
    seed: int, n: int, counter: int, size: int, blocks: Blocks | None = None
) -> Int64[Tensor, " size"]:
    """Return the samples at positions counter … counter + size − 1 of the training stream.

    Position p is place p mod n of the permutation of epoch p // n, so every epoch visits each
    sample once, a batch may reach over the end of an epoch (or be larger than the data set), and
    resuming needs the counter alone. Of k ranks, rank r takes the positions that start at
    counter + r·size and advances by k·size.

    seed: of the run. n: samples in the data set. counter: samples seen so far. size: number of
    samples returned. blocks: of data in shards, whose permutation is `block_permutation`. Raises
    InvalidArgument for n or size below 1 or a negative counter.
    """
    need_count("n", n)
    need_count("counter", counter, 0)
    need_count("size", size)
    pieces = []
    while size > 0:
        epoch, place = divmod(counter, n)
        if blocks is None:
            whole = permutation(seed, epoch, n)
        else:
            whole = block_permutation(seed, epoch, blocks)
        piece = whole[place : place + size]
        pieces.append(piece)
        counter, size = counter + len(piece), size - len(piece)
    return torch.cat(pieces)
