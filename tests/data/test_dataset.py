from dataclasses import replace

import pytest
import torch

from tests.data.samples import labelled
from unnoise.data import Dataset, fingerprint, from_arrays
from unnoise.errors import DataError, InvalidArgument


def rows_of(part, whole):
    """Which rows of the whole are in the part (all rows of `labelled` differ)."""
    flat = whole.values.flatten(1)
    assert len(flat.unique(dim=0)) == len(flat)
    return [int((flat == row).all(1).nonzero()) for row in part.values.flatten(1)]


def test_a_batch_is_the_normalised_samples_in_the_order_asked_for():
    data = labelled()
    rows = [7, 3, 3, 99]
    batch = data.batch(rows)
    x, condition = batch.x0, batch.condition
    assert torch.equal(condition.values["class"], data.labels[rows])
    assert condition.keep["class"].tolist() == [True] * 4
    mean = torch.tensor(data.spec.mean).view(2, 1, 1)
    std = torch.tensor(data.spec.std).view(2, 1, 1)
    torch.testing.assert_close(x, (data.values[rows].float() - mean) / std)
    assert from_arrays(torch.eye(3)).batch([0]).condition is None


@pytest.mark.parametrize("rows", [[-1], [100], [0, 1000], [], [0.5]])
def test_indices_outside_are_refused(rows):
    with pytest.raises(InvalidArgument, match="indices"):
        labelled().batch(torch.tensor(rows))


def test_a_stratified_split_is_disjoint_complete_balanced_and_repeatable():
    data = labelled()
    sizes = {"train": 60, "validation": 25, "test": 15}
    parts = data.split(sizes, seed=4)
    assert {name: len(part) for name, part in parts.items()} == sizes
    rows = {name: rows_of(part, data) for name, part in parts.items()}
    assert all(part == sorted(part) for part in rows.values())
    assert sorted(row for part in rows.values() for row in part) == list(range(100))
    for name, part in parts.items():
        for count, share in zip(part.class_counts().values(), (0.4, 0.4, 0.2), strict=True):
            assert abs(count - share * sizes[name]) <= 1
    again = data.split(sizes, seed=4)
    assert all(torch.equal(again[name].values, parts[name].values) for name in sizes)
    assert rows_of(data.split(sizes, seed=5)["train"], data) != rows["train"]
    for name, part in parts.items():
        assert torch.equal(part.labels, data.labels[rows[name]])


@pytest.mark.parametrize("counts", [(7, 1, 3), (1, 1, 1, 1, 1), (50, 2), (13, 11, 10, 9)])
def test_sizes_are_exact_however_uneven_the_classes(counts):
    data, n = labelled(counts), sum(counts)
    parts = data.split({"a": n // 2, "b": n // 3, "c": None}, seed=0)
    assert [len(p) for p in parts.values()] == [n // 2, n // 3, n - n // 2 - n // 3]
    assert len({row for part in parts.values() for row in rows_of(part, data)}) == n
    for c, count in enumerate(counts):
        got = parts["a"].class_counts()[f"c{c}"]
        assert abs(got - count * (n // 2) / n) < 1


def test_unstratified_split_ignores_the_classes():
    data = labelled((500, 500))
    part = data.split({"a": 100, "b": None}, seed=0, stratified=False)["a"]
    assert part.class_counts()["c0"] != 50  # equal counts have probability 0.08; the seed is fixed
    plain = from_arrays(torch.eye(10)).split({"a": 4, "b": 6}, seed=0)
    assert len(plain["a"]) == 4
    with pytest.raises(InvalidArgument, match="no labels"):
        from_arrays(torch.eye(10)).split({"a": 4}, seed=0, stratified=True)


def test_the_scale_is_that_of_the_first_part_and_shared():
    data = labelled()
    parts = data.split({"train": 30, "test": 70}, seed=0)
    raw = parts["train"].values.double()
    torch.testing.assert_close(
        torch.tensor(parts["test"].spec.mean, dtype=torch.float64), raw.mean((0, 2, 3))
    )
    assert parts["train"].spec == parts["test"].spec
    assert parts["train"].spec.mean != data.spec.mean
    assert parts["test"].spec.fingerprint == data.spec.fingerprint
    assert parts["test"].fingerprint() != data.fingerprint() == data.spec.fingerprint


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"a": 0},
        {"a": -5},
        {"a": 101},
        {"a": 60, "b": 41},
        {"a": None, "b": None},
        {"a": 100, "b": None},
    ],
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InvalidArgument, match="part"):
        labelled().split(sizes, seed=0)


def test_subset_keeps_labels_beside_their_values():
    data = labelled()
    part = data.subset([5, 2])
    assert torch.equal(part.values, data.values[[5, 2]])
    assert torch.equal(part.labels, data.labels[[5, 2]])


def test_fingerprint_sees_values_labels_shape_and_dtype():
    values, labels = torch.arange(12, dtype=torch.uint8).view(3, 4), torch.tensor([0, 1, 0])
    base = fingerprint(values, labels)
    assert base == fingerprint(values.clone(), labels.clone())
    assert base == fingerprint(values.t().contiguous().t(), labels)
    other = values.clone()
    other[2, 3] += 1
    variants = [
        (other, labels),
        (values, labels.flip(0) + 1),
        (values, None),
        (values.view(3, 2, 2), labels),
        (values.float(), labels),
        (values[[1, 0, 2]], labels),
    ]
    assert len({base, *(fingerprint(v, y) for v, y in variants)}) == 7


def test_what_does_not_fit_together_is_refused():
    data = labelled()
    with pytest.raises(DataError, match="out of range"):
        Dataset(data.values, data.labels + 1, data.spec)
    with pytest.raises(DataError, match="out of range"):
        Dataset(data.values, data.labels - 1, data.spec)
    with pytest.raises(DataError, match="described as"):
        Dataset(data.values.float(), data.labels, data.spec)
    with pytest.raises(DataError, match="give both"):
        Dataset(data.values, None, data.spec)
    with pytest.raises(DataError, match="one row a sample"):
        Dataset(data.values, data.labels[:-1], data.spec)
    with pytest.raises(DataError, match="no samples"):
        Dataset(data.values[:0], data.labels[:0], replace(data.spec))


def test_real_digits_4000_500_500(mnist5k):
    parts = mnist5k.split({"train": 4000, "validation": 500, "test": 500}, seed=0)
    assert [set(p.class_counts().values()) for p in parts.values()] == [{400}, {50}, {50}]
    x = parts["train"].batch(range(4000)).x0
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std(correction=0)) - 1) < 1e-5
    assert torch.equal(mnist5k.spec.restore(mnist5k.batch(range(5000)).x0), mnist5k.values)
