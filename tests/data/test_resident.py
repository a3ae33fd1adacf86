"""Data on the device: the same batches, and only where they fit."""

from types import SimpleNamespace

import pytest
import torch

from tests.training.tiny import assert_same, everything, parts_of, run_steps, tiny, training_of
from unnoise.data import Dataset
from unnoise.data import resident as room
from unnoise.data.resident import Resident, resident
from unnoise.data.rows import Rows
from unnoise.errors import InvalidArgument

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_batches_are_those_of_the_data_set():
    for recipe in (tiny(), tiny("data.normalisation=range")):
        data = parts_of(recipe)["train"]
        there = Resident(data, CPU)
        for counter in (0, 13, len(data) - 3):
            rows = there.order(3, counter, 9)
            assert torch.equal(rows, data.order(3, counter, 9))
            ours, wanted = there.batch(rows), data.batch(rows)
            assert ours.x0.dtype == wanted.x0.dtype
            assert torch.equal(ours.x0, wanted.x0)
            for tree in ("values", "keep"):
                a, b = (getattr(batch.condition, tree)["class"] for batch in (ours, wanted))
                assert a.dtype == b.dtype
                assert torch.equal(a, b)


def test_rows_that_are_not_there_are_refused_before_they_reach_the_device():
    data = parts_of(tiny())["train"]
    there = Resident(data, torch.device("meta"))
    for rows in ([-1], [len(data)], [0.5], []):
        with pytest.raises(InvalidArgument):
            there.batch(rows)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_it_is_the_same(workers):
    recipe = tiny("network={kind: mlp, width: 16, depth: 1}", f"train.workers={workers}")
    straight, there = training_of(recipe), training_of(recipe)
    there.source = Resident(there.data, CPU)
    assert run_steps(straight, 3) == run_steps(there, 3)
    assert there._feed.workers == 0
    assert_same(everything(straight), everything(there))


def test_it_is_taken_where_it_fits_into_a_quarter_of_what_is_free(monkeypatch):
    data = parts_of(tiny())["train"]
    made = []
    monkeypatch.setattr(room, "Resident", lambda data, device: made.append(device) or "there")
    for free, wanted in ((4 * data.nbytes, "there"), (4 * data.nbytes - 1, None)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2 * free))
        assert resident(data, GPU) == wanted
    assert made == [GPU]
    assert resident(data, CPU) is None
    assert resident(SimpleNamespace(batch=None), GPU) is None


class InFiles(Rows):
    """Values that are read when they are asked for."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, tuple(values.shape[1:]), values.dtype

    def __len__(self):
        return len(self.values)

    def read(self, indices):
        return self.values[indices]

    def place(self, index):
        return str(index)


def test_what_stays_in_files_stays_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    data = parts_of(tiny())["train"]
    assert resident(Dataset(InFiles(data.values), data.labels, data.spec), GPU) is None
