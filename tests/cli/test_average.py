"""A run that stores averages, killed and gone on with, and `unnoise average` on it."""

import pytest
import torch
from safetensors.torch import load_file

import unnoise
from tests.training.test_run import go
from tests.training.tiny import tiny
from unnoise.training import Interrupted
from unnoise.training import run as run_room
from unnoise.training.averages import Averages

KEPT = [
    "train.steps=16", "train.averages={gammas: [3, 9], snapshots: 4}",
    "train.ema={kind: power, gamma: 9}", "train.reports=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "run"
    go(tiny(*KEPT), out)
    return out


def test_a_stored_length_is_the_runs_own_average(run, kept, tmp_path):
    said = run("average", kept, "--gamma", 9, "--out", tmp_path / "made")
    assert said.code == 0, said.err
    assert "average of gamma 9 from 8 stored ones: 0.00% of it lies" in said.out
    own, made = (load_file(p / "model.safetensors") for p in (kept, tmp_path / "made"))
    for name, value in own.items():
        torch.testing.assert_close(made[name], value, rtol=1e-4, atol=1e-5)
    assert "gamma=9, made after training" in str(unnoise.load(tmp_path / "made").training["ema"])


def test_another_length_is_that_of_a_run_with_it(run, kept, tmp_path):
    go(tiny(*KEPT, "train.ema.gamma=5"), tmp_path / "other")
    said = run("average", kept, "--gamma", 5, "--out", tmp_path / "made")
    assert said.code == 0, said.err
    own, made, wanted = (
        torch.cat([v.flatten() for v in load_file(p / "model.safetensors").values()])
        for p in (kept, tmp_path / "made", tmp_path / "other")
    )
    assert (made - wanted).norm() < 0.05 * (own - wanted).norm()


def test_the_run_one_stands_in_is_found(run, kept, monkeypatch):
    monkeypatch.chdir(kept)
    said = run("average", ".", "--gamma", 7)
    assert said.code == 0, said.err
    assert (kept.with_name("run-gamma-7") / "model.json").is_file()


def test_what_cannot_be_made_is_refused_and_nothing_is_written(refused, kept, tmp_path):
    made = tmp_path / "made"
    assert "out of reach" in refused("average", kept, "--gamma", 300, "--out", made)
    assert "gamma is -1" in refused("average", kept, "--gamma", -1, "--out", made)
    assert not made.exists()
    assert "there already" in refused("average", kept, "--gamma", 5, "--out", kept)
    assert "nowhere" in refused("average", tmp_path / "nowhere", "--gamma", 5, "--out", made)


def test_a_run_without_stored_averages_says_how_to_get_them(refused, model, tmp_path):
    said = refused("average", model, "--gamma", 5, "--out", tmp_path / "made")
    assert "train.averages={}" in said


def test_a_run_that_has_gone_on_is_to_be_finished_first(run, refused, tmp_path):
    out = tmp_path / "run"
    go(tiny(*KEPT, "train.steps=8"), out)
    model = unnoise.load(out)
    go(tiny(*KEPT), out, resume=True)
    model.save(out)  # as it was, with averages of later updates beside
    said = refused("average", out, "--gamma", 5, "--out", tmp_path / "made")
    assert "has gone on to update 16 since its model was written after 8" in said
    assert not (tmp_path / "made").exists()


def test_a_pause_changes_nothing_of_what_is_stored(kept, tmp_path, monkeypatch):
    updates = run_room.Training.updates

    def stopped(self):
        for update in updates(self):
            if update.step == 6:
                monkeypatch.setattr(run_room.Recovery, "keep", lambda *_: None)  # killed here
                raise KeyboardInterrupt
            if update.step == 5:
                run_room.Checkpoints(tmp_path / "run").save(
                    self.state(), tiny(*KEPT).model_dump(mode="json")
                )
            yield update

    with monkeypatch.context() as patch:
        patch.setattr(run_room.Training, "updates", stopped)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            go(tiny(*KEPT), tmp_path / "run")
    monkeypatch.undo()
    # what a killed run left of later updates than its checkpoint
    stored = Averages(tmp_path / "run")
    assert [e["step"] for e in stored.stored] == [4]
    go(tiny(*KEPT), tmp_path / "run", resume=True)
    found = Averages(tmp_path / "run").stored
    assert found == Averages(kept).stored  # moments and hashes
    assert [e["step"] for e in found] == [4, 8, 12, 16]
