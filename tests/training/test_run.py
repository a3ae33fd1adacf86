import json

import pytest
import torch
from safetensors.torch import load_file

import unnoise
from tests.training.tiny import TREE, tiny
from unnoise.errors import ArtifactError, DataError, NonFinite, RecipeError, UnnoiseError
from unnoise.recipes import load_recipe
from unnoise.training import Checkpoints, loop, train
from unnoise.training import run as run_room


def go(recipe, out, **options):
    return train(recipe, out, **{"quiet": True, "tensorboard": False} | options)


def lines(out):
    """The log, each line strict JSON."""
    text = (out / "log.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in text]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that ended, with everything it leaves."""
    out = tmp_path_factory.mktemp("run") / "tiny"
    model = go(tiny("train.steps=25", "train.reports=2"), out, tensorboard=True)
    return out, model


def test_a_run_leaves_what_it_promises(finished):
    out, model = finished
    wanted = {"recipe.yaml", "log.jsonl", "model.safetensors", "model.json", "README.md"}
    assert wanted <= {p.name for p in out.iterdir()}
    assert load_recipe(out / "recipe.yaml") == model.recipe
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    pictures = sorted(p.name for p in (out / "samples").iterdir())
    assert pictures == ["step-00000013.png", "step-00000025.png"]
    from PIL import Image

    assert Image.open(out / "samples" / pictures[0]).size[0] > 100
    loaded = unnoise.load(out, "fp32")
    assert torch.equal(loaded.sample(4).x, model.sample(4).x)
    assert (loaded.training["updates"], loaded.training["samples_seen"]) == (25, 400)


def test_the_artifact_is_the_average_not_the_last_weights(finished):
    out, _ = finished
    made = load_file(out / "model.safetensors")
    state, _ = Checkpoints(out).load()
    assert state["step"] == 25
    names = [n for n, _ in unnoise.load(out).denoiser.network.named_parameters()]
    averages = [state["players"]["denoiser"]["ema"][str(i)] for i in range(len(names))]
    made = {n: made[f"denoiser.network.{n}"] for n in names}
    assert all(torch.equal(made[n], a) for n, a in zip(names, averages, strict=True))
    assert any(not torch.equal(made[n], state["players"]["denoiser"]["weights"][n]) for n in names)


def test_the_log_is_json_lines_with_the_loss_by_level(finished):
    log = lines(finished[0])
    kinds = [row["kind"] for row in log]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    held = [row for row in log if row["kind"] == "held_out"]
    levels = [row for row in log if row["kind"] == "levels"]
    assert [row["step"] for row in held] == [row["step"] for row in levels] == [13, 25]
    assert all(len(row["loss_by_level"]) == 10 for row in held + levels)
    assert all(v > 0 for v in held[0]["loss_by_level"])
    trained = [row for row in log if row["kind"] == "train"]
    assert trained[-1]["step"] == 25
    assert trained[-1]["seen"] == 400
    assert {"loss", "gradient_norm", "rate", "seconds"} <= trained[0].keys()


def test_a_finished_run_is_not_trained_over(finished, tmp_path):
    out, model = finished
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    with pytest.raises(ArtifactError, match=r"holds a run already; add --resume"):
        go(model.recipe, out)
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no checkpoints to go on from"):
        go(model.recipe, tmp_path / "m", resume=True)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.batch=8", "train.batch"),
        ("train.seed=1", "train.seed"),
        ("train.clip=null", "train.clip"),
        ("train.optimizer.rate=0.5", "train.optimizer"),
        ("network.widths=[8, 8]", "network.widths"),
        ("model.predicts=v", "model.predicts"),
        ("objective.condition_dropout=0.2", "objective.condition_dropout"),
        ("data.split.seed=1", "data.split"),
        ("path.kind=cosine", "path.kind"),
    ],
)
def test_resuming_by_another_recipe_is_refused_naming_the_key(finished, override, key):
    out, _ = finished
    before = (out / "recipe.yaml").read_bytes()
    with pytest.raises(RecipeError, match=key.replace(".", r"\.")):
        go(tiny("train.steps=25", "train.reports=2", override), out, resume=True)
    assert (out / "recipe.yaml").read_bytes() == before


def test_a_finished_run_can_be_made_longer(tmp_path):
    recipe = tiny("train.schedule=constant")
    go(recipe, tmp_path / "a")
    longer = tiny("train.schedule=constant", "train.steps=7", "train.keep=1", "sample.steps=2")
    model = go(longer, tmp_path / "a", resume=True)
    assert model.training["updates"] == 7
    assert unnoise.load(tmp_path / "a").recipe == longer
    again = go(longer, tmp_path / "a", resume=True)  # nothing is left to do
    assert torch.equal(again.sample(2).x, model.sample(2).x)
    kinds = [row["kind"] for row in lines(tmp_path / "a")]
    assert kinds.count("end") == 3  # the log goes on


