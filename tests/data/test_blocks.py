import importlib
import itertools

import numpy as np
import pytest
import torch

from unnoise.data.order import Blocks, block_permutation, order, permutation

order_module = importlib.import_module("unnoise.data.order")  # the room has a function of its name


def blocks(*counts, size=100):
    of = torch.cat([torch.full((n,), b, dtype=torch.int32) for b, n in enumerate(counts)])
    return Blocks(of, (size,) * len(counts))


@pytest.fixture
def window(monkeypatch):
    """A window of two blocks of 100 bytes."""
    monkeypatch.setattr(order_module, "WINDOW_BYTES", 200)


def test_one_window_is_the_order_of_data_in_memory():
    for epoch in (0, 3):
        assert torch.equal(block_permutation(7, epoch, blocks(5, 9, 3)), permutation(7, epoch, 17))


def test_every_epoch_visits_every_sample_once(window):
    seen = order(3, 40, 0, 120, blocks(10, 3, 7, 12, 8))
    for epoch in seen.split(40):
        assert sorted(epoch.tolist()) == list(range(40))
    assert not torch.equal(seen[:40], seen[40:80])


def test_blocks_are_opened_a_window_at_a_time_in_a_new_order_every_epoch(window):
    b = blocks(*[8] * 6)
    firsts = set()
    for epoch in range(12):
        of = b.of[block_permutation(0, epoch, b)]
        windows = [sorted(set(part.tolist())) for part in of.split(16)]
        assert [len(w) for w in windows] == [2, 2, 2]
        assert sorted(itertools.chain(*windows)) == list(range(6))
        firsts.add(tuple(windows[0]))
        mixed = of.split(16)[0]
        assert int((mixed[1:] != mixed[:-1]).sum()) > 1  # mixed within the window
    assert len(firsts) > 6


def test_a_large_block_is_a_window_of_its_own(window):
    b = Blocks(torch.tensor([0] * 4 + [1] * 4 + [2] * 4, dtype=torch.int32), (50, 900, 50))
    of = b.of[block_permutation(1, 0, b)].tolist()
    at = [i for i, block in enumerate(of) if block == 1]
    assert at == list(range(at[0], at[0] + 4))


def test_the_stream_needs_nothing_but_the_counter(window):
    b = blocks(10, 3, 7, 12, 8)
    whole = order(5, 40, 0, 200, b)
    for counter, size in ((0, 7), (33, 14), (79, 90), (160, 40)):
        again = Blocks(b.of.clone(), b.sizes)  # as after a restart
        assert torch.equal(order(5, 40, counter, size, again), whole[counter : counter + size])


def test_a_part_keeps_the_blocks_of_its_samples(window):
    rows = torch.tensor([0, 3, 11, 12, 20, 21, 22, 39])
    part = blocks(10, 3, 7, 12, 8).chosen(rows)
    assert part.of.tolist() == [0, 0, 1, 1, 3, 3, 3, 4]
    seen = order(0, 8, 0, 8, part)
    assert sorted(seen.tolist()) == list(range(8))
    lumps = part.of[seen].numpy()
    first = {b: np.nonzero(lumps == b)[0].min() for b in (0, 1, 3, 4)}
    last = {b: np.nonzero(lumps == b)[0].max() for b in (0, 1, 3, 4)}
    overlapping = sum(
        first[a] < last[b] and first[b] < last[a] for a in first for b in first if a < b
    )
    assert overlapping <= 2  # only blocks of one window mix


@pytest.mark.parametrize("epoch", [0, 1])
def test_within_a_window_every_place_is_as_likely(window, epoch):
    b = blocks(3, 3)
    counts = torch.zeros(6, 6)
    for seed in range(600):
        counts[torch.arange(6), block_permutation(seed, epoch, b)] += 1
    assert float(((counts - 100) ** 2 / 100).sum()) < 55  # chi², 25 degrees: 1 in 2,000
