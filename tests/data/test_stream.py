"""Data that stay in their files: the same samples, order and description as in memory."""

import importlib
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.shards import npy, parquet_shards, pictures, png, tar_shards, write_tar
from unnoise.data import open_data
from unnoise.errors import DataError

order_module = importlib.import_module("unnoise.data.order")  # the room has a function of its name
KINDS = ["folder", "arrays", "floats", "parquet", "webdataset", "npy"]


def make(kind, folder, n=40):
    """Data of a kind on disk, from which the same samples can be opened either way."""
    x, y = pictures(n)
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
        return parquet_shards(folder / "p", x, y), {}
    if kind == "webdataset":
        return tar_shards(folder / "t", x, y), {}
    if kind == "npy":
        members = []
        for i in range(n):
            members += [(f"{i:03d}.npy", npy(x[i])), (f"{i:03d}.cls", str(y[i]).encode())]
        return write_tar(folder / "n.tar", members), {}
    if kind == "folder":
        for i in range(n):
            (folder / f"c{y[i]}").mkdir(exist_ok=True)
            Image.fromarray(x[i]).save(folder / f"c{y[i]}" / f"{i:03d}.png")
        return folder, {}
    np.save(folder / "y.npy", y)
    values = x if kind == "arrays" else x.astype(np.float64) / 255 - 0.3
    np.save(folder / "x.npy", values)
    return folder / "x.npy", {"labels": folder / "y.npy"}


@pytest.fixture(params=KINDS)
def both(request, tmp_path, cache, monkeypatch):
    """The same data in memory and in their files, with windows smaller than the data."""
    monkeypatch.setattr(order_module, "WINDOW_BYTES", 700)
    (tmp_path / "d").mkdir()
    path, options = make(request.param, tmp_path / "d")
    return open_data(path, **options), open_data(path, stream=True, **options)


