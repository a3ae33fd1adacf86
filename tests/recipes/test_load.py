import pytest

from tests.training.tiny import TREE, tiny
from unnoise.errors import RecipeError
from unnoise.recipes import Recipe, check, dump, load_recipe, read_tree, resolved, seconds, shipped


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_sound_and_known_by_its_name(name):
    recipe = load_recipe(name)
    check(recipe)
    assert recipe.name == name
    assert recipe.about
    assert read_tree(name)["name"] == name


@pytest.mark.parametrize("name", shipped())
def test_dump_reads_back_equal(name, tmp_path):
    recipe = load_recipe(name, ["train.clip=null", "data.split.train=200"])
    (tmp_path / "again.yaml").write_text(dump(recipe))
    again = load_recipe(tmp_path / "again.yaml")
    assert again == recipe
    assert again.train.clip is None
    assert load_recipe(resolved(recipe)) == recipe


def test_overrides_reach_every_kind_of_value():
    recipe = tiny(
        "train.optimizer.rate=2e-3",
        "train.steps=1e3",
        "network.widths=[4, 8, 16]",
        "model.preconditioned=true",
        "name=other",
        "sample.interval=[0.1, 0.8]",
        "objective.times={kind: log_normal, mean: -1e0}",
        "about=''",
    )
    assert recipe.train.optimizer.rate == 2e-3
    assert recipe.train.steps == 1000
    assert recipe.network.widths == [4, 8, 16]
    assert recipe.model.preconditioned is True
    assert recipe.name == "other"
    assert recipe.sample.guidance[0].interval == (0.1, 0.8)
    assert (recipe.objective.times.kind, recipe.objective.times.mean) == ("log_normal", -1.0)


def test_overrides_do_not_touch_the_tree_that_was_given():
    before = repr(TREE)
    tiny("network.widths=[4]", "train.budget=1m")
    assert repr(TREE) == before


def test_a_length_replaces_the_other():
    assert tiny("train.budget=90s").train.steps is None
    assert tiny("train.budget=90s").train.budget == 90
    by_time = {**TREE, "train": {"budget": "5m"}}
    assert load_recipe(by_time, ["train.steps=7"]).train.budget is None
    with pytest.raises(RecipeError, match="both"):
        tiny("train.steps=5", "train.budget=1m")
    for lengths in ({}, {"steps": 3, "budget": 4}):
        with pytest.raises(RecipeError, match="one of the two"):
            load_recipe({**TREE, "train": lengths})


def test_another_kind_forgets_the_keys_of_the_old_one_and_no_other_override():
    recipe = tiny("network.width=32", "network.kind=mlp")
    assert (recipe.network.kind, recipe.network.width) == ("mlp", 32)
    assert tiny("network.kind=mlp", "network.width=32") == recipe
    data = tiny("data.source=mnist5k").data
    assert data.split.validation == 100  # how to divide is kept


def test_one_key_of_a_default_section_can_be_given_alone():
    assert tiny("train.optimizer.rate=0.01").train.optimizer.kind == "muon"
    assert tiny("train.ema.gamma=5").train.ema.gamma == 5
    assert tiny("objective.times.stratified=false").objective.times.kind == "uniform"
    assert tiny("sample.grid.rho=3").sample.grid.kind == "karras"


