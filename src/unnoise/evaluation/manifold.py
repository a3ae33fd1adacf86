"""Precision, recall, density and coverage: supports compared through nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ..errors import InvalidArgument


@dataclass(frozen=True)
class Manifold:
    """The contribution of each point; every metric is the mean of its array.

    precise: a sample lies inside some real point's ball. recalled: a real point lies inside some
    sample's ball. dense: number of real balls that hold a sample, over k. covered: a real point's
    ball holds some sample. alone: for each sample, the share of real points whose balls hold this
    sample and no other, by which coverage falls without the sample. A ball reaches to the k-th
    nearest neighbour in its own set, border included.
    """

    precise: Bool[np.ndarray, " m"]
    recalled: Bool[np.ndarray, " n"]
    dense: Float[np.ndarray, " m"]
    covered: Bool[np.ndarray, " n"]
    alone: Float[np.ndarray, " m"]

    @property
    def precision(self) -> float:
        """The share of samples inside the real points' balls."""
        return float(self.precise.mean())

    @property
    def recall(self) -> float:
        """The share of real points inside the samples' balls."""
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        """The mean number of real balls that hold a sample, over k."""
        return float(self.dense.mean())

    @property
    def coverage(self) -> float:
        """The share of real points whose balls hold a sample."""
        return float(self.covered.mean())


def manifold(
    real: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"], k: int = 5
) -> Manifold:
    """Compare the supports of two sets of features through balls of k neighbours.

    Precision and recall: Kynkäänniemi et al. 2019, eq. 1 and 2. Density and coverage: Naeem et al.
    2020, eq. 2 and 3. Two sets of one distribution give a coverage near 1 − 2⁻ᵏ at equal sizes and
    a density near 1. Raises InvalidArgument unless both sets hold more than k points.
    """
    from scipy.spatial.distance import cdist

    real, samples = np.asarray(real, np.float64), np.asarray(samples, np.float64)
    if not 1 <= k < min(len(real), len(samples)):
        raise InvalidArgument(
            f"k is {k} for {len(real)} real points and {len(samples)} samples; give 1 ≤ k and more "
            "than k points on both sides"
        )
    across = cdist(real, samples)
    real_radius, sample_radius = radii(real, k), radii(samples, k)
    in_real = across <= real_radius[:, None]
    in_samples = across <= sample_radius[None, :]
    return Manifold(
        precise=in_real.any(0),
        recalled=in_samples.any(1),
        dense=in_real.sum(0) / k,
        covered=in_real.any(1),
        alone=in_real[in_real.sum(1) == 1].sum(0) / len(real),
    )


def radii(points: Float[np.ndarray, "n d"], k: int) -> Float[np.ndarray, " n"]:
    """Return the distance of each point to its k-th nearest other point."""
    from scipy.spatial.distance import cdist

    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return np.partition(distances, k - 1, axis=1)[:, k - 1]
