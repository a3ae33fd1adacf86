"""Two cards: which is better, by how much, and which are not compared."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.test_card import make_card
from unnoise.errors import InvalidArgument
from unnoise.evaluation import Metric, compare, load_card
from unnoise.evaluation.compare import MUST_AGREE
from unnoise.evaluation.metric import GOALS, TITLES


def with_(card, **metrics):
    """The card with metrics given as (value, error)."""
    made = {
        name: Metric(v, v - 1.96 * e, v + 1.96 * e, error=e) for name, (v, e) in metrics.items()
    }
    return replace(card, metrics=made, samples_hash=str(metrics))


def verdict(name, a, b):
    card = make_card()
    found = compare(with_(card, **{name: a}), with_(card, **{name: b})).verdicts
    assert [v.name for v in found] == [name]
    return found[0]


@pytest.mark.parametrize(
    ("name", "a", "b", "better"),
    [
        ("frechet", 10, 20, "A"),
        ("recall", 0.7, 0.9, "B"),
        ("c2st", 0.9, 0.55, "B"),
        ("c2st", 0.45, 0.9, "A"),
        ("density", 2.0, 0.9, "B"),
        ("density", 1.1, 0.5, "A"),
        ("memorisation", 0.9, 0.5, "B"),
        ("kid", -0.01, 1.0, "A"),
        ("copies", 0.5, 0.0, "B"),
        ("frechet_ratio", 0.9, 3.0, "A"),
        ("accuracy", 0.5, 0.9, "B"),
        ("denoising", 0.5, 0.3, "B"),
        ("sliced", 0.5, 0.3, "B"),
    ],
)
def test_every_metric_has_its_direction(name, a, b, better):
    assert verdict(name, (a, 0.01), (b, 0.01)).better == better
    swapped = verdict(name, (b, 0.01), (a, 0.01)).better
    assert {better, swapped} == {"A", "B"}


def test_every_metric_has_a_goal():
    assert set(GOALS) == set(TITLES)


def test_errors_of_both_sides_count_and_below_two_there_is_no_difference():
    v = verdict("recall", (0.7, 0.03), (0.9, 0.04))
    assert v.standard_errors == pytest.approx(0.2 / 0.05)
    assert verdict("recall", (0.7, 0.06), (0.9, 0.08)).standard_errors == pytest.approx(2)
    assert verdict("recall", (0.7, 0.06), (0.9, 0.0801)).better == "neither"
    # as far from the goal on either side
    assert verdict("c2st", (0.4, 0.001), (0.6, 0.001)).better == "neither"
    same = verdict("recall", (0.7, 0.0), (0.7, 0.0))
    assert (same.better, same.standard_errors) == ("neither", 0)
    sure = verdict("recall", (0.7, 0.0), (0.8, 0.0))
    assert (sure.better, sure.standard_errors) == ("B", math.inf)


KEYS = (
    *("train_hash", "reference_hash", "features_hash", "compared", "per_class", "subsets"),
    *("k", "folds", "seed"),
)


def test_no_field_is_forgotten():
    assert set(MUST_AGREE) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_cards_that_do_not_mean_the_same_are_refused_by_field(key):
    card = make_card()
    before = getattr(card, key)
    other = replace(card, **{key: "0" * 64 if isinstance(before, str) else before + 1})
    with pytest.raises(InvalidArgument, match=f"cannot be compared: {key} is") as refusal:
        compare(card, other)
    assert ";" in str(refusal.value)  # and what to do
    assert len(str(refusal.value).split("; ", 1)[1]) > 20


def test_what_may_differ_is_said():
    card = make_card()
    other = replace(
        card,
        samples=4000,
        parts=8,
        provenance=replace(card.provenance, model="other", steps=20, seeds=(3,)),
    )
    found = compare(card, other).differences
    assert found == {
        "model": ("demo", "other"),
        "steps": (10, 20),
        "seeds": ((0, 1), (3,)),
        "samples": (1000, 4000),
        "parts": (2, 8),
    }
    assert "nothing" in compare(card, card).to_text()
    assert any("the same samples" in note for note in compare(card, card).notes)


def test_metrics_that_do_not_mean_the_same_are_left_out_and_named():
    card = with_(make_card(), sliced=(1, 0.1), denoising=(0.3, 0.1), copies=(0, 0.1), kid=(0, 1))
    other = replace(
        card,
        directions=9,
        searched=7,
        provenance=replace(card.provenance, path="vp"),
        metrics={k: v for k, v in card.metrics.items() if k != "kid"},
    )
    found = compare(card, other)
    assert found.verdicts == ()
    assert "no metric in common" in found.sentence
    for words in ("directions", "training values", "other noise", "card B does not have"):
        assert any(words in note for note in found.notes)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ({"recall": (0.5, 0.01)}, {"recall": (0.51, 0.01)}, "No difference: none of 1 metrics"),
        (
            {"recall": (0.5, 0.01), "precision": (0.9, 0.01)},
            {"recall": (0.9, 0.01), "precision": (0.9, 0.01)},
            "B is better in 1 of 2 metrics, recall (by 28.3 standard errors), A in none; no "
            "difference in the other 1",
        ),
        (
            {"recall": (0.5, 0.01), "precision": (0.9, 0.01)},
            {"recall": (0.9, 0.01), "precision": (0.5, 0.01)},
            "Neither is better in all: A in precision",
        ),
        # the ratio says again what the distance says
        (
            {"frechet": (5, 0.1), "frechet_ratio": (1, 0.1)},
            {"frechet": (9, 0.1), "frechet_ratio": (2, 0.1)},
            "A is better in 1 of 1 metrics",
        ),
    ],
)
def test_the_sentence(a, b, words):
    card = make_card()
    found = compare(with_(card, **a), with_(card, **b))
    assert found.sentence.startswith(words)
    assert found.to_text().endswith(found.sentence)
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert tree["verdict"] == found.sentence
    assert set(tree["metrics"]) == set(a)


def test_a_card_of_format_1_compares_by_its_intervals():
    old = load_card(Path(__file__).parent / "cards" / "format-1.json")
    metrics = {n: replace(m, error=(m.high - m.low) / 3.92) for n, m in old.metrics.items()}
    better = replace(metrics["recall"], value=metrics["recall"].value + 0.2)
    new = replace(old, metrics=metrics | {"recall": better})
    found = compare(old, new)
    assert any("format 1" in note for note in found.notes)
    recall = next(v for v in found.verdicts if v.name == "recall")
    width = (old.metrics["recall"].high - old.metrics["recall"].low) / 3.92
    assert recall.standard_errors == pytest.approx(0.2 / (width * math.sqrt(2)))
