"""Principal components of the raw values: the feature space of data without labels."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..errors import DataError, InvalidArgument

_ROWS = 2000  # of the training values; more do not move the leading components


class ValuePCA:
    """The projection on the leading principal components of the training values.

    z = (x − μ)·V in raw units, V the eigenvectors of the covariance of at most 2,000 evenly
    spaced training values. `count` is lowered to what n and the dimension allow. Raises DataError
    for fewer than 20 values or values that do not vary.
    """

    def __init__(self, values: Tensor | np.ndarray, count: int = 64) -> None:
        flat = flatten(values)
        if len(flat) < 20:
            raise DataError(f"{len(flat)} training values; principal components need 20 or more")
        rows = flat[np.linspace(0, len(flat) - 1, min(_ROWS, len(flat))).round().astype(int)]
        self.event = tuple(np.shape(values)[1:])
        self.mean = rows.mean(0)
        centred = rows - self.mean
        count = min(count, rows.shape[1], len(rows) // 5)
        if rows.shape[1] <= len(rows):
            spread, basis = np.linalg.eigh(centred.T @ centred)
            spread, basis = spread[::-1][:count], basis[:, ::-1][:, :count]
        else:  # the same eigenvectors from the smaller matrix of inner products
            spread, left = np.linalg.eigh(centred @ centred.T)
            spread, left = spread[::-1][:count], left[:, ::-1][:, :count]
            basis = centred.T @ (left / np.sqrt(spread.clip(min=1e-300)))
        kept = spread > 1e-10 * spread[0]
        if not spread[0] > 0:
            raise DataError("the training values are all the same; there is nothing to compare")
        basis = basis[:, kept]
        largest = basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])]
        self.basis = basis * np.sign(largest)

    @property
    def name(self) -> str:
        """A short description for people."""
        return f"{self.basis.shape[1]} principal components of the raw values"

    @property
    def fingerprint(self) -> str:
        """The sha256 of mean and components, rounded to float32."""
        digest = hashlib.sha256()
        for part in (self.mean, self.basis):
            digest.update(f"{part.shape}".encode() + part.astype("<f4").tobytes())
        return digest.hexdigest()

    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return the components of raw values, in float64.

        Raises InvalidArgument for values of another shape.
        """
        if tuple(np.shape(values)[1:]) != self.event:
            raise InvalidArgument(
                f"values of shape {tuple(np.shape(values))}; components were fitted to {self.event}"
            )
        return (flatten(values) - self.mean) @ self.basis


def flatten(values: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]:
    """Return raw values as rows of float64."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.reshape(len(array), -1).astype(np.float64)