def test_a_length_that_the_run_has_passed_is_refused(tmp_path):
    go(tiny("train.steps=4"), tmp_path / "run")
    before = (tmp_path / "run/recipe.yaml").read_bytes()
    with pytest.raises(RecipeError, match=r"made 4 updates already, and train\.steps is 3"):
        go(tiny("train.steps=3"), tmp_path / "run", resume=True)
    assert (tmp_path / "run/recipe.yaml").read_bytes() == before
    assert go(tiny("train.steps=4"), tmp_path / "run", resume=True).training["updates"] == 4


def test_resume_starts_where_nothing_was_saved(tmp_path):
    assert go(tiny("train.steps=1"), tmp_path / "new", resume=True).training["updates"] == 1


def test_resume_says_what_it_passed_over(tmp_path, capsys):
    recipe = tiny("train.schedule=constant")
    go(recipe, tmp_path / "a")
    go(tiny("train.schedule=constant", "train.steps=5"), tmp_path / "a", resume=True)
    newest = tmp_path / "a" / "checkpoints" / "step-00000005" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    longer = tiny("train.schedule=constant", "train.steps=6")
    go(longer, tmp_path / "a", resume=True, quiet=False)
    assert "note: step-00000005 was passed over" in capsys.readouterr().err
    straight = go(longer, tmp_path / "b")
    resumed = unnoise.load(tmp_path / "a", "fp32")
    assert torch.equal(resumed.sample(3).x, straight.sample(3).x)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.source=folder", "data.path=/nowhere/at/all"], "/nowhere/at/all"),
        (["data.split={validation: 5000}"], "5000|samples"),
        (["model.predicts=eps"], "eps says nothing"),
    ],
)
def test_nothing_is_written_where_recipe_or_data_are_at_fault(tmp_path, overrides, words):
    with pytest.raises(UnnoiseError, match=words):
        go(tiny(*overrides), tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        go(tiny(), tmp_path / "file")
    with pytest.raises(ArtifactError, match="cannot be made"):
        go(tiny(), tmp_path / "file" / "below")


def test_labels_that_are_not_shown_need_no_guidance(tmp_path):
    recipe = tiny("model.conditional=false", "sample.guidance=1")
    model = go(recipe, tmp_path / "a")
    assert model.classes == 0
    assert model.sample(3).labels is None
    assert unnoise.load(tmp_path / "a").classes == 0


def test_guidance_on_data_without_labels_is_refused(tmp_path):
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8), "uint8"))
    data = {"source": "arrays", "path": str(tmp_path / "x.npy")}
    with pytest.raises(RecipeError, match="no labels"):
        go(load_recipe(TREE | {"data": data}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_validation(tmp_path):
    go(tiny("data.split={}"), tmp_path / "a")
    kinds = {row["kind"] for row in lines(tmp_path / "a")}
    assert "levels" in kinds
    assert "held_out" not in kinds


def test_weights_that_break_on_the_last_update_are_not_saved(tmp_path, monkeypatch):
    step = loop.Training.updates

    def breaking(self):
        for update in step(self):
            if update.step == 4:
                next(self.denoiser.network.parameters()).data.view(-1)[0] = float("inf")
            yield update

    monkeypatch.setattr(loop.Training, "updates", breaking)
    with pytest.raises(NonFinite, match="after update 4"):
        go(tiny("train.reports=1"), tmp_path / "a")
    assert not (tmp_path / "a" / "model.json").exists()


def test_samples_that_break_down_on_the_way_do_not_end_the_run(tmp_path, monkeypatch, capsys):
    def broken(self, *args, **options):
        raise NonFinite("the walk diverged")

    monkeypatch.setattr(run_room.Model, "sample", broken)
    model = go(tiny("train.reports=2"), tmp_path / "a", quiet=False)
    assert model.training["updates"] == 4
    assert "no samples after update 2: the walk diverged" in capsys.readouterr().err


def test_two_runs_of_a_recipe_are_one(tmp_path):
    a, b = (go(tiny(), tmp_path / name) for name in "ab")
    files = [(tmp_path / n / "model.safetensors").read_bytes() for n in "ab"]
    assert files[0] == files[1]
    assert torch.equal(a.sample(2).x, b.sample(2).x)


def test_data_that_changed_between_the_runs_are_refused(tmp_path):
    import numpy as np

    g = np.random.default_rng(0)
    first = g.integers(0, 256, (30, 8, 8), "uint8")
    np.save(tmp_path / "x.npy", first)
    data = {"source": "arrays", "path": str(tmp_path / "x.npy")}
    recipe = load_recipe(TREE | {"data": data}, ["sample.guidance=1"])
    go(recipe, tmp_path / "run")
    first[3, 4, 4] ^= 1
    np.save(tmp_path / "x.npy", first)
    with pytest.raises(DataError, match="have changed"):
        go(recipe, tmp_path / "run", resume=True)
