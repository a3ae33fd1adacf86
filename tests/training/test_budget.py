"""Budgets in which hardly an update fits."""

from types import SimpleNamespace

import pytest

from tests.training.test_run import go
from tests.training.tiny import tiny
from unnoise.errors import RecipeError
from unnoise.training import loop


def clock(monkeypatch, *seconds):
    """Each update takes the next of `seconds`, the last one for ever."""
    left, now = list(seconds), [0.0, 0]

    def tick():
        now[1] += 1
        if now[1] % 2 == 0:
            now[0] += left.pop(0) if len(left) > 1 else left[0]
        return now[0]

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=tick))


@pytest.mark.parametrize("seconds", [(3.0,), (0.1, 1.0), (0.5, 0.5)])
def test_a_budget_of_hardly_an_update_is_refused(tmp_path, monkeypatch, seconds):
    clock(monkeypatch, *seconds)
    with pytest.raises(RecipeError, match=r"train\.budget of 2 s holds [0-4] updates") as said:
        go(tiny("train.steps=null", "train.budget=2s"), tmp_path / "run")
    assert "--resume" in str(said.value)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    monkeypatch.undo()
    clock(monkeypatch, 1.0)
    go(tiny("train.steps=null", "train.budget=6s"), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_slow_first_update_is_not_judged_by(tmp_path, monkeypatch):
    clock(monkeypatch, 1.5, 0.1)
    model = go(tiny("train.steps=null", "train.budget=2s"), tmp_path / "run")
    assert model.training["updates"] == 6
