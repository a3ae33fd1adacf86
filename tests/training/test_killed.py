"""SIGKILL before every file operation of a save; tools/campaigns/kill.py kills 200 runs."""

import random
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "campaigns"))

from forked import Killer, fork
from kill import TREE, last, watched

from tests.training.tiny import first_states, tiny, training_of
from unnoise.errors import ArtifactError
from unnoise.recipes import load_recipe
from unnoise.training import Checkpoints, read_log, train


@pytest.fixture(scope="module")
def states():
    """States after 1 to 4 updates."""
    return first_states(training_of(tiny("network={kind: mlp, width: 8, depth: 1}")))


@pytest.fixture(scope="module")
def two(states, tmp_path_factory):
    """A folder with the first two."""
    folder = tmp_path_factory.mktemp("two") / "run"
    kept = Checkpoints(folder, 2)
    for state in states[:2]:
        kept.save(state, {"n": state["step"]})
    return folder


def saved_but_for(two, folder, states, at, torn):
    """Two states are there; the third is saved by a child that dies before operation `at`. (Its
    exit code, how many operations it did.)"""
    shutil.copytree(two, folder)

    def work(say):
        killer = Killer(at, torn)
        killer.armed = True
        Checkpoints(folder, 2).save(states[2], {"n": 3})
        killer.armed = False
        say(f"operations {killer.count}")

    code, said = fork(work, folder / "errors.txt").end()
    return code, last(said, "operations")


@pytest.mark.parametrize("torn", [False, True], ids=["killed", "torn"])
def test_a_save_killed_before_any_of_its_file_operations(torn, states, two, tmp_path):
    cut = lambda k: random.Random(k) if torn else None  # noqa: E731
    code, count = saved_but_for(two, tmp_path / "whole", states, None, cut(0))
    assert code == 0
    assert count >= (8 if torn else 30)
    found = []
    for at in range(count):
        folder = tmp_path / str(at)
        code, _ = saved_but_for(two, folder, states, at, cut(at))
        assert code == -9, (folder / "errors.txt").read_text()
        kept = Checkpoints(folder, 2)
        state, recipe = kept.load()
        assert not any("passed over" in note for note in kept.notes)  # never half a checkpoint
        assert state["step"] == recipe["n"]
        wanted = states[state["step"] - 1]
        assert all(
            torch.equal(state["players"]["denoiser"]["weights"][k], v)
            for k, v in wanted["players"]["denoiser"]["weights"].items()
        )
        latest = (folder / "checkpoints" / "latest").read_text().strip()
        Checkpoints(folder).read(latest)  # what it names is whole
        found.append(state["step"])
        kept.save(states[3], {"n": 4})  # the next save clears away what was left
        names = sorted(p.name for p in (folder / "checkpoints").iterdir())
        before = "step-00000003" if state["step"] == 3 else "step-00000002"
        assert names == ["latest", before, "step-00000004"]
    assert found == sorted(found)
    assert set(found) == {2, 3}


def test_a_full_disk_at_any_file_operation_of_a_save_keeps_the_last_good_state(
    states, two, tmp_path
):
    words = r"No space left on device.*untouched"

    def work(say, folder, at):
        shutil.copytree(two, folder)
        killer = Killer(at, error=OSError(28, "No space left on device"))
        killer.armed = True
        try:
            Checkpoints(folder, 2).save(states[2], {"n": 3})
        except ArtifactError as error:
            say(f"refused {int(bool(re.search(words, str(error))))}")
        killer.armed = False
        say(f"operations {killer.count}")

    def at_operation(folder, at):
        code, said = fork(lambda say: work(say, folder, at), tmp_path / "errors.txt").end()
        assert code == 0, (tmp_path / "errors.txt").read_text()
        return said

    refused = 0
    for at in range(last(at_operation(tmp_path / "whole", None), "operations")):
        folder = tmp_path / str(at)
        said = at_operation(folder, at)
        assert last(said, "refused") != 0
        refused += last(said, "refused") > 0
        kept = Checkpoints(folder, 2)
        state, _ = kept.load()
        assert state["step"] in ((2, 3) if last(said, "refused") > 0 else (3,))
        assert not any("passed over" in note for note in kept.notes)
        kept.save(states[3], {"n": 4})
        left = [p.name for p in (folder / "checkpoints").iterdir() if p.name.startswith(".")]
        assert left == []
    assert refused >= 20


def test_the_artifact_killed_on_its_way_is_written_by_the_next_run(tmp_path):
    tree = TREE | {"train": TREE["train"] | {"steps": 2, "checkpoint": 60}}
    recipe = load_recipe(tree)
    train(recipe, tmp_path / "a", quiet=True, tensorboard=False)
    wanted = (tmp_path / "a" / "model.safetensors").read_bytes()

    def work(out, killer):
        def inside(say):
            from unnoise.artifacts import Model

            save = Model.save

            def armed(self, *rest):
                killer.armed = True
                return save(self, *rest)

            Model.save = armed
            watched(recipe, out, None)(say)
            killer.armed = False
            say(f"operations {killer.count}")

        return inside

    def inside(at, out):
        return lambda say: work(out, Killer(at))(say)

    code, said = fork(inside(None, tmp_path / "count"), tmp_path / "errors.txt").end()
    assert code == 0, (tmp_path / "errors.txt").read_text()
    for at in range(0, last(said, "operations"), 3):
        out = tmp_path / str(at)
        code, _ = fork(inside(at, out), tmp_path / "errors.txt").end()
        assert code == -9, (tmp_path / "errors.txt").read_text()
        train(recipe, out, resume=True, quiet=True, tensorboard=False)
        assert (out / "model.safetensors").read_bytes() == wanted
        assert [p.name for p in out.rglob(".*") if p.name != ".lock"] == []
        assert read_log(out)[-1]["kind"] == "end"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_killed_at_operations_of_several_saves_ends_the_same(workers, tmp_path):
    tree = TREE | {"train": TREE["train"] | {"steps": 6, "checkpoint": 1e-6, "workers": workers}}
    recipe = load_recipe(tree)
    train(recipe, tmp_path / "a", quiet=True, tensorboard=False)
    saved = 0
    for at in (40, 75, 20):
        work = lambda say, at=at: watched(recipe, tmp_path / "b", Killer(at))(say)  # noqa: E731
        code, said = fork(work, tmp_path / "errors.txt").end()
        assert code == -9, (tmp_path / "errors.txt").read_text()
        assert last(said, "from") >= saved
        saved = max(saved, last(said, "saved"))
    assert 2 <= saved < 6
    train(recipe, tmp_path / "b", resume=True, quiet=True, tensorboard=False)
    a, b = ((tmp_path / n / "model.safetensors").read_bytes() for n in "ab")
    assert a == b
