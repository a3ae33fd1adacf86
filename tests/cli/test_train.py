import numpy as np
import pytest
from PIL import Image

import unnoise
from tests.training.tiny import tiny
from unnoise.recipes import dump, load_recipe
from unnoise.training import sizing

SMALL = ["network.widths=[8,8]", "train.steps=2", "train.reports=1", "sample.steps=2"]


@pytest.fixture
def recipe(tmp_path):
    """The tiny recipe as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(dump(tiny()))
    return path


@pytest.fixture
def photos(tmp_path):
    """Twenty-four pictures that are not square, in two classes."""
    g = np.random.default_rng(0)
    for i in range(24):
        folder = tmp_path / "photos" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = g.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_a_recipe_with_overrides_then_sample_from_what_it_left(run, recipe):
    said = run("train", recipe, "train.steps=3", "train.batch=8", "--out", "runs/a", "--quiet")
    assert said.code == 0, said.err
    assert "model: runs/a" in said.out
    assert said.err == ""
    model = unnoise.load("runs/a")
    assert (model.training["updates"], model.recipe.train.batch) == (3, 8)
    assert run("sample", "runs/a", "--n", 4, "--steps", 2, "--guidance", 1.5).code == 0


def test_the_run_is_named_after_its_recipe(run, recipe, tmp_path):
    said = run("train", recipe)
    assert said.code == 0, said.err
    assert (tmp_path / "here" / "runs" / "tiny" / "model.json").is_file()
    assert "100%" in said.err


@pytest.mark.parametrize(("source", "place"), [("vectors", "samples.npy"), (None, "samples.png")])
def test_the_command_it_names_next_runs(run, recipe, tmp_path, source, place):
    given = [recipe]
    if source is not None:
        np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 6)))
        given = ["--data", tmp_path / "v.npy", "network.width=8"]
    said = run("train", *given, "train.steps=2", "train.reports=1", "--out", "runs/next", "--quiet")
    assert said.code == 0, said.err
    words = said.out.split("next: ")[1].split()
    assert words[-1] == place
    said = run(*words[words.index("sample") :], "--steps", 2)
    assert said.code == 0, said.err


def test_ones_own_pictures_in_one_line(run, photos):
    said = run("train", "--data", photos, *SMALL)
    assert said.code == 0, said.err
    assert "# the recipe chosen for" in said.out
    assert "source: folder" in said.out
    model = unnoise.load("runs/photos")
    assert model.spec.class_names == ("cat", "dog")
    assert model.spec.shape == (3, 8, 12)
    assert run("sample", "runs/photos", "--n", 2, "--class", "dog", "--steps", 1).code == 0


def test_resume_needs_only_the_folder(run, recipe):
    assert run("train", recipe, "--out", "a", "--quiet").code == 0
    said = run("train", "--resume", "--out", "a", "train.steps=6", "--quiet")
    assert said.code == 0, said.err
    assert unnoise.load("a").training["updates"] == 6


def test_a_run_on_ones_own_data_goes_on_with_its_network(run, refused, photos, monkeypatch):
    monkeypatch.setattr(sizing, "seconds_per_update", lambda recipe, data, most=0.0: 1e-3)
    words = ["train", "--data", photos, "--quiet", "train.reports=1", "train.batch=2"]
    monkeypatch.setattr(sizing, "FACTORS", (0.25,))
    assert run(*words, "--budget", "0.5s").code == 0
    was = load_recipe("runs/photos/recipe.yaml").network
    monkeypatch.setattr(sizing, "FACTORS", (0.125,))
    again = [*words, "--budget", "0.6s", "--resume"]
    said = run(*again)  # in the folder that it has by default, and with the size found before
    assert said.code == 0, said.err
    assert run(*again, "network.blocks=1").code == 0  # as it is
    assert load_recipe("runs/photos/recipe.yaml").network == was
    assert "network.widths was [16, 32] and is now [8]:" in refused(*again, "network.widths=[8]")


def test_a_length_from_the_command_line(run, recipe):
    said = run("train", recipe, "--budget", "1s", "--out", "a", "--quiet")
    assert said.code == 0, said.err
    assert load_recipe("a/recipe.yaml").train.budget == 1


def test_a_run_that_was_never_clipped_is_resumed(run, recipe):
    assert run("train", recipe, "train.clip=null", "--out", "a", "--quiet").code == 0
    said = run("train", "--resume", "--out", "a", "--quiet")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to train"),
        (["--resume"], "nothing to train"),
        (["--resume", "--out", "nowhere"], "nothing to train"),
        (["train.steps=3"], "nothing to train"),
        (["digit"], "did you mean 'digits'"),
        (["missing.yaml"], "there is no recipe file missing.yaml"),
        (["."], "--data ."),
        (["digits", "train.stepz=3"], "did you mean 'steps'"),
        (["digits", "train"], "write key=value"),
        (["digits", "train.steps=3", "--budget", "5m"], "both"),
        (["digits", "--budget", "soon"], "a time of 'soon'"),
        (["digits", "--data", "digits"], "give one of them"),
        (["digits", "--size", "8"], "--data"),
        (["digits", "model.predicts=eps"], "eps says nothing"),
        (["digits", "data.split.validation=1797"], "1797"),
        (["mnist5k", "model.conditional=false"], "sample.guidance=1"),
        (["--data", "nothing"], "there is no data 'nothing'"),
        (["--data", "."], "holds no pictures"),
        (["digits", "--nonsense"], "--nonsense"),
    ],
)
def test_what_cannot_be_trained_ends_with_code_2(refused, words, message):
    assert message in refused("train", *words)


def test_data_at_fault_end_with_code_2(refused, photos, tmp_path):
    assert "fewer than 2" in refused("train", "--data", _one(tmp_path))
    assert "size is -3" in refused("train", "--data", photos, "--size", -3)
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(photos / "cat" / "odd.png")
    assert "differ in size" in refused("train", "--data", photos)
    (photos / "cat" / "odd.png").write_bytes(b"no picture")
    assert "odd.png" in refused("train", "--data", photos)


def _one(tmp_path):
    (tmp_path / "one").mkdir()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "one" / "a.png")
    return tmp_path / "one"


def test_an_occupied_folder_is_left_alone(run, refused, recipe):
    assert run("train", recipe, "--out", "a", "--quiet").code == 0
    assert "add --resume" in refused("train", recipe, "--out", "a")
    other = refused("train", recipe, "train.batch=4", "--out", "a", "--resume")
    assert "train.batch was 16 and is now 4" in other


def test_an_out_that_is_no_folder(refused, recipe, tmp_path):
    (tmp_path / "here" / "file").write_text("")
    assert "is a file" in refused("train", recipe, "--out", "file")
    assert "cannot be made" in refused("train", recipe, "--out", "file/below")


def test_a_broken_file_of_a_recipe(refused, tmp_path):
    (tmp_path / "b.yaml").write_text("name: a\nname: b\n")
    assert "given twice" in refused("train", tmp_path / "b.yaml")
    (tmp_path / "d.yaml").mkdir()
    assert "is a folder" in refused("train", tmp_path / "d.yaml")


def test_a_full_disk_is_one_message(run, recipe, monkeypatch):
    from unnoise.training import run as room

    def full(*_, **__):
        raise OSError(28, "No space left on device", "log.jsonl")

    monkeypatch.setattr(room, "Log", full)
    said = run("train", recipe, "--out", "a")
    assert (said.code, said.err) == (2, "error: log.jsonl: No space left on device\n")


def test_an_interruption_says_how_to_go_on(run, recipe, monkeypatch):
    from unnoise.training import Interrupted
    from unnoise.training import run as room

    def stop(*_, **__):
        raise Interrupted("interrupted after update 7; the state is saved")

    monkeypatch.setattr(room, "_run", stop)
    said = run("train", recipe, "--out", "a", "--quiet")
    assert (said.code, said.err) == (130, "interrupted after update 7; the state is saved\n")


def test_a_network_for_the_time_given(run, photos, monkeypatch):
    monkeypatch.setattr(
        sizing, "seconds_per_update", lambda r, d, most=0: 1e-5 * r.network.widths[0] ** 2
    )
    said = run("train", "--data", photos, "--budget", "0.2s", "--out", "a")
    assert said.code == 2
    assert "at least" in said.err
    asked = ("train", "--data", photos, "--size", 8, "train.batch=4", "train.reports=1")
    said = run(*asked, "--budget", "2s", "sample.steps=2", "--out", "a")
    assert said.code == 0, said.err
    assert "# tried here: unet [" in said.out
    assert load_recipe("a/recipe.yaml").network.widths[0] == 24
    # going on takes the network that is there, whatever the machine does now
    monkeypatch.setattr(sizing, "seconds_per_update", None)
    said = run(*asked, "--budget", "3s", "sample.steps=2", "--out", "a", "--resume")
    assert said.code == 0, said.err
    assert load_recipe("a/recipe.yaml").network.widths[0] == 24
