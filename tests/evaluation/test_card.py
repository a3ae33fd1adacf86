import json
from dataclasses import replace

import pytest

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import Card, Interval, Metric, Provenance, load_card
from unnoise.evaluation.card import versions


@pytest.fixture
def card():
    return Card(
        data="mnist5k",
        samples=1000,
        compared=500,
        parts=2,
        per_class=50,
        subsets=8,
        k=5,
        folds=5,
        replicates=500,
        seed=0,
        features="penultimate layer",
        features_hash="f" * 64,
        features_record={"test_accuracy": 0.994},
        reference_hash="a" * 64,
        train_hash="b" * 64,
        samples_hash="c" * 64,
        provenance=Provenance(model="demo", steps=10, passes=20.0, guidance=1.5, seeds=(0, 1)),
        versions=versions(),
        metrics={
            "frechet": Metric.of(Interval(3.456, 3.0, 4.0), [1.0, 2.0, 3.0]),
            "density": Metric.of(Interval(0.98765, 0.9, 1.0)),
        },
        protocol="How it was measured.",
    )


def test_json_goes_round_and_is_strict(card, tmp_path):
    assert Card.from_json(card.to_json()) == card
    paths = card.save(tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["card.json", "card.md"]
    assert load_card(tmp_path / "new") == load_card(paths[0]) == card
    broken = replace(card, metrics={"frechet": Metric(float("nan"), 0, 1)})
    with pytest.raises(ValueError, match="JSON"):
        broken.save(tmp_path / "nothing")
    assert not list((tmp_path / "nothing").glob("card*"))


def test_floor_is_mean_least_and_most(card):
    assert card.metrics["frechet"] == Metric(3.456, 3.0, 4.0, 2.0, 1.0, 3.0)
    assert card.metrics["density"].floor is None


def test_markdown_states_values_intervals_floor_and_provenance(card):
    text = card.to_markdown()
    assert "| Fréchet distance | **3.46** | 3.00 – 4.00 | 2.00 (1.00 – 3.00) | low |" in text
    assert "| density | **0.988** | 0.900 – 1.00 | – | 1 |" in text
    for fact in ("| seeds | 0, 1 |", "| guidance | 1.5 |", "test accuracy 0.994", "f" * 16):
        assert fact in text
    assert text.rstrip().endswith("How it was measured.")
    assert "solver" not in text  # not stated, so not shown


def test_broken_cards_are_named(card, tmp_path):
    raw = json.loads(card.to_json())

    def refused(match, **changes):
        with pytest.raises(DataError, match=match):
            Card.from_json(json.dumps({**raw, **changes}))

    refused("did you mean 'samples'", sample=3)
    refused("format 9", format=9)
    refused(
        "value of metric 'frechet' is 'x'",
        metrics={"frechet": raw["metrics"]["frechet"] | {"value": "x"}},
    )
    refused("lacks low, high", metrics={"frechet": {"value": 1.0}})
    refused("metrics of a metric card", metrics=[])
    refused("did you mean 'solver'", provenance=raw["provenance"] | {"solvr": "ddim"})
    raw.pop("seed")
    refused("lacks seed")
    with pytest.raises(DataError, match="NaN"):
        Card.from_json('{"samples": NaN}')
    with pytest.raises(DataError, match="no metric card"):
        load_card(tmp_path)


def test_only_comparable_cards_are_compared(card):
    other = replace(card, provenance=Provenance(model="other"), samples_hash="d" * 64)
    assert card.compare(other)["frechet"] == (card.metrics["frechet"],) * 2
    for key, value in [
        ("features_hash", "0"),
        ("reference_hash", "0"),
        ("compared", 250),
        ("k", 3),
    ]:
        with pytest.raises(InvalidArgument, match=key):
            card.compare(replace(card, **{key: value}))
