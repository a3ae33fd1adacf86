import json
import shutil

import pytest
import torch

from unnoise.data import fingerprint
from unnoise.errors import ArtifactError, DataError, InvalidArgument
from unnoise.evaluation import (
    FeatureClassifier,
    Part,
    ValuePCA,
    features_for,
    load_classifier,
    save_classifier,
    shipped_classifier,
)
from unnoise.evaluation.shipped import WEIGHTS


def test_the_shipped_classifier_is_as_good_as_its_card_says(mnist):
    model, train_hash = load_classifier(WEIGHTS / "mnist5k")
    assert train_hash == fingerprint(mnist.train.values, mnist.train.labels)
    for part in ("validation", "test"):
        data = getattr(mnist, part)
        accuracy = model.accuracy(data.values, data.labels)
        assert accuracy >= 0.985
        assert accuracy == pytest.approx(model.record[f"{part}_accuracy"], abs=0.003)
    assert (WEIGHTS / "mnist5k.safetensors").stat().st_size < 2e6


def test_the_shipped_classifier_is_found_by_its_training_data(mnist, tmp_path):
    found = features_for(mnist.train, cache=tmp_path)
    assert found.fingerprint == shipped_classifier("mnist5k").fingerprint
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidArgument, match="did you mean 'mnist5k'"):
        shipped_classifier("mnist5")


def test_a_trained_one_is_kept_and_found_again(digits, tmp_path):
    options = dict(seen=1200, width=4)
    model = features_for(digits.train, digits.test, cache=tmp_path, **options)
    assert set(model.record) >= {"validation_accuracy", "trained_on"}
    again = features_for(digits.train, cache=tmp_path, on_epoch=lambda *_: pytest.fail("trained"))
    assert again.fingerprint == model.fingerprint
    assert again.record == model.record
    assert torch.equal(again.std, model.std)
    half = Part(digits.train.values[:600], digits.train.labels[:600])
    assert features_for(half, cache=tmp_path, **options).fingerprint != model.fingerprint
    assert len(list(tmp_path.iterdir())) == 4


def test_data_without_labels_get_components(digits):
    assert isinstance(features_for(Part(digits.train.values)), ValuePCA)
    one_class = Part(digits.train.values, torch.zeros_like(digits.train.labels))
    assert isinstance(features_for(one_class), ValuePCA)


def test_damaged_files_are_refused(tmp_path):
    stem = tmp_path / "c"
    save_classifier(FeatureClassifier((4,), 2, width=2), stem, "0" * 64)
    load_classifier(stem)

    def broken(change, match):
        copy = tmp_path / "copy"
        for ending in (".json", ".safetensors"):
            shutil.copy(tmp_path / f"c{ending}", tmp_path / f"copy{ending}")
        change()
        with pytest.raises(ArtifactError, match=match):
            load_classifier(copy)

    weights, card = tmp_path / "copy.safetensors", tmp_path / "copy.json"

    def flip():
        raw = bytearray(weights.read_bytes())
        raw[-3] ^= 64
        weights.write_bytes(raw)

    def edit(**changes):
        card.write_text(json.dumps(json.loads(card.read_text()) | changes))

    broken(flip, "take both files from one place")
    broken(lambda: weights.write_bytes(weights.read_bytes()[:90]), "cannot be read")
    broken(lambda: weights.write_bytes(b"\x80\x04pickle"), "cannot be read")
    broken(weights.unlink, "cannot be read")
    broken(card.unlink, "no classifier card")
    broken(lambda: card.write_text("{"), "not sound JSON")
    broken(lambda: edit(code="os.system"), "not a classifier card")
    broken(lambda: edit(format=2), "format 1")
    broken(lambda: edit(config={"event": [4], "classes": 2, "evil": 1}), "cannot be read")
    broken(lambda: edit(config={"event": [5], "classes": 2}), "cannot be read")


def test_training_without_labels_is_refused(digits):
    from unnoise.evaluation.shipped import trained

    with pytest.raises(DataError, match="needs labels"):
        trained(Part(digits.train.values), None, None)