@pytest.mark.parametrize(
    ("override", "place", "guess"),
    [
        ("trian.steps=3", "trian", "train"),
        ("train.budgit=3", "train.budgit", "budget"),
        ("train.optimizer.momentun=0.9", "train.optimizer.momentun", "momentum"),
        ("network.width=[8]", "network.width", "widths"),
        ("data.split.tests=3", "data.split.tests", "test"),
        ("objective.times.stratify=true", "objective.times.stratify", "stratified"),
        ("sample.grid.sigma_mix=1", "sample.grid.sigma_mix", "sigma_m"),
        ("path.kind=ve path.sigma_mim=1", "path.sigma_mim", "sigma_min"),
        ("train.ema.decays=0.9", "train.ema.decays", "known there: every, gamma, kind"),
    ],
)
def test_unknown_keys_at_every_depth_name_the_nearest(override, place, guess):
    with pytest.raises(RecipeError) as error:
        tiny(*override.split())
    assert f"unknown key '{place}'" in str(error.value)
    assert guess in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.kind=unett", "did you mean 'unet'?"),
        ("data.source=mnist", "did you mean 'mnist5k'?"),
        ("objective.weight=minsnr", "did you mean 'min_snr'?"),
        ("model.predicts=epsilon", "did you mean 'eps'?"),
        ("train.precision=fp8", "fp32"),
        ("network.kind=null", "known: unet, mlp"),
    ],
)
def test_unknown_names_name_the_nearest(override, words):
    with pytest.raises(RecipeError, match=r".") as error:
        tiny(override)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=0", "train.steps=-5", "train.steps=1.5", "train.steps=true",
        "train.batch=0", "train.optimizer.rate=.nan", "train.optimizer.rate=.inf",
        "train.optimizer.rate=1e309", "train.optimizer.rate=-1", "train.optimizer.momentum=1",
        "train.optimizer.kind=adamw & train.optimizer.betas=[0.9,1.0]",
        "train.optimizer.kind=adamw & train.optimizer.betas=[0.9]",
        "train.ema={kind: constant, decay: 1.0}", "train.ema.gamma=0", "train.warmup=1.5",
        "train.seed=-1", "train.seed=2e30", "train.accumulate=3", "train.clip=0",
        "train.budget=0s", "train.budget=-5m", "train.budget=nan", "train.budget=5 minutes",
        "objective.drop=1.1", "objective.drop=.nan", "network.widths=[]", "network.widths=[8, x]",
        "network.widths=[1000000000]", "network.blocks=[1]", "network.attention=[2]",
        "network.patch=0", "path.kind=chain & path.steps=1e10", "sample.steps=0", "sample.steps=-5",
        "sample.steps=1000000000000", "sample.guidance=.nan", "sample.interval=[0.8, 0.2]",
        "sample.interval=[0.1]", "evaluate.samples=3", "model.conditional=maybe", "network=null",
        "data.split=5", "data=5", "name=", "name=..", "name=a/b", "name='a\\0b'",
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused_naming_the_key(override):
    pieces = override.split(" & ")
    with pytest.raises(RecipeError) as error:
        tiny(*pieces)
    section = pieces[-1].split("=")[0].split(".")[0]
    assert section in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("train..steps=3", "write key=value"),
        ("name.x=3", "'name' holds a value"),
        ("name=[1", "not sound YAML"),
        ("name=2024-13-45", "not sound YAML"),
        ("name=!!python/object/apply:os.getcwd []", "not sound YAML"),
        ("data.split={test: 1, test: 2}", "given twice"),
        ("name=" + "[" * 100_000, "not sound YAML"),
    ],
)
def test_overrides_that_say_nothing_are_refused(override, words):
    with pytest.raises(RecipeError, match=words):
        tiny(override)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", "'name' is given twice"),
        ("train:\n  steps: 1\n  steps: 2\n", "'steps' is given twice"),
        ("- 1\n", "holds list"),
        ("", "holds NoneType"),
        ("a: [", "not sound YAML"),
        ("? [1, 2]\n: 3\n", "not sound YAML"),
        ("1: 2\n", "not a word"),
        ("a: !!python/name:os.system\n", "not sound YAML"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, text, words):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        load_recipe(tmp_path / "r.yaml")


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        load_recipe("digit")
    with pytest.raises(RecipeError, match=r"no recipe file.*shipped: digits"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="--data"):
        load_recipe(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "bytes.yaml")


def test_all_faults_are_told_at_once():
    with pytest.raises(RecipeError) as error:
        tiny("train.stepps=3", "network.kidn=3", "sample.steps=0")
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800), (" 7 s ", 7), ("8", 8), (9.5, 9.5)],
)
def test_lengths_of_time(text, value):
    assert seconds(text) == value


def test_a_recipe_is_not_changed_afterwards():
    recipe = tiny()
    assert isinstance(recipe, Recipe)
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.steps = 9
