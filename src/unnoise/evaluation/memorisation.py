"""Two tests for copies of training data among samples, by nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ..errors import DataError, InvalidArgument
from .intervals import Interval, Resampler, centred
from .pixels import flatten

_ROWS = 2048


def memorisation(
    samples: Float[np.ndarray, "m d"],
    train: Float[np.ndarray, "n d"],
    held_out: Float[np.ndarray, "h d"],
    subsets: Sequence[Int[np.ndarray, " _"]],
    strata: Shaped[np.ndarray, " m"] | None = None,
    *,
    replicates: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the share of samples nearer to a training pool than to a held-out pool.

    0.5 is no memorisation. Distances are L2 between raw values; `subsets` are index sets of
    `train`, each as large as `held_out`, and the share is averaged over them (ties count half).
    The interval resamples the samples (within strata) and both pools. With pools smaller than the
    training set a copy is only found if its original is in the pool: a full copy of n values
    shows as ½ + h/2n, so read it beside `copies`. Raises DataError for pools of unequal sizes.
    """
    if not len(subsets) or any(len(s) != len(held_out) for s in subsets):
        raise DataError(
            f"training pools of {[len(s) for s in subsets]} against {len(held_out)} held-out "
            "values; pools must be of one size"
        )
    if replicates < 20:
        raise InvalidArgument(f"replicates is {replicates}; give 20 or more")
    used, where = np.unique(np.concatenate(list(subsets)), return_inverse=True)
    pools = list(where.reshape(len(subsets), -1))
    to_train = squared_distances(train[used], samples)
    to_held = squared_distances(held_out, samples)

    def nearer(held: np.ndarray, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """Return how often a sample's nearest value is a training one, averaged over pools."""
        least = to_held[held].min(0)
        share = np.zeros(len(samples))
        for pool in chosen:
            mine = to_train[pool].min(0)
            share += (mine < least) + 0.5 * (mine == least)
        return share / len(chosen)

    value = nearer(np.arange(len(held_out)), pools).mean()
    rows, pool = Resampler(len(samples), strata), Resampler(len(held_out))
    generator = np.random.default_rng(seed)
    drawn = np.empty(replicates)
    for i in range(replicates):
        shares = nearer(pool(generator), [p[pool(generator)] for p in pools])
        drawn[i] = shares[rows(generator)].mean()
    return centred(drawn, float(value), level=level, floor=0.0, ceiling=1.0)


def copies(
    samples: Float[np.ndarray, "m d"], train: Tensor | np.ndarray, ratio: float = 1 / 3
) -> Bool[np.ndarray, " m"]:
    """Return which samples are near copies: d₁ < `ratio`·d₂, or d₁ = 0, in the training set.

    train: (n, *event) raw values of any dtype. d₁ and d₂ are the L2 distances to the nearest and
    second nearest training value. An original that is in the training set twice is missed unless
    copied exactly. Source: Yoon et al. 2023, "Diffusion probabilistic models generalize when they
    fail to memorize".
    """
    if len(train) < 2:
        raise DataError(f"{len(train)} training values; copies need two or more to compare with")
    out = np.zeros(len(samples), bool)
    for start in range(0, len(samples), 1024):
        some = samples[start : start + 1024]
        near = np.full((len(some), 2), np.inf, np.float32)
        for at in range(0, len(train), _ROWS):  # a large training set is never held as floats whole
            found = squared_distances(some, flatten(train[at : at + _ROWS]))
            near = np.partition(np.concatenate([near, found], 1), 1, axis=1)[:, :2]
        copied = (near[:, 0] < ratio**2 * near[:, 1]) | (near[:, 0] == 0)
        out[start : start + 1024] = copied
    return out


def squared_distances(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Return |a_i − b_j|² as float32, computed in float64; exact for whole numbers below 2²⁶."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return squares.clip(min=0.0).astype(np.float32)
