"""Sliced Wasserstein distance of raw values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from ..divergences.wasserstein import unit_vectors
from ..errors import InvalidArgument, need_count
from ..randomness import Streams
from .intervals import Interval, Resampler, bootstrap
from .pixels import flatten
from .sides import Part, subsample

DIRECTIONS = 128
_ROWS = 2000


class Slices:
    """Projections of raw values, each channel in units of its deviation in the training values.

    `directions` unit vectors, uniform on the sphere of all numbers of one value, drawn from the
    streams of `seed`; channels are axis 1 (the numbers themselves for vectors); deviations are
    those of at most 2,000 training values taken at random; a channel that never varies is not
    rescaled.
    """

    def __init__(
        self, train: Tensor | np.ndarray, directions: int = DIRECTIONS, seed: int = 0
    ) -> None:
        values = torch.as_tensor(subsample(Part(train), _ROWS).values)
        axes = [0, *range(2, values.ndim)]
        spread = values.double().std(axes, correction=0)
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        each = values[0, 0].numel()
        unit = spread.repeat_interleave(each).numpy()
        streams = Streams(seed, range(need_count("directions", directions)), "slices")
        self.directions = unit_vectors(streams, values[0].numel()).numpy() / unit

    def __call__(self, values: Tensor | np.ndarray) -> Float32[np.ndarray, "directions n"]:
        """Return the projections of some raw values."""
        return (self.directions @ flatten(values).T).astype(np.float32)


def sliced_wasserstein(
    a: Float32[np.ndarray, "directions n"], b: Float32[np.ndarray, "directions n"]
) -> float:
    """Return √(mean over θ of W₂²(θ·x, θ·y)) of two sets of projections.

    W₂² of n sorted pairs is their mean square. A shift by Δ of data in d dimensions gives ‖Δ‖/√d.
    Biased upwards by O(n^−½) in each direction: read it beside the floor of real data. Raises
    InvalidArgument for sets of unequal size. Source: Rabin et al. 2011; Bonneel et al. 2015, eq. 2.
    """
    if a.shape != b.shape:
        raise InvalidArgument(f"projections of shapes {a.shape} and {b.shape}; they must agree")
    gap = np.sort(a, axis=1) - np.sort(b, axis=1)
    return float(np.sqrt(np.square(gap, dtype=np.float64).mean()))


def sliced_distance(
    real: Float32[np.ndarray, "directions n"],
    samples: Sequence[Float32[np.ndarray, "directions n"]],
    strata: Sequence[Resampler],
    *,
    replicates: int = 100,
    seed: int = 0,
) -> Interval:
    """Return the mean over sets of samples against one set of real data, with its interval.

    strata: the resamplers of the real data, then of each set.
    """
    value = float(np.mean([sliced_wasserstein(real, s) for s in samples]))

    def statistic(first: np.ndarray, *rows: np.ndarray) -> float:
        mine = real[:, first]
        pairs = zip(samples, rows, strict=True)
        return float(np.mean([sliced_wasserstein(mine, s[:, r]) for s, r in pairs]))

    return bootstrap(statistic, strata, value, replicates=replicates, seed=seed, floor=0.0)
