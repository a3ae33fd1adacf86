"""The division of a data set into parts, in proportion to its classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import InvalidArgument, need_count
from .order import permutation


def divide(
    n: int,
    sizes: Mapping[str, int | None],
    seed: int,
    labels: Int64[Tensor, " n"] | None = None,
) -> dict[str, Int64[Tensor, " _"]]:
    """Return disjoint sets of indices of the given sizes, fixed by (seed, n, labels, sizes).

    With labels, every part takes from each class its share of the rest, rounded by largest
    remainder, so parts have exactly the given size and their class counts stay within one of
    proportion. Indices within a part ascend.

    n: samples. sizes: part → number of samples; one may be None and takes the rest. Raises
    InvalidArgument if there are no parts, two rests, or larger parts than data.
    """
    wanted = _sizes(n, sizes)
    pools = [torch.arange(n)] if labels is None else _by_class(labels)
    pools = [pool[permutation(seed, c, len(pool), "data split")] for c, pool in enumerate(pools)]
    ties = permutation(seed, len(pools), len(pools), "data split ties").tolist()
    parts, used = {}, [0] * len(pools)
    for part, size in wanted.items():
        left = [len(pool) - u for pool, u in zip(pools, used, strict=True)]
        take = _share(size, left, ties)
        chosen = [pool[u : u + k] for pool, u, k in zip(pools, used, take, strict=True)]
        parts[part] = torch.cat(chosen).sort().values
        used = [u + k for u, k in zip(used, take, strict=True)]
    return parts


def _sizes(n: int, sizes: Mapping[str, int | None]) -> dict[str, int]:
    rests = [part for part, size in sizes.items() if size is None]
    fixed = sum(need_count(f"size of part {p!r}", s) for p, s in sizes.items() if s is not None)
    if not sizes or len(rests) > 1:
        raise InvalidArgument(
            f"parts are {dict(sizes)!r}; name at least one, and give the rest (None) to one at most"
        )
    if fixed + len(rests) > n:
        raise InvalidArgument(
            f"parts {dict(sizes)!r} ask for {fixed + len(rests)} or more samples of {n}; "
            "make a part smaller"
        )
    return {part: n - fixed if size is None else size for part, size in sizes.items()}


def _by_class(labels: Tensor) -> list[Tensor]:
    return [torch.nonzero(labels == c).flatten() for c in labels.unique(sorted=True).tolist()]


def _share(size: int, left: list[int], ties: list[int]) -> list[int]:
    """Return whole shares of `size` in proportion to `left`, by largest remainder, exactly."""
    total = sum(left)
    take = [size * count // total for count in left]
    remainder = [size * count % total for count in left]
    first = sorted(range(len(left)), key=lambda c: (-remainder[c], ties[c]))
    for c in first[: size - sum(take)]:
        take[c] += 1
    return take
