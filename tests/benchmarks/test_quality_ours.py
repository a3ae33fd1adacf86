"""Time to quality: ours is the shipped recipe, on data the peers see too, and pays by CPU time."""

from __future__ import annotations

import pytest
import torch

from benchmarks.quality import ours, plan
from benchmarks.quality.task import EVALUATIONS, Task
from unnoise import load_recipe
from unnoise.recipes import resolved


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return Task.open("digits", tmp_path_factory.mktemp("kept"))


def flat(tree: dict, before: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{before}{key}"
        found |= flat(value, name + ".") if isinstance(value, dict) else {name: value}
    return found


def test_ours_departs_from_the_shipped_recipe_only_where_it_says(task: Task) -> None:
    shipped = flat(resolved(load_recipe("digits")))
    for most in (plan.MOST, 100_000):
        recipe = ours.recipe_for(task, 77.0, 3, most)
        mine = flat(resolved(recipe))
        changed = {key for key in {*shipped, *mine} if shipped.get(key) != mine.get(key)}
        allowed = {"train.budget", "train.seed", "network.widths", "network.width"}
        assert {key for key in changed if not key.startswith("data.split")} <= allowed
        assert (mine["train.budget"], mine["train.seed"]) == (77.0, 3)
        assert 0.6 * most < ours.parameters_of(recipe, task) <= most
    free = ours.recipe_for(task, 77.0, 3, None)
    assert free.network == load_recipe("digits").network


def test_the_halves_share_nothing_and_are_scaled_back_exactly(task: Task) -> None:
    assert (len(task.train), len(task.held.values)) == (898, 899)
    known = {v.numpy().tobytes() for v in torch.as_tensor(task.train.values)}
    held = {v.numpy().tobytes() for v in torch.as_tensor(task.held.values)}
    assert not known & held
    x, labels = task.scaled()
    assert (float(x.min()), float(x.max())) == (-1.0, 1.0)
    assert torch.equal(task.raw(x), torch.as_tensor(task.train.values))
    assert torch.equal(task.raw(x + 0.4 / 8), task.raw(x - 0.4 / 8))  # to the nearest whole one
    assert task.raw(torch.tensor([-3.0, 3.0, float("nan")])).tolist() == [0, 16, 0]
    counts, asked = torch.bincount(labels), torch.bincount(task.labels)
    assert int((counts - asked).abs().max()) <= 1


def test_ours_pays_by_cpu_time_and_is_sampled_as_often_as_the_peers(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Task.open("digits", tmp_path, most=20)
    recipe = load_recipe(
        "digits",
        ["train.budget=5s", "network={kind: unet, widths: [8], blocks: 1}", "train.batch=4"],
    )
    now = [0.0]

    def look() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(ours, "spent", look)  # a second of CPU an update, whatever the wall says
    about, made = ours.run(few, recipe, 2)
    assert about["updates"] == 5
    assert about["cpu_seconds"] == 5.0
    assert about["passes"]["equal"] == EVALUATIONS
    assert {name: [len(v) for v in sets] for name, sets in made.items()} == {
        "equal": [20, 20], "own": [20, 20],
    }  # fmt: skip
    assert not torch.equal(made["equal"][0], made["equal"][1])  # from other start noise
    again = ours.run(few, recipe, 1)[1]
    assert torch.equal(made["equal"][0], again["equal"][0])
