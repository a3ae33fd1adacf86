import numpy as np
import pytest
import torch

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import ValuePCA


def test_components_hold_the_variance_in_order():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    scale = np.geomspace(10, 0.01, 12)
    values = (rng.normal(size=(1500, 12)) * scale) @ basis.T + 3
    pca = ValuePCA(torch.tensor(values).reshape(1500, 1, 3, 4), 5)
    features = pca.features(values.reshape(1500, 1, 3, 4))
    assert np.allclose(features.mean(0), 0, atol=1e-9)
    assert np.allclose(features.std(0), scale[:5], rtol=0.08)
    assert np.allclose(np.abs(pca.basis.T @ basis[:, :5]), np.eye(5), atol=0.06)


def test_more_dimensions_than_values_gives_the_same_subspace():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 500))
    pca = ValuePCA(values)
    assert pca.basis.shape == (500, 3)  # rank, not 12
    assert np.allclose(pca.basis.T @ pca.basis, np.eye(3), atol=1e-8)
    assert np.allclose(pca.features(values) @ pca.basis.T + pca.mean, values, atol=1e-8)


def test_fingerprint_and_bad_input():
    values = np.random.default_rng(2).normal(size=(50, 4))
    assert ValuePCA(values).fingerprint == ValuePCA(values.copy()).fingerprint
    assert ValuePCA(values).fingerprint != ValuePCA(values + 1).fingerprint
    assert ValuePCA(values).name == "4 principal components of the raw values"
    with pytest.raises(DataError, match="20 or more"):
        ValuePCA(values[:19])
    with pytest.raises(DataError, match="all the same"):
        ValuePCA(np.ones((50, 4)))
    with pytest.raises(InvalidArgument, match="fitted to"):
        ValuePCA(values).features(values[:, :3])
