"""The order of training data as a pure function of how many samples have been seen."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import need_count
from ..randomness import Streams


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int, purpose: str = "data order") -> Int64[Tensor, " n"]:
    """A uniform permutation of 0…n−1, fixed by (seed, epoch, purpose). Do not write into it."""
    need_count("n", n)
    keys = Streams(seed, [epoch], purpose).integers(2**63 - 1, n)[0]
    return torch.argsort(keys, stable=True)


def order(seed: int, n: int, counter: int, size: int) -> Int64[Tensor, " size"]:
    """Which samples stand at positions counter … counter + size − 1 of the training stream.

    Position p is place p mod n of the permutation of epoch p // n, so every epoch visits each
    sample once, a batch may reach over the end of an epoch (or be larger than the data set), and
    resuming needs the counter alone. Of k ranks, rank r takes the positions that start at
    counter + r·size and advances by k·size.

    seed: of the run. n: samples in the data set. counter: samples seen so far. size: how many
    are wanted. Raises InvalidArgument for n or size below 1 or a negative counter.
    """
    need_count("n", n)
    need_count("counter", counter, 0)
    need_count("size", size)
    pieces = []
    while size > 0:
        epoch, place = divmod(counter, n)
        piece = permutation(seed, epoch, n)[place : place + size]
        pieces.append(piece)
        counter, size = counter + len(piece), size - len(piece)
    return torch.cat(pieces)
