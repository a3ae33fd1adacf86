import numpy as np
import pytest

from unnoise.errors import DataError
from unnoise.evaluation import copies, memorisation
from unnoise.evaluation.matching import subsets
from unnoise.evaluation.memorisation import squared_distances


def draw(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, 30)).astype(float)


def pools(n: int, size: int, seed: int = 0) -> list[np.ndarray]:
    return subsets(np.zeros(n, int), {0: size}, 8, seed)


def test_copies_of_a_training_set_as_small_as_the_pool_are_all_nearer():
    train, held = draw(100, 0), draw(100, 1)
    got = memorisation(train, train, held, [np.arange(100)], replicates=40)
    assert got.value == 1
    assert got.low > 0.6
    assert memorisation(held, train, held, [np.arange(100)], replicates=40).value == 0


def test_copies_of_a_larger_training_set_show_as_a_half_and_a_bit():
    train, held = draw(800, 0), draw(100, 1)
    got = memorisation(train, train, held, pools(800, 100), replicates=40)
    assert got.value == pytest.approx(0.5 + 100 / 1600, abs=0.05)
    assert copies(train, train).all()


def test_fresh_values_are_a_coin_and_the_interval_says_so():
    held = 0
    for i in range(12):
        samples, train, other = draw(200, 3 * i), draw(800, 3 * i + 1), draw(100, 3 * i + 2)
        got = memorisation(samples, train, other, pools(800, 100, i), replicates=60, seed=i)
        held += got.low <= 0.5 <= got.high
        assert not copies(samples, train).any()
    assert held >= 9


def test_ties_count_half_and_pools_must_be_equal():
    same = draw(40, 0)
    assert memorisation(draw(9, 1), same, same, [np.arange(40)], replicates=20).value == 0.5
    with pytest.raises(DataError, match="one size"):
        memorisation(same, same, same, [np.arange(39)])


def test_near_copies_by_the_ratio_of_distances():
    train = np.array([[0.0, 0], [12, 0], [500, 500]])
    samples = np.array([[0.0, 0], [2.9, 0], [3.1, 0], [11, 0], [6, 0]])
    assert copies(samples, train).tolist() == [True, True, False, True, False]
    with pytest.raises(DataError, match="two or more"):
        copies(samples, train[:1])


def test_a_value_twice_in_training_and_copied_is_a_copy():
    train = np.array([[5.0, 5], [5, 5], [90, 90]])
    assert copies(np.array([[5.0, 5]]), train).all()


def test_distances_are_exact_for_bytes():
    a, b = draw(20, 5), draw(30, 6)
    want = ((a[:, None] - b[None]) ** 2).sum(-1)
    assert (squared_distances(a, b) == want).all()
