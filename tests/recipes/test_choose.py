import numpy as np
import pytest
from PIL import Image

from unnoise.errors import DataError, InvalidArgument, RecipeError
from unnoise.recipes import check, choose, dump, guidance_text, load_recipe
from unnoise.training import train


def pictures(folder, count=30, size=(10, 14), mode="RGB", classes=("",)):
    """A folder of noise pictures of (height, width)."""
    g = np.random.default_rng(0)
    for i in range(count):
        place = folder / classes[i % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
        pixels = g.integers(0, 256, (*size, *channels), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
    return folder


def runs(recipe, out):
    """Train three updates of a small form of the recipe; the model."""
    small = ["train.steps=3", "train.reports=1", "sample.steps=2"]
    small += ["network.width=16"] if recipe.network.kind == "mlp" else ["network.widths=[8, 8]"]
    again = load_recipe(recipe.model_dump(mode="json", exclude_none=True), small)
    return train(again, out, quiet=True, tensorboard=False)


def test_colour_pictures_that_are_not_square(tmp_path):
    recipe = choose(str(pictures(tmp_path / "photos")))
    check(recipe)
    assert (recipe.name, recipe.network.kind, recipe.sample.guidance) == ("photos", "unet", ())
    assert recipe.data.split.validation == 0  # too few to hold out
    model = runs(recipe, tmp_path / "run")
    made = model.sample(3)
    assert made.values.shape == (3, 3, 10, 14)
    assert str(made.values.dtype) == "torch.uint8"
    assert made.labels is None


def test_labelled_grey_pictures(tmp_path):
    folder = pictures(tmp_path / "p", 120, (9, 9), "LA", ("cats", "dogs"))
    recipe = choose(str(folder))
    check(recipe)
    assert (recipe.objective.condition_dropout, guidance_text(recipe.sample.guidance)) == (
        0.1,
        "1.25",
    )
    assert recipe.data.split.validation == 20
    model = runs(recipe, tmp_path / "run")
    assert model.spec.shape == (1, 9, 9)
    assert model.sample(4, condition={"class": "dogs"}).labels.tolist() == [1] * 4


def test_size_resizes_pictures(tmp_path):
    folder = pictures(tmp_path / "p", 12, (9, 20))
    assert choose(str(folder), size=8).data.size == 8
    assert choose(str(folder), overrides=["data.size=[4, 6]"]).data.size == (4, 6)
    with pytest.raises(InvalidArgument, match="size is 0"):
        choose(str(folder), size=0)
    np.save(tmp_path / "x.npy", np.zeros((5, 3), np.float32))
    with pytest.raises(InvalidArgument, match="folders of pictures"):
        choose(str(tmp_path / "x.npy"), size=8)


def test_vectors_get_a_perceptron(tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "v.npy", g.normal(5, 3, (100, 6)).astype(np.float32))
    recipe = choose(str(tmp_path / "v.npy"))
    check(recipe)
    assert (recipe.name, recipe.network.kind) == ("v.npy", "mlp")
    model = runs(recipe, tmp_path / "run")
    made = model.sample(5).values
    assert made.shape == (5, 6)
    assert str(made.dtype) == "torch.float32"
    assert len(list((tmp_path / "run" / "samples").glob("*.npy"))) == 1


def test_signals_get_a_unet_and_the_layout_can_be_said(tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "s.npy", g.normal(0, 1, (40, 2, 33)).astype(np.float32))
    with pytest.raises(DataError, match="layout="):
        choose(str(tmp_path / "s.npy"))
    recipe = choose(str(tmp_path / "s.npy"), overrides=["data.layout=NCL"])
    check(recipe)
    assert recipe.data.layout == "NCL"
    assert runs(recipe, tmp_path / "run").sample(2).values.shape == (2, 2, 33)


def test_float_bytes_are_refused_and_a_declared_range_helps(tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", g.uniform(0, 255, (20, 8, 8)).astype(np.float32))
    with pytest.raises(DataError, match="value_range"):
        choose(str(tmp_path / "f.npy"))
    recipe = choose(str(tmp_path / "f.npy"), overrides=["data.value_range=[0, 255]"])
    assert recipe.data.value_range == (0, 255)


def test_larger_pictures_are_cut_into_patches(tmp_path):
    np.save(
        tmp_path / "big.npy", np.random.default_rng(0).integers(0, 256, (4, 3, 160, 90), "uint8")
    )
    recipe = choose(str(tmp_path / "big.npy"))
    assert recipe.network.patch == 4
    assert recipe.train.batch == 4


def test_a_built_in_set_gets_its_shipped_recipe_and_overrides():
    recipe = choose("digits", overrides=["train.steps=3"])
    assert recipe == load_recipe("digits", ["train.steps=3"])
    assert choose("digits", "90s").train.budget == 90
    assert load_recipe(recipe.model_dump(mode="json")) == recipe
    assert dump(recipe).startswith("name: digits")


def test_the_name_is_that_of_the_folder_however_it_is_written(tmp_path, monkeypatch):
    pictures(tmp_path / "birds" / "inner", 4)
    monkeypatch.chdir(tmp_path / "birds" / "inner")
    assert choose(".").name == "inner"
    monkeypatch.chdir(tmp_path / "birds")
    assert choose("inner/../inner/").name == "inner"


@pytest.mark.parametrize("what", ["nothing-here", "empty"])
def test_nothing_to_choose_from(tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        choose(str(tmp_path / what))


def test_one_picture_is_not_enough(tmp_path):
    with pytest.raises(DataError, match="fewer than 2"):
        choose(str(pictures(tmp_path / "p", 1)))


def test_unknown_options_of_the_data_name_the_nearest(tmp_path):
    folder = pictures(tmp_path / "p", 4)
    with pytest.raises((InvalidArgument, RecipeError), match="labelled"):
        choose(str(folder), overrides=["data.labeled=false"])


def test_a_size_given_twice_is_refused(tmp_path):
    folder = str(pictures(tmp_path / "p", 4))
    with pytest.raises(InvalidArgument, match=r"size=8 and data\.size=6"):
        choose(folder, size=8, overrides=["data.size=6"])
    assert choose(folder, size=8, overrides=["data.size=8"]).data.size == 8
