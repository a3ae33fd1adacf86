"""The 8 × 8 digits that come with scikit-learn: small enough for tests that train."""

from __future__ import annotations

import torch

from .dataset import Dataset


def open_digits(*, normalisation: str = "standardise") -> Dataset:
    """Return 1,797 digits, (1, 8, 8), whole numbers 0…16, 10 classes; nothing is fetched.

    Source: UCI Optical Recognition of Handwritten Digits, in `sklearn.datasets.load_digits`.
    """
    import sklearn
    from sklearn.datasets import load_digits

    found = load_digits()
    return Dataset.of(
        torch.from_numpy(found.images.astype("uint8"))[:, None].contiguous(),
        torch.from_numpy(found.target.astype("int64")),
        name="digits",
        modality="image",
        channels="L",
        class_names=[str(c) for c in range(10)],
        licence="CC-BY-4.0 (UCI), in scikit-learn, BSD-3-Clause",
        source=f"PyPI scikit-learn {sklearn.__version__}: sklearn.datasets.load_digits",
        value_range=(0, 16),
        normalisation=normalisation,
    )
