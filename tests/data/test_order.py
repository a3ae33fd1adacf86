import pytest
import torch

from unnoise.data import order
from unnoise.errors import InvalidArgument


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_each_epoch_is_a_permutation(n):
    for epoch in range(3):
        assert order(5, n, epoch * n, n).sort().values.tolist() == list(range(n))


def test_epochs_and_seeds_differ():
    first, second, other = order(0, 50, 0, 50), order(0, 50, 50, 50), order(1, 50, 0, 50)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [1, 3, 8, 25])
def test_resuming_anywhere_equals_going_on(size):
    n, steps = 10, 12
    whole = order(3, n, 0, size * steps)
    pieces = [order(3, n, size * k, size) for k in range(steps)]
    assert torch.equal(torch.cat(pieces), whole)
    for counter in (1, 9, 10, 11, 17):
        wanted = order(3, n, 0, 40)[counter : counter + 13]
        assert torch.equal(order(3, n, counter, 13), wanted)


def test_ranks_together_see_the_stream_of_one():
    alone = order(0, 12, 24, 8)
    assert torch.equal(torch.cat([order(0, 12, 24 + 4 * r, 4) for r in (0, 1)]), alone)


def test_every_permutation_of_three_comes_up_alike_often():
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(1200):
        key = tuple(order(0, 3, 3 * epoch, 3).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6
    chi2 = sum((c - 200) ** 2 / 200 for c in counts.values())
    assert chi2 < 20.5  # 5 degrees of freedom, p = 0.001


def test_the_caller_may_write_into_what_it_gets():
    order(0, 5, 0, 5).zero_()
    assert order(0, 5, 0, 5).sort().values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("arguments", [(0, 0, 0, 1), (0, 5, -1, 1), (0, 5, 0, 0), (-1, 5, 0, 1)])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(InvalidArgument):
        order(*arguments)
