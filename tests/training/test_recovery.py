"""Whole runs in which numbers go wrong: what is skipped, where they go back to, how they end."""

import pytest
import torch

import unnoise
from tests.training.processes import at_once
from tests.training.test_run import go, lines
from tests.training.tiny import parts_of, tiny, training_of
from unnoise.errors import NonFinite
from unnoise.recipes import open_parts
from unnoise.training import Checkpoints, loop
from unnoise.training.log import Log
from unnoise.training.recovery import Recovery

MLP = "network={kind: mlp, width: 16, depth: 1}"
BASE = [MLP, "train.schedule=constant", "train.batch=8"]


def poison(monkeypatch, wrong):
    """NaN in the first sample of every batch for which wrong(training, update) holds."""
    batch = loop.Training.batch

    def spoil(self, counter, size):
        found, noise = batch(self, counter, size)
        if wrong(self, counter // self.config.batch + 1):
            found.x0[0].flatten()[3] = float("nan")
        return found, noise

    monkeypatch.setattr(loop.Training, "batch", spoil)


def of_kind(out, kind):
    return [row for row in lines(out) if row["kind"] == kind]


def sound(out):
    """Every checkpoint and what is in it is finite."""
    checkpoints = Checkpoints(out)
    assert checkpoints.names()
    for name in checkpoints.names():
        state, _ = checkpoints.read(name)
        for part in ("weights", "ema"):
            assert all(
                bool(torch.isfinite(w).all()) for w in state["players"]["denoiser"][part].values()
            )
    return True


def test_a_bad_sample_is_skipped_counted_and_named_and_the_run_goes_on(
    tmp_path, monkeypatch, capsys
):
    poison(monkeypatch, lambda training, update: update == 6)
    # a checkpoint after every update
    recipe = tiny(*BASE, "train.steps=9", "train.checkpoint=1e-9")
    model = go(recipe, tmp_path / "a", quiet=False)
    (row,) = of_kind(tmp_path / "a", "skipped")
    assert row["step"] == 6
    assert 0 < row["t"] < 1
    data, parts = open_parts(recipe)
    part = parts_of(recipe)["train"]
    wanted = int(part.order(recipe.train.seed, 5 * 8, 1)[0])
    assert row["row"] == wanted
    assert torch.equal(data.values[row["data_row"]], parts["train"].values[wanted])
    said = capsys.readouterr().err
    assert f"update 6 (sample {wanted}, t = {row['t']:.4f}); that is row {row['data_row']}" in said
    assert model.training["skipped_updates"] == 1
    assert unnoise.load(tmp_path / "a").training["rollbacks"] == 0
    assert sound(tmp_path / "a")
    assert of_kind(tmp_path / "a", "train")[-1]["loss"] < 10  # a mean without the bad one


def test_a_run_with_skips_behind_it_resumes_bit_for_bit(tmp_path, monkeypatch):
    poison(monkeypatch, lambda training, update: update in (3, 4, 8))
    longer = tiny(*BASE, "train.steps=10")
    go(longer, tmp_path / "a")
    go(tiny(*BASE, "train.steps=5"), tmp_path / "b")
    go(longer, tmp_path / "b", resume=True)
    made = [(tmp_path / n / "model.safetensors").read_bytes() for n in "ab"]
    assert made[0] == made[1]
    assert unnoise.load(tmp_path / "b").training["skipped_updates"] == 3


def test_a_run_goes_back_to_its_last_good_state_with_a_lower_rate(tmp_path, monkeypatch, capsys):
    # what goes wrong from update 9 on is cured by a lower rate
    poison(monkeypatch, lambda training, update: update >= 9 and training.guard.factor == 1)
    recipe = tiny(*BASE, "train.steps=16", "train.keep_every=3", "train.guard.skips=3",
                  "train.guard.lower=0.5")  # fmt: skip
    model = go(recipe, tmp_path / "a", quiet=False)
    (back,) = of_kind(tmp_path / "a", "rollback")
    assert (back["step"], back["to"], back["rate_factor"]) == (11, 6, 0.5)
    assert (
        "after update 11 the run goes back to its state after update 6" in capsys.readouterr().err
    )
    assert model.training["rollbacks"] == 1
    assert model.training["updates"] == 16
    assert {row["rate"] for row in of_kind(tmp_path / "a", "train")[-1:]} == {0.5}
    assert sound(tmp_path / "a")


def test_a_run_resumed_after_it_went_back_agrees_bit_for_bit(tmp_path, monkeypatch):
    poison(monkeypatch, lambda training, update: update >= 9 and training.guard.factor == 1)
    base = [*BASE, "train.keep_every=3", "train.guard.skips=3"]
    for steps in (13, 16):
        go(tiny(*base, f"train.steps={steps}"), tmp_path / "b", resume=True)
    go(tiny(*base, "train.steps=16"), tmp_path / "a")
    made = [(tmp_path / n / "model.safetensors").read_bytes() for n in "ab"]
    assert made[0] == made[1]


def test_without_a_checkpoint_a_run_goes_back_to_its_start_and_then_further_back(
    tmp_path, monkeypatch
):
    poison(monkeypatch, lambda training, update: update >= 4)
    base = [*BASE, "train.steps=30", "train.guard.skips=2", "train.guard.rollbacks=2"]
    with pytest.raises(NonFinite, match=r"went back 2 times.*data check"):
        go(tiny(*base), tmp_path / "a")
    assert [row["to"] for row in of_kind(tmp_path / "a", "rollback")] == [0, 0]
    # a state that failed is not gone back to again where there is an older one
    with pytest.raises(NonFinite):
        go(tiny(*base, "train.checkpoint=1e-9", "train.keep=3"), tmp_path / "b")
    assert [row["to"] for row in of_kind(tmp_path / "b", "rollback")] == [3, 2]
    assert not (tmp_path / "b" / "model.json").exists()
    assert sound(tmp_path / "b")


@pytest.mark.parametrize("rate", ["1e9", "1e30"])
def test_a_learning_rate_that_blows_up_is_named_and_spoils_nothing(tmp_path, rate):
    wild = ["train.optimizer.kind=adamw", f"train.optimizer.rate={rate}", "train.warmup=0"]
    with pytest.raises(NonFinite, match=r"update \d+.*rate is too high.*train\.optimizer\.rate"):
        go(tiny(MLP, "train.steps=90", "train.checkpoint=1e-9", *wild), tmp_path / "a")
    assert [row["rate_factor"] for row in of_kind(tmp_path / "a", "rollback")] == [0.3, 0.09]
    assert not (tmp_path / "a" / "model.json").exists()
    assert sound(tmp_path / "a")


def test_a_run_that_ends_while_it_is_going_wrong_says_so(tmp_path, monkeypatch):
    poison(monkeypatch, lambda training, update: update >= 5)
    with pytest.raises(NonFinite, match="update 12"):
        go(tiny(*BASE, "train.steps=12"), tmp_path / "a")
    assert not (tmp_path / "a" / "model.json").exists()


def test_a_last_update_that_is_skipped_does_not_end_the_run(tmp_path, monkeypatch):
    poison(monkeypatch, lambda training, update: update == 12)
    model = go(tiny(*BASE, "train.steps=12"), tmp_path / "a")
    assert model.training["skipped_updates"] == 1


def test_other_settings_of_the_guard_may_be_given_on_resuming(tmp_path):
    go(tiny(*BASE, "train.steps=2"), tmp_path / "a")
    changed = tiny(*BASE, "train.steps=4", "train.guard.skips=20")
    assert go(changed, tmp_path / "a", resume=True).training["updates"] == 4


def going_back(rank, folder):
    """A run that goes back once, on one of two processes."""
    recipe = tiny(*BASE, "train.steps=16", "train.keep_every=3", "train.guard.skips=3")
    model = go(recipe, folder / "run")
    weights = dict(model.denoiser.network.named_parameters())
    return {k: v.detach() for k, v in weights.items()} | model.training


def test_two_processes_go_back_together(tmp_path, monkeypatch):
    poison(monkeypatch, lambda training, update: update >= 9 and training.guard.factor == 1)
    one, two = at_once(2, going_back, tmp_path / "two")
    assert isinstance(one, dict), one
    assert one["rollbacks"] == two["rollbacks"] == 1
    assert one["updates"] == two["updates"] == 16
    assert all(torch.equal(v, two[k]) for k, v in one.items() if isinstance(v, torch.Tensor))
    (back,) = of_kind(tmp_path / "two" / "run", "rollback")
    assert back["to"] == 6
    assert sound(tmp_path / "two" / "run")


def test_a_state_saved_in_trouble_is_not_gone_back_to(tmp_path):
    """Such states are there where a run was interrupted while it went wrong."""
    training, checkpoints = training_of(tiny(*BASE, "train.steps=9")), Checkpoints(tmp_path, 9)
    updates = training.updates()
    for step in (1, 2, 3, 4):
        next(updates)
        training.guard.trouble = max(0, step - 2)
        checkpoints.save(training.state(), {})
    with Log(None) as log:
        training.guard.trouble = 10
        Recovery(training, checkpoints, log).go_back()
    assert training.step == 2
    assert training.guard.factor == 0.3
    assert checkpoints.names() == ["step-00000001", "step-00000002"]
