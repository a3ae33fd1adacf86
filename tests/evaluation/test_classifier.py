import numpy as np
import pytest
import torch

from unnoise.errors import DataError, InvalidArgument, NonFinite, Unsupported
from unnoise.evaluation import FeatureClassifier, train_classifier


def test_learns_digits_and_repeats_itself_bit_for_bit(digits):
    train, test = digits.train, digits.test
    before = torch.get_rng_state()
    make = lambda seed: train_classifier(train.values, train.labels, seen=9600, seed=seed)  # noqa: E731
    model = make(0)
    assert torch.equal(before, torch.get_rng_state())
    assert model.accuracy(test.values, test.labels) > 0.93
    assert make(0).fingerprint == model.fingerprint != make(1).fingerprint
    # the record says how it was made, and another training size is another record
    assert model.record["trained_on"] == 1200
    assert model.record["epochs"] == 8


def test_features_are_what_the_last_layer_reads(digits):
    model = FeatureClassifier((1, 8, 8), 10, mean=[5.0], std=[6.0])
    values = digits.test.values[:30]
    features = model.features(values)
    assert features.dtype == np.float64
    logits = features @ model.head.weight.detach().double().numpy().T
    assert (logits.argmax(1) == model.predict(values)).all()
    assert np.allclose(features[:7], model.features(values[:7]), atol=1e-5)
    assert model.features(values[:0]).shape == (0, 64)


def test_fingerprint_sees_weights_running_statistics_and_scale():
    model = FeatureClassifier((3,), 2, width=2)
    prints = {model.fingerprint, FeatureClassifier((3,), 2, width=2, mean=[1.0]).fingerprint}
    with torch.no_grad():
        model.body[1].running_mean[0] += 1e-3
        prints.add(model.fingerprint)
        model.head.bias[1] += 1e-3
        prints.add(model.fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("event", [(5,), (2, 40), (1, 3, 3), (3, 17, 30), (1, 4, 9, 8)])
def test_any_event_from_vectors_to_volumes_is_learned(event):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    values = rng.normal(size=(200, *event)) + 2.0 * labels.reshape(-1, *[1] * len(event))
    model = train_classifier(torch.tensor(values, dtype=torch.float32), labels, seen=2000, width=4)
    assert model.accuracy(torch.tensor(values), labels) > 0.9


def test_constant_channels_do_not_break_the_scale():
    values = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8)).astype(np.uint8)
    values[:, 1] = 200
    model = train_classifier(values, np.arange(60) % 2, seen=120, width=4)
    assert model.config()["std"][1] == 1
    assert np.isfinite(model.features(values)).all()


def test_bad_input_is_named():
    x, y = np.zeros((30, 4), np.float32), np.arange(30) % 3
    with pytest.raises(DataError, match="reach from 0 to 2; with 2 classes"):
        train_classifier(x, y, classes=2)
    with pytest.raises(DataError, match="-1"):
        train_classifier(x, y - 1)
    with pytest.raises(DataError, match="30 values but labels"):
        train_classifier(x, y[:9])
    with pytest.raises(DataError, match="all labels are the same"):
        train_classifier(x, y * 0)
    with pytest.raises(DataError, match="5 values are too few"):
        train_classifier(x[:5], y[:5])
    with pytest.raises(DataError, match="NaN"):
        train_classifier(x * np.nan, y)
    with pytest.raises(Unsupported, match="shapes"):
        FeatureClassifier((1, 2, 3, 4, 5), 2)
    with pytest.raises(InvalidArgument, match="raw units"):
        FeatureClassifier((4,), 2).features(np.zeros((3, 5)))
    with pytest.raises(NonFinite, match="lower lr"):
        train_classifier(np.random.default_rng(0).normal(size=(64, 4)), np.arange(64) % 2, lr=1e38)
