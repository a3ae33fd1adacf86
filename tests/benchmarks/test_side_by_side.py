"""What all comparisons share: whose turn it is, ratios round by round, what is written where."""

from __future__ import annotations

import json
import sys

import pytest
from scipy.stats import linregress

from benchmarks import side_by_side
from benchmarks.side_by_side import Spread, ratio, rounds, speed, table, write
from benchmarks.speed.fits import exponent


def test_contestants_take_turns_and_each_pays_for_its_own_calls():
    now, order = [0.0], []
    costs = {"a": 1.0, "b": 3.0, "c": 5.0}

    def contestant(name):
        def run():
            order.append(name)
            now[0] += costs[name]

        return run

    runs = {name: contestant(name) for name in costs}
    times = rounds(runs, 4, warm=1, calls=2, clock=lambda: now[0])
    assert times == {name: [cost] * 4 for name, cost in costs.items()}
    turns = ["".join(order[i : i + 6 : 2]) for i in range(0, len(order), 6)]
    assert order[::2] == order[1::2]  # two calls in a row
    assert len(turns) == 5  # the warm one too
    assert {"".join(sorted(turn)) for turn in turns} == {"abc"}
    assert {turn[0] for turn in turns[1:]} == {"a", "b", "c"}  # none is always the first


def test_a_ratio_is_the_median_of_the_rounds_own():
    times = {"base": [1.0, 10.0, 100.0], "mine": [2.0, 10.0, 50.0]}
    found = ratio(times, "base")["mine"]  # 2, 1, ½
    assert found == Spread(1.0, 0.75, 1.5)
    assert speed(times, "base")["mine"] == Spread(1.0, 0.75, 1.5)
    lone = {"base": [1.0, 100.0, 1.0, 1.0, 1.0], "mine": [3.0, 100.0, 3.0, 3.0, 3.0]}
    assert ratio(lone, "base")["mine"].median == 3.0  # a busy moment hits both
    assert speed(lone, "base")["mine"].median == pytest.approx(1 / 3)


def test_quartiles_of_one_round_are_itself():
    assert Spread.of([2.5]) == (2.5, 2.5, 2.5)
    assert Spread.of([4, 1, 3, 2, 5]) == (3, 2, 4)
    assert Spread(1.23456, 0.123456, 12345.6).rounded() == [1.235, 0.1235, 12350.0]


def test_a_result_says_where_it_comes_from(tmp_path):
    path = write("name", {"rows": [{"a": 1}], "about": "é"}, tmp_path / "new")
    found = json.loads(path.read_text("utf-8"))
    assert found["rows"] == [{"a": 1}]
    assert found["machine"]["cores"] >= 1
    assert found["torch"]
    assert len(found["library"]) == 16
    with pytest.raises(ValueError, match="JSON"):
        write("name", {"bad": float("nan")}, tmp_path / "new")
    assert json.loads(path.read_text("utf-8")) == found


def test_a_quick_run_leaves_the_results_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["x", "--quick"])
    assert side_by_side.RESULTS not in (side_by_side.arguments("").out, None)
    monkeypatch.setattr(sys, "argv", ["x"])
    assert side_by_side.arguments("").out == side_by_side.RESULTS
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--out", str(tmp_path)])
    assert side_by_side.arguments("").out == tmp_path


def test_a_table_has_every_cell_once():
    said = table([{"name": "x", "n": 1.23456}, {"name": "long", "n": 20, "more": True}])
    assert said.split("\n") == ["name      n  more", "x     1.235", "long     20  True"]


def test_the_exponent_of_a_power_law():
    sizes = [1, 2, 4, 8, 64]
    power, error = exponent(sizes, [3 * n**1.7 for n in sizes])
    assert (power, error) == (pytest.approx(1.7, abs=1e-12), pytest.approx(0, abs=1e-7))
    costs = [1.0, 1.9, 4.4, 7.7, 70.0]
    import numpy as np

    other = linregress(np.log(sizes), np.log(costs))
    assert exponent(sizes, costs) == pytest.approx((other.slope, other.stderr), rel=1e-9)
    assert exponent([2, 8], [5.0, 20.0]) == (pytest.approx(1.0), 0.0)
    with pytest.raises(ValueError, match="different"):
        exponent([3, 3], [1.0, 2.0])
