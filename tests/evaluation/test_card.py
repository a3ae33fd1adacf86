import json
from dataclasses import replace
from pathlib import Path

import pytest

from unnoise.errors import DataError
from unnoise.evaluation import Card, Interval, Level, Metric, Provenance, load_card
from unnoise.evaluation.card import versions
from unnoise.evaluation.metric import number


def make_card():
    """A card with made-up numbers."""
    return Card(
        data="mnist5k",
        samples=1000,
        compared=500,
        parts=2,
        per_class=50,
        subsets=8,
        k=5,
        folds=5,
        directions=128,
        replicates=500,
        seed=0,
        features="penultimate layer",
        features_hash="f" * 64,
        features_record={"test_accuracy": 0.994},
        reference_hash="a" * 64,
        train_hash="b" * 64,
        searched=4000,
        train_values=4000,
        samples_hash="c" * 64,
        provenance=Provenance(model="demo", steps=10, passes=20.0, guidance=1.5, seeds=(0, 1)),
        versions=versions(),
        metrics={
            "frechet": Metric.of(Interval(3.456, 3.0, 4.0), [1.0, 2.0, 3.0]),
            "density": Metric.of(Interval(0.98765, 0.9, 1.0)),
        },
        levels=(Level(0.0, 0.5, 400, 0.25, 0.2, 0.3, 1.0, 0.24),),
        judge=None,
        protocol="How it was measured.",
    )


@pytest.fixture
def card():
    return make_card()


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
    assert "| training data | 4000 values, sha256 bbbb" in text


def test_broken_cards_are_named(card, tmp_path):
    raw = json.loads(card.to_json())

    def refused(match, **changes):
        with pytest.raises(DataError, match=match):
            Card.from_json(json.dumps({**raw, **changes}))

    refused("did you mean 'samples'", sample=3)
    refused("format 9; this release reads formats 1 to 3: upgrade unnoise", format=9)
    for wrong in (0, True, "2", None, 2.0):
        refused("evaluate again", format=wrong)
    refused("compared of a metric card is '500'", compared="500")
    refused("samples of a metric card is True", samples=True)
    refused("train_hash of a metric card is 3", train_hash=3)
    refused("per_class of a metric card is 1.5", per_class=1.5)
    refused("loss of a noise level is None", levels=[raw["levels"][0] | {"loss": None}])
    refused("a noise level is int", levels=[3])
    refused("seeds", provenance=raw["provenance"] | {"seeds": "0"})
    refused(
        "value of metric 'frechet' is 'x'",
        metrics={"frechet": raw["metrics"]["frechet"] | {"value": "x"}},
    )
    refused("lacks low, high", metrics={"frechet": {"value": 1.0}})
    refused("metrics of a metric card", metrics=[])
    refused("did you mean 'solver'", provenance=raw["provenance"] | {"solvr": "ddim"})
    raw.pop("seed")
    refused("lacks seed")
    for text in ("[]", "3", '{"a": 1, "a": 2}', ""):
        with pytest.raises(DataError):
            Card.from_json(text)
    with pytest.raises(DataError, match="NaN"):
        Card.from_json('{"samples": NaN}')
    with pytest.raises(DataError, match="no metric card"):
        load_card(tmp_path)


def test_a_card_of_format_1_is_migrated():
    path = Path(__file__).parent / "cards" / "format-1.json"
    raw = json.loads(path.read_text())
    assert raw["format"] == 1
    card = load_card(path)
    assert card.format == 3
    for key in ("directions", "searched", "train_values", "levels", "judge"):
        assert getattr(card, key) is None
    assert card.provenance.path is None
    assert card.metrics["recall"].error is None
    for name, metric in raw["metrics"].items():
        assert {k: getattr(card.metrics[name], k) for k in metric} == metric
    for key in ("samples_hash", "reference_hash", "protocol", "compared", "seed"):
        assert getattr(card, key) == raw[key]
    assert Card.from_json(card.to_json()) == card  # and is written in the new one
    assert "| recall |" in card.to_markdown()


def test_numbers_show_no_digits_far_below_their_error():
    m = Metric(0.00012, 0, 0, error=0.03)
    assert number(m.value, m) == "0.000"
    assert number(0.012345) == "0.0123"
    assert number(123456.7) == "123457"
    assert number(-0.0368, Metric(0, 0, 0, error=0.01)) == "-0.0368"
    assert number(0.0, Metric(0, 0, 0, error=0.0025)) == "0.0000"
    assert number(None) == "–"


def test_levels_are_shown_beside_the_trivial_predictor(card):
    text = card.to_markdown()
    assert "## Loss by noise level" in text
    assert "| 0.00 – 0.50 | **0.250** | 0.200 – 0.300 | 1.00 | 0.25 | 0.240 |" in text
