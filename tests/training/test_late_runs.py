"""Whole runs whose guard looks with delay, as on a GPU, taken on the CPU: what they write."""

import pytest
import torch

from tests.training.processes import at_once
from tests.training.test_recovery import of_kind, poison, sound
from tests.training.test_run import go
from tests.training.tiny import tiny
from unnoise.training import loop

MLP = "network={kind: mlp, width: 16, depth: 1}"


def runs(tmp_path, monkeypatch, recipe):
    """The recipe run with the look at once, and late: their folders."""
    go(recipe, tmp_path / "a")
    always = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr(loop.Training, "deferred", always, raising=False)
    go(recipe, tmp_path / "b")
    made = [(tmp_path / n / "model.safetensors").read_bytes() for n in "ab"]
    assert made[0] == made[1]
    assert sound(tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def told(out, kind):
    """Its log's lines of a kind, without the times."""
    return [
        {k: v for k, v in row.items() if k not in ("time", "seconds")} for row in of_kind(out, kind)
    ]


def test_a_whole_run_writes_the_same(tmp_path, monkeypatch):
    poison(monkeypatch, lambda training, update: update in (2, 9, 25))
    recipe = tiny(MLP, "train.batch=8", "train.steps=25", "train.keep_every=4", "train.reports=3",
                  "train.averages={snapshots: 5}")  # fmt: skip
    a, b = runs(tmp_path, monkeypatch, recipe)
    assert told(a, "skipped") == told(b, "skipped")
    assert [row["step"] for row in told(b, "skipped")] == [2, 9, 25]
    assert told(a, "train") == told(b, "train")
    assert told(a, "report") == told(b, "report")
    for file in sorted((a / "averages").glob("*.safetensors")):
        assert file.read_bytes() == (b / "averages" / file.name).read_bytes()
    assert len(list((b / "averages").glob("*.safetensors"))) >= 4


@pytest.mark.parametrize("every", [3, 5])
def test_a_whole_run_that_goes_back_writes_the_same(tmp_path, monkeypatch, every):
    poison(monkeypatch, lambda training, update: update >= 9 and training.guard.factor == 1)
    recipe = tiny(MLP, "train.batch=8", "train.steps=16", f"train.keep_every={every}",
                  "train.guard.skips=3", "train.schedule=constant")  # fmt: skip
    a, b = runs(tmp_path, monkeypatch, recipe)
    assert told(a, "skipped") == told(b, "skipped")
    (back,), (later,) = told(a, "rollback"), told(b, "rollback")
    assert (back["step"], later["step"]) == (11, 12)
    assert back["to"] == later["to"]


def breaking(rank, folder):
    """A late run of two processes that breaks, and stores its averages at every update."""
    patch = pytest.MonkeyPatch()
    poison(patch, lambda training, update: update >= 9 and training.guard.factor == 1)
    patch.setattr(
        loop.Training, "deferred", property(lambda s: True, lambda s, v: None), raising=False
    )
    recipe = tiny(MLP, "train.batch=8", "train.steps=16", "train.keep_every=3",
                  "train.guard.skips=3", "train.averages={snapshots: 16}")  # fmt: skip
    model = go(recipe, folder / "run")
    return {k: v.clone() for k, v in model.denoiser.network.state_dict().items()}


def test_two_processes_go_back_together_where_averages_are_stored(tmp_path):
    zero, one = at_once(2, breaking, tmp_path)
    assert isinstance(zero, dict), zero
    assert all(torch.equal(zero[name], one[name]) for name in zero)
    assert len(told(tmp_path / "run", "rollback")) == 1
