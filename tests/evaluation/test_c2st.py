import numpy as np
import pytest
from scipy.stats import norm

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import c2st


def test_same_distribution_is_a_coin():
    got = [
        c2st(*np.random.default_rng(i).normal(size=(2, 300, 10)), seed=i).mean() for i in range(10)
    ]
    assert np.mean(got) == pytest.approx(0.5, abs=0.03)


def test_shifted_gaussians_reach_the_accuracy_of_the_best_rule():
    rng = np.random.default_rng(0)
    real, samples = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)) + np.array([1.5, 0])
    assert c2st(real, samples).mean() == pytest.approx(norm.cdf(0.75), abs=0.015)


def test_features_are_standardised():
    rng = np.random.default_rng(1)
    real, samples = rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + np.array([2, 0])
    scale = np.array([1e-6, 1e6])
    assert (c2st(real, samples) == c2st(real * scale + 7, samples * scale + 7)).mean() > 0.99


def test_unequal_sides_are_not_told_by_their_size():
    rng = np.random.default_rng(2)
    told = c2st(rng.normal(size=(1000, 3)), rng.normal(size=(100, 3)))
    balanced = (told[:1000].mean() + told[1000:].mean()) / 2
    assert balanced == pytest.approx(0.5, abs=0.08)
    assert told.mean() < 0.75  # always saying "real" would be 0.91


def test_order_strata_and_seed():
    rng = np.random.default_rng(3)
    real, samples = rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 100
    strata = np.repeat([0, 1, 2], [30, 28, 2])  # a class rarer than the folds
    told = c2st(real, samples, real_strata=strata, sample_strata=strata, seed=4)
    assert told.shape == (120,)
    assert told.all()
    again = c2st(real, samples, real_strata=strata, sample_strata=strata, seed=4)
    assert (told == again).all()


def test_too_few_points_are_refused():
    with pytest.raises(DataError, match="too few"):
        c2st(np.zeros((9, 2)), np.zeros((50, 2)))
    with pytest.raises(InvalidArgument, match="folds is 1"):
        c2st(np.zeros((9, 2)), np.zeros((50, 2)), folds=1)
