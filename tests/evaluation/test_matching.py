import numpy as np
import pytest

from unnoise.errors import DataError
from unnoise.evaluation.matching import matched_counts, subsets


def test_the_protocol_of_a_balanced_set():
    labels = {n: np.arange(n) % 10 for n in (1000, 500, 4000)}
    counts = matched_counts(labels[1000], labels[500], labels[4000], 500)
    assert counts == dict.fromkeys(range(10), 50)
    parts = subsets(labels[4000], counts, 8, seed=0)
    assert sorted(np.concatenate(parts)) == list(range(4000))  # eight disjoint subsets
    for part in parts:
        assert np.bincount(labels[4000][part]).tolist() == [50] * 10
    assert not np.array_equal(parts[0], subsets(labels[4000], counts, 8, seed=1)[0])


def test_the_scarcest_side_decides_class_by_class():
    samples, reference = np.repeat([0, 1], [30, 30]), np.repeat([0, 1], [100, 20])
    train = np.repeat([0, 1], [500, 15])
    assert matched_counts(samples, reference, train, 500) == {0: 30, 1: 15}
    assert matched_counts(samples, reference, train, 60) == {0: 30, 1: 10}
    assert matched_counts(samples, reference, train, 24) == {0: 20, 1: 4}


def test_scarce_values_are_used_again_but_never_twice_in_one_subset():
    labels = np.repeat([0, 1], [25, 60])
    for part in subsets(labels, {0: 20, 1: 20}, 8, seed=3):
        assert len(set(part.tolist())) == 40
        assert np.bincount(labels[part]).tolist() == [20, 20]


def test_sides_that_do_not_match_are_refused():
    two, three = np.arange(60) % 2, np.arange(60) % 3
    with pytest.raises(DataError, match=r"samples have none of the classes \[2\]"):
        matched_counts(two, three, three, 500)
    with pytest.raises(DataError, match=r"reference has no value of the classes \[2\].*hold out"):
        matched_counts(three, two, two, 500)
    with pytest.raises(DataError, match="only 19 values"):
        matched_counts(np.zeros(19, int), np.zeros(90, int), np.zeros(90, int), 500)
