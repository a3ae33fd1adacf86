"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Num

from ..errors import DataError, InvalidArgument


def gaussian_frechet(
    mean_a: Num[np.ndarray, "..."],
    cov_a: Num[np.ndarray, "..."],
    mean_b: Num[np.ndarray, "..."],
    cov_b: Num[np.ndarray, "..."],
) -> float:
    """Return the squared 2-Wasserstein distance of two Gaussians, the metrics' Fréchet distance.

    |μ_a − μ_b|² + tr Σ_a + tr Σ_b − 2 tr (Σ_a^½ Σ_b Σ_a^½)^½, the last trace as the sum of the
    singular values of Σ_a^½ Σ_b^½: real and stable for covariances of any rank. In the features'
    unit squared. Means are (d,), covariances (d, d). Raises InvalidArgument for shapes that do not
    fit or numbers that are not finite.
    Source: Dowson and Landau 1982, eq. 16; Heusel et al. 2017 (FID).
    """
    mean_a, mean_b = np.asarray(mean_a, np.float64), np.asarray(mean_b, np.float64)
    cov_a, cov_b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    d = mean_a.size
    if mean_a.shape != (d,) or mean_b.shape != (d,) or {cov_a.shape, cov_b.shape} != {(d, d)}:
        raise InvalidArgument(
            f"means of shapes {mean_a.shape}, {mean_b.shape} and covariances {cov_a.shape}, "
            f"{cov_b.shape}; give (d,) and (d, d) with one d"
        )
    if not all(np.isfinite(x).all() for x in (mean_a, mean_b, cov_a, cov_b)):
        raise InvalidArgument("a mean or covariance holds NaN or infinity; check the features")
    cross = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    gap = mean_a - mean_b
    return max(0.0, float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def mean_and_covariance(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Return mean and unbiased covariance (divided by n − 1) in float64; DataError for n < 2."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise DataError(
            f"features of shape {features.shape}; a covariance needs (n, d) with n at least 2"
        )
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Return `gaussian_frechet` of the Gaussians fitted to two sets of features.

    If a side has no more rows than features, the cross term is the sum of the singular values of
    A·Bᵀ, A and B the centred rows over √(n−1) and √(m−1): the same number, from an (n, m) matrix.
    Biased upwards for few features, the more the smaller n and m: compare at equal sizes only, and
    against the floor of real data. Raises DataError for fewer than two rows.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.shape[1:] != a.shape[1:] or min(len(a), len(b)) > a.shape[1]:
        return gaussian_frechet(*mean_and_covariance(a), *mean_and_covariance(b))
    if min(len(a), len(b)) < 2:
        raise DataError(f"{len(a)} and {len(b)} rows of features; give at least 2 of each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidArgument("features hold NaN or infinity; check the feature net")
    gap = a.mean(0) - b.mean(0)
    a, b = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(gap @ gap + (a * a).sum() + (b * b).sum() - 2 * cross))


def _root(cov: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    return (vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T
