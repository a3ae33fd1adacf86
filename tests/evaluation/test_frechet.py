import numpy as np
import pytest
from scipy.linalg import sqrtm

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import frechet_distance, gaussian_frechet
from unnoise.evaluation.frechet import mean_and_covariance


def covariance(d: int, seed: int, rank: int | None = None) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(d, rank or d))
    return root @ root.T


def test_one_dimension_is_the_difference_of_means_and_of_deviations():
    for m1, s1, m2, s2 in [(0, 1, 0, 1), (0, 1, 3, 1), (1, 2, -1, 0.5), (0, 0, 2, 3)]:
        got = gaussian_frechet(
            np.array([m1]), np.array([[s1**2]]), np.array([m2]), np.array([[s2**2]])
        )
        assert got == pytest.approx((m1 - m2) ** 2 + (s1 - s2) ** 2, abs=1e-12)


def test_commuting_covariances_have_a_closed_form():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 0.1, 3, 0.2, 9])
    got = gaussian_frechet(
        np.zeros(5), basis @ np.diag(a) @ basis.T, np.ones(5), basis @ np.diag(b) @ basis.T
    )
    assert got == pytest.approx(5 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


def test_correlated_covariances_agree_with_the_matrix_square_root():
    a, b = covariance(6, 1), covariance(6, 2)
    mean = np.arange(6.0)
    root = sqrtm(sqrtm(a) @ b @ sqrtm(a)).real
    want = mean @ mean + np.trace(a) + np.trace(b) - 2 * np.trace(root)
    assert gaussian_frechet(np.zeros(6), a, mean, b) == pytest.approx(want, rel=1e-9)


def test_two_correlated_dimensions_by_hand():
    # tr (S1^½ S2 S1^½)^½ of 2×2 matrices is sqrt(tr(S1 S2) + 2 sqrt(det S1 det S2))
    a, b = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    cross = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    got = gaussian_frechet(np.zeros(2), a, np.array([1.0, 2.0]), b)
    assert got == pytest.approx(5 + 3 + 4 - 2 * cross, rel=1e-12)


def test_equal_and_rank_deficient_covariances():
    for rank in (1, 3, 40):
        a = covariance(40, 3, rank)
        assert gaussian_frechet(np.zeros(40), a, np.zeros(40), a) == pytest.approx(0, abs=1e-9)
    a, b = np.diag([4.0, 0, 0]), np.diag([0.0, 9, 0])  # supports at right angles
    assert gaussian_frechet(np.zeros(3), a, np.zeros(3), b) == pytest.approx(13, abs=1e-12)


def test_features_few_against_dimensions_stay_finite_and_real():
    x = np.random.default_rng(4).normal(size=(10, 64))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(4 * 64, rel=1e-9)
    assert np.allclose(mean_and_covariance(x)[1], np.cov(x.T), atol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(InvalidArgument, match="covariances"):
        gaussian_frechet(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(InvalidArgument, match="NaN"):
        gaussian_frechet(np.array([np.nan]), np.eye(1), np.zeros(1), np.eye(1))
    with pytest.raises(DataError, match="at least 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
