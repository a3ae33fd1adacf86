"""Recipes that were made to do damage, also as the recipe of a run that is resumed."""

import os
import resource
import time

import pytest

from tests.artifacts.attacks import yamls
from tests.artifacts.attacks.judge import Bench
from tests.artifacts.attacks.targets import TARGETS
from tests.training.tiny import TREE, tiny
from unnoise.cli.main import main
from unnoise.errors import RecipeError
from unnoise.recipes import dump, load_recipe, shipped

RUN = [a for a in yamls.textual() if a.group in ("references", "tags and types", "duplicate keys")]


@pytest.mark.parametrize("attack", [a for a in RUN if "alone" not in a.name], ids=str)
def test_a_run_is_not_resumed_by_a_hostile_recipe(tmp_path, capsys, attack):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(dump(tiny()))
    attack.damage(run / "recipe.yaml")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    began = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", "--out", str(run)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "recipe" in said
    assert "Traceback" not in said
    assert len(said) < 7000
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000  # KiB
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_pipe_in_the_place_of_a_runs_recipe_does_not_hang(tmp_path, capsys):
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match="is a pipe"):
        load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["train", str(tmp_path / "recipe.yaml")])
    assert stop.value.code == 2


def numbers(tree, at=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from numbers(value, (*at, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*at, key)


@pytest.mark.parametrize("name", shipped())
def test_no_number_of_any_shipped_recipe_may_be_nan_or_infinite_or_true(name):
    tree = load_recipe(name).model_dump(mode="json", exclude_none=True)
    for place in numbers(tree):
        for bad in (".nan", ".inf", "-.inf", "true"):
            with pytest.raises(RecipeError):
                load_recipe(name, [f"{'.'.join(place)}={bad}"])


def test_trees_given_from_python_are_bounded_too():
    nest = []
    for _ in range(50_000):
        nest = [nest]
    deep = {"name": "x"}
    for _ in range(5000):
        deep = {"a": deep}
    for bad in (
        {**TREE, "about": nest},
        {**TREE, "data": deep},
        {**TREE, "about": ["x"] * 200_000},
        {**TREE, "network": {"kind": "unet", "widths": [8] * 16, "blocks": 1024}},
        {**TREE, "evaluate": {"samples": 2**70}},
    ):
        with pytest.raises(RecipeError) as error:
            load_recipe(bad)
        assert len(str(error.value)) < 7000


def test_many_faults_are_told_but_not_all():
    bad = {**TREE, **{f"key{i}": 1 for i in range(500)}}
    with pytest.raises(RecipeError, match="and 480 more faults") as error:
        load_recipe(bad)
    assert len(str(error.value).splitlines()) == 21


def test_attacks_on_recipes_are_refused(tmp_path):
    bench = Bench(TARGETS["recipe.yaml"], tmp_path)
    attacks = [a for a in bench.attacks() if a.group in ("numbers", "deep", "large")]
    for attack in attacks[::4]:
        outcome = bench.judge(attack)
        assert outcome.how == "refused", (str(attack), outcome)