def test_streamed_data_are_those_in_memory(both):
    held, streamed = both
    assert (held.streamed, streamed.streamed) == (False, True)
    assert torch.equal(streamed.values, held.values)
    assert torch.equal(streamed.labels, held.labels)
    assert streamed.class_counts() == held.class_counts()
    assert streamed.fingerprint() == held.fingerprint() == held.spec.fingerprint
    if held.spec.dtype == "uint8":
        assert streamed.spec == held.spec  # mean and deviation to the last bit
    for mine, theirs in ((streamed.spec.mean, held.spec.mean), (streamed.spec.std, held.spec.std)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    np.testing.assert_allclose(
        held.spec.std, held.values.double().transpose(0, 1).flatten(1).std(1, correction=0)
    )


def test_a_streamed_run_sees_what_one_in_memory_sees(both):
    held, streamed = (data.split({"train": None, "validation": 9}, 4) for data in both)
    for part in ("train", "validation"):
        assert torch.equal(streamed[part].labels, held[part].labels)
        if held[part].spec.dtype == "uint8":
            assert streamed[part].spec == held[part].spec
        for counter, size in ((0, 6), (6, 25), (27, 9), (100, 33)):  # within and over epochs
            rows = held[part].order(3, counter, size)
            assert torch.equal(streamed[part].order(3, counter, size), rows)
            a, b = held[part].batch(rows), streamed[part].batch(rows)
            torch.testing.assert_close(a.x0, b.x0, rtol=1e-6, atol=1e-6)
            assert torch.equal(a.condition.values["class"], b.condition.values["class"])
            assert torch.equal(streamed[part].raw(rows), held[part].raw(rows))


def test_parts_have_their_own_fingerprint_and_nest(both):
    held, streamed = both
    rows = torch.tensor([5, 1, 7, 30])
    one, two = streamed.subset(rows), streamed.subset(rows[[1, 2]])
    assert len({streamed.fingerprint(), one.fingerprint(), two.fingerprint()}) == 3
    assert torch.equal(one.subset([1, 2]).values, held.values[[1, 7]])
    for part, chosen in ((one, rows), (two, rows[[1, 2]]), (held.subset(rows), rows)):
        assert torch.equal(part.labels, held.labels[chosen])
    assert one.fingerprint() == streamed.subset(rows).fingerprint()
    if held.blocks is not None:  # of shards the same wherever the values are
        assert held.subset(rows).fingerprint() == one.fingerprint()


def test_a_sample_is_in_memory_and_drawn_without_replacement(both):
    held, streamed = both
    some = streamed.sample(12, seed=1)
    assert not some.streamed
    assert torch.equal(some.values, held.sample(12, seed=1).values)
    assert not torch.equal(some.values, streamed.sample(12, seed=2).values)
    assert len({bytes(value.numpy()) for value in some.values}) == 12
    assert torch.equal(streamed.sample(99).values, held.values)


def test_what_does_not_fit_in_memory_is_not_read_whole(both, monkeypatch):
    _, streamed = both
    monkeypatch.setattr("unnoise.data.dataset.MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"sample\(n\)"):
        _ = streamed.values
    assert len(streamed.sample(3)) == 3


def test_held_out_parts_are_read_once(both, monkeypatch):
    parts = both[1].split({"train": None, "validation": 9}, 4)
    first = parts["validation"].batch([0, 3]).x0
    rows = parts["validation"]._values.rows
    monkeypatch.setattr(rows, "read", lambda indices: pytest.fail("read again"))
    assert torch.equal(parts["validation"].batch([0, 3]).x0, first)


class Stream(torch.utils.data.Dataset):
    """Batches of the training stream by their counter."""

    def __init__(self, data, size):
        self.data, self.size = data, size

    def __getitem__(self, counter):
        return self.data.batch(self.data.order(11, counter, self.size))


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumes_exactly_over_the_borders_of_shards(
    kind, workers, tmp_path, cache, monkeypatch
):
    monkeypatch.setattr(order_module, "WINDOW_BYTES", 700)
    path, _ = make(kind, tmp_path)
    straight = open_data(path).split({"train": 37, "validation": 3}, 0)["train"]
    assert len(straight.blocks.sizes) > 4
    wanted = [Stream(straight, 5)[c] for c in range(0, 90, 5)]  # over two epochs, mid-epoch ends

    def run(first, last):
        data = open_data(path, stream=True).split({"train": 37, "validation": 3}, 0)["train"]
        loader = torch.utils.data.DataLoader(
            Stream(data, 5),
            batch_size=None,
            sampler=list(itertools.islice(itertools.count(5 * first, 5), last - first)),
            num_workers=workers,
            generator=torch.Generator(),
        )
        return list(loader)

    found = run(0, 7) + run(7, 8) + run(8, 18)
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a.x0, b.x0)
        assert torch.equal(a.condition.values["class"], b.condition.values["class"])


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_data_can_be_pickled_after_use(kind, tmp_path, cache):
    path, options = make(kind, tmp_path)
    data = open_data(path, stream=True, **options)
    before = data.batch([3, 1]).x0
    packed = pickle.dumps(data)
    assert torch.equal(pickle.loads(packed).batch([3, 1]).x0, before)
    if kind in ("arrays", "parquet"):  # what was read does not travel
        assert len(packed) < 100_000


def test_what_was_measured_is_kept_until_the_files_change(tmp_path, cache, monkeypatch):
    path, _ = make("webdataset", tmp_path)
    first = open_data(path, stream=True).spec
    with monkeypatch.context() as patch:
        patch.setattr("unnoise.data.measured.measure", lambda *_: pytest.fail("measured again"))
        assert open_data(path, stream=True).spec == first
        with pytest.raises(pytest.fail.Exception, match="again"):
            open_data(path, stream=True, mode="L")  # read in another way
    x, y = pictures(40, seed=1)
    tar_shards(path, x, y)
    assert open_data(path, stream=True).spec.fingerprint != first.fingerprint
    for kept in cache.rglob("*.npz"):
        kept.write_bytes(b"damaged")
    assert open_data(path, stream=True).spec.name == first.name


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "file"))
    path, _ = make("webdataset", tmp_path)
    assert open_data(path, stream=True).streamed


MEMORY = """
import re, sys
import PIL.Image, tqdm, unnoise.data.parquet
from unnoise.data import open_data

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

before = peak()
data = open_data(sys.argv[1], stream=True)
part = data.split({"train": None, "validation": 20}, 0)["train"]
for counter in range(0, 20, 4):
    part.batch(part.order(0, counter, 4))
print(data.nbytes / 2**20, peak() - before)
"""


@pytest.fixture(scope="module")
def large():
    """100 pictures of 3 MiB decoded, a few kB stored."""
    plain = np.zeros((1024, 1024, 3), np.uint8)
    found = []
    for i in range(100):
        plain[i : i + 3] = i + 1
        found.append(png(plain))
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_three_hundred_megabytes_of_pictures_are_not_held(kind, large, tmp_path, cache):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
        path = parquet_shards(tmp_path / "p", large, each=40, group=10)
    else:
        path = tar_shards(tmp_path / "t", large, each=40)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True
    )
    decoded, more = map(float, done.stdout.split())
    assert decoded > 299
    assert more < 250  # a batch of floats and what it takes to make it are 100
