import numpy as np
import pytest

from unnoise.errors import InvalidArgument
from unnoise.evaluation import manifold
from unnoise.evaluation.manifold import radii


def test_by_hand_on_a_line():
    # k = 1: radii of the reals 0, 1, 3 are 1, 1, 2; of the samples 0.5, 2.5, 9: 2, 2, 6.5
    real, samples = np.array([[0.0], [1], [3]]), np.array([[0.5], [2.5], [9]])
    assert radii(real, 1).tolist() == [1, 1, 2]
    assert radii(samples, 1).tolist() == [2, 2, 6.5]
    m = manifold(real, samples, k=1)
    assert m.precise.tolist() == [True, True, False]
    assert m.recalled.tolist() == [True, True, True]
    assert m.dense.tolist() == [2, 1, 0]  # 0.5 lies in the balls of 0 and 1, 2.5 in that of 3
    assert m.covered.tolist() == [True, True, True]
    assert (m.precision, m.recall, m.density, m.coverage) == (2 / 3, 1, 1, 1)
    assert m.alone.tolist() == [2 / 3, 1 / 3, 0]  # 0 and 1 hold 0.5 only, 3 holds 2.5
    m = manifold(samples, real, k=1)  # the other way round: 9 is in no ball, its own holds 3
    assert m.recalled.tolist() == [True, True, False]
    assert m.covered.tolist() == [True, True, True]
    assert m.precise.tolist() == [True, True, True]


def test_disjoint_clusters_are_exact():
    rng = np.random.default_rng(0)
    here, there = rng.normal(size=(50, 3)), rng.normal(size=(40, 3)) + 1000
    m = manifold(here, there)
    assert (m.precision, m.recall, m.density, m.coverage) == (0, 0, 0, 0)
    # samples in one of two equal clusters: all precise, half recalled and covered
    real = np.concatenate([here, here + 5000])
    m = manifold(real, here)
    assert (m.precision, m.recall, m.coverage) == (1, 0.5, 0.5)
    # and the other way round: half precise, all recalled and covered
    m = manifold(here, real)
    assert (m.precision, m.recall, m.coverage) == (0.5, 1, 1)


def test_one_distribution_reaches_the_expected_coverage_and_density():
    rng = np.random.default_rng(1)
    runs = [manifold(rng.normal(size=(400, 8)), rng.normal(size=(400, 8))) for _ in range(8)]
    assert np.mean([m.coverage for m in runs]) == pytest.approx(1 - 2.0**-5, abs=0.012)
    assert np.mean([m.density for m in runs]) == pytest.approx(1, abs=0.05)


def test_density_counts_how_many_balls():
    real = np.zeros((6, 2)) + np.arange(6)[:, None] * 1e-3
    samples = np.full((6, 2), 2.5e-3) + np.arange(6)[:, None] * 1e-6
    assert manifold(real, samples, k=5).density == pytest.approx(6 / 5)


def test_too_few_points_are_refused():
    with pytest.raises(InvalidArgument, match="k is 5"):
        manifold(np.zeros((5, 2)), np.zeros((50, 2)))
