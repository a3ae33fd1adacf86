"""Samples of any origin against data, without a model."""

import numpy as np
import pytest
import torch
from PIL import Image

from unnoise.data import open_digits
from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import ValuePCA
from unnoise.pipelines import measure_samples


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Digits: data (1,200), held (300), fresh (200) and copies of data, as arrays."""
    folder = tmp_path_factory.mktemp("samples")
    data = open_digits()
    x, y = data.values[:, 0].numpy(), data.labels.numpy()
    rows = np.random.default_rng(0).permutation(len(x))
    for name, part in (
        ("data", rows[:1200]),
        ("held", rows[1200:1500]),
        ("fresh", rows[1500:1700]),
    ):
        np.save(folder / f"{name}.npy", x[part])
        np.savez(folder / f"{name}.npz", x=x[part], y=y[part])
    np.save(folder / "copies.npy", x[rows[:200]])
    return folder


def test_fresh_digits_reach_the_floor_and_copies_are_caught(place):
    fresh = measure_samples(place / "fresh.npy", place / "data.npy", reference=place / "held.npy")
    assert fresh.provenance.model == "fresh"
    assert fresh.provenance.solver is None
    assert fresh.data == "data, held"
    assert (fresh.samples, fresh.searched, fresh.train_values) == (200, 1200, 1200)
    assert fresh.levels is None
    assert "never saw" in fresh.protocol
    assert "denoising" not in fresh.metrics
    assert fresh.metrics["frechet"].value < 1.5 * fresh.metrics["frechet"].floor
    assert fresh.metrics["copies"].value < 0.05
    copied = measure_samples(place / "copies.npy", place / "data.npy", reference=place / "held.npy")
    assert copied.metrics["copies"].value == 1
    assert copied.reference_hash == fresh.reference_hash
    assert copied.features_hash == fresh.features_hash


def test_without_a_reference_a_fifth_of_the_data_is_set_aside(place):
    card = measure_samples(place / "fresh.npy", place / "data.npy")
    assert card.train_values == 960
    assert "whether the maker of the samples saw it is not known" in card.protocol
    assert card.compared == 200  # of 240 set aside
    assert card.metrics["copies"].value < 0.05
    copied = measure_samples(place / "copies.npy", place / "data.npy")
    assert 0.6 < copied.metrics["copies"].value < 0.95  # a fifth of the originals stands aside


def test_classes_are_matched_where_all_sides_have_them(place):
    card = measure_samples(place / "fresh.npz", place / "data.npz", features="pca")
    assert "same number of each class" in card.protocol
    assert "Requested-class" not in card.protocol  # components name no class
    plain = measure_samples(place / "fresh.npy", place / "data.npz", features="pca")
    assert "at random" in plain.protocol


def test_a_folder_of_pictures(place, tmp_path):
    for name, source in (("made", "fresh"), ("real", "data")):
        (tmp_path / name).mkdir()
        for i, digit in enumerate(np.load(place / f"{source}.npy")[:160]):
            Image.fromarray((digit * 15).astype(np.uint8)).save(tmp_path / name / f"{i:04}.png")
    card = measure_samples(tmp_path / "made", tmp_path / "real")
    assert card.samples == 160
    assert card.compared == 32
    assert card.metrics["frechet_ratio"].value < 2


def test_features_computed_elsewhere(place, tmp_path):
    pca = ValuePCA(torch.from_numpy(np.load(place / "data.npy"))[:, None], 8)
    files = []
    for name in ("fresh", "data", "held"):
        files.append(str(tmp_path / f"{name}.npy"))
        np.save(files[-1], pca.features(np.load(place / f"{name}.npy")[:, None]))
    sides = {"reference": place / "held.npy"}
    given = measure_samples(
        place / "fresh.npy", place / "data.npy", **sides, features=",".join(files)
    )
    direct = measure_samples(place / "fresh.npy", place / "data.npy", **sides, features=pca)
    assert given.metrics["frechet"].value == pytest.approx(direct.metrics["frechet"].value)
    assert given.metrics["sliced"] == direct.metrics["sliced"]
    assert "given" in given.features
    with pytest.raises(InvalidArgument, match="2 files of features for 3"):
        measure_samples(
            place / "fresh.npy", place / "data.npy", **sides, features=",".join(files[:2])
        )


def test_a_function_serves_as_features(place):
    def first(values):
        return values.flatten(1).double()[:, 10:20]

    card = measure_samples(place / "fresh.npy", place / "data.npy", features=first)
    assert card.features == "first"


def test_sides_that_do_not_fit_are_refused(place, tmp_path):
    x = np.load(place / "fresh.npy")
    np.save(tmp_path / "wide.npy", np.repeat(x, 2, 2))
    np.save(tmp_path / "floats.npy", x.astype(np.float32) / 16)
    np.save(tmp_path / "few.npy", x[:60])
    np.savez(tmp_path / "two.npz", x=x, y=np.arange(len(x)) % 2)
    for samples, data, match in (
        (tmp_path / "wide.npy", place / "data.npy", r"shape \(1, 8, 16\)"),
        (tmp_path / "floats.npy", place / "data.npy", "bring them to the same"),
        (place / "fresh.npy", tmp_path / "few.npy", "give 100 or more"),
        (tmp_path / "two.npz", place / "data.npz", "have the classes"),
        (tmp_path / "none.npy", place / "data.npy", "no data"),
    ):
        with pytest.raises(DataError, match=match):
            measure_samples(samples, data)
    with pytest.raises(DataError, match="two classes"):
        measure_samples(place / "fresh.npy", place / "data.npy", features="classifier")
