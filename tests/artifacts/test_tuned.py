"""Tuned solvers beside the weights: there and back, used when asked for, refused when damaged."""

import json
from dataclasses import replace

import pytest
import torch

from unnoise.artifacts import Model, load, write_tuned
from unnoise.errors import ArtifactError, InvalidArgument
from unnoise.recipes import guidance_text
from unnoise.sampling import SampleRequest, calibrate
from unnoise.solvers import Auto


@pytest.fixture(scope="module")
def tuned(model, tmp_path_factory):
    """A model tuned for 4 steps, saved."""
    kept, found = calibrate(model.facts, SampleRequest.of(steps=4), starts=18, tries=2)
    assert found.tries >= 2
    assert guidance_text(kept.guidance) == "1.5"
    return replace(model, tuned={4: kept}).save(tmp_path_factory.mktemp("tuned") / "m")


@pytest.fixture
def file(tuned, tmp_path):
    """A copy of it to damage."""
    import shutil

    return shutil.copytree(tuned, tmp_path / "m") / "tuned" / "steps-4.json"


def test_there_and_back(tuned, tmp_path):
    loaded = load(tuned)
    assert list(loaded.tuned) == [4]
    assert sorted(p.name for p in tuned.iterdir()) == [
        "README.md", "model.json", "model.safetensors", "tuned",
    ]  # fmt: skip
    again = loaded.save(tmp_path / "again")
    assert (again / "tuned" / "steps-4.json").read_bytes() == (
        tuned / "tuned" / "steps-4.json"
    ).read_bytes()


def test_it_is_what_samples(tuned):
    loaded, seen = load(tuned), []
    made = loaded.sample(
        3, solver="tuned", steps=4, on_step=lambda k, said: seen.append(float(said.t))
    )
    solver = loaded.tuned[4].solver
    assert made.nfe == 8  # guidance looks twice
    assert seen == solver.own_grid(loaded.denoiser.path, 4).tolist()[:-1]
    other = loaded.sample(3, solver=solver, steps=4)
    assert torch.equal(made.x, other.x)
    assert not torch.equal(made.x, loaded.sample(3, solver="auto", steps=4).x)


def test_auto_brings_its_grid_unless_one_is_given(model, monkeypatch):
    monkeypatch.setattr(model.denoiser, "data_std", 0.4)
    model = replace(model)  # a copy of this setting

    def times(**options):
        seen = []
        model.sample(2, guidance=1, **options, on_step=lambda k, said: seen.append(float(said.t)))
        return seen

    std, path = model.denoiser.data_std, model.denoiser.path
    own = Auto(std).own_grid(path, 5).tolist()[:-1]
    assert times(solver="auto", steps=5) == own
    assert times(solver="auto", steps=5, grid="own") == own
    assert times(solver="auto", steps=5, grid="uniform") == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert times(solver="auto", grid=[0.9, 0.4, 0.0]) == [0.9, 0.4]
    with pytest.raises(InvalidArgument, match="no grid of its own"):
        model.sample(2, solver="ddim", grid="own")
    with pytest.raises(InvalidArgument, match="unknown option of grid 'own'"):
        model.sample(2, solver="auto", grid={"kind": "own", "rho": 3})


def test_a_recipe_can_ask_for_auto():
    from tests.training.tiny import model_of, tiny
    from unnoise.errors import UnnoiseError
    from unnoise.recipes import check

    asked = tiny("sample.solver=auto", "sample.grid.kind=own", "sample.steps=3")
    seen = []
    made = model_of(asked)
    made.sample(2, on_step=lambda k, said: seen.append(float(said.t)))
    own = Auto(made.denoiser.data_std).own_grid(made.denoiser.path, 3)
    assert seen == own.tolist()[:-1]
    with pytest.raises(UnnoiseError, match="no grid of its own"):
        check(tiny("sample.grid.kind=own"))


def test_what_was_not_tuned_is_refused(tuned):
    loaded = load(tuned)
    with pytest.raises(InvalidArgument, match=r"not tuned for 5 steps \(tuned for: 4\); run"):
        loaded.sample(2, solver="tuned", steps=5)
    with pytest.raises(InvalidArgument, match=r"guidance is 3, .* tuned with 1.5;"):
        loaded.sample(2, solver="tuned", steps=4, guidance=3.0)
    with pytest.raises(
        InvalidArgument, match=r"guidance is 1.5 in \[0.1, 0.5\], .* tuned with 1.5;"
    ):
        loaded.sample(2, solver="tuned", steps=4, interval=(0.1, 0.5))
    for grid in ("karras", [1.0, 0.7, 0.5, 0.3, 0.0]):
        with pytest.raises(InvalidArgument, match="walks no other grid"):
            loaded.sample(2, solver="tuned", steps=4, grid=grid)
    with pytest.raises(InvalidArgument, match="starts is 15"):
        calibrate(loaded.facts, SampleRequest.of(steps=4), starts=15)


OLD = {"format": 1, "guidance": 1.5, "interval": None, "rescale": 0.0}


def test_one_of_format_1_is_read(file):
    change(file, **OLD | {"interval": [0.1, 0.5], "rescale": 0.3})
    (section,) = load(file.parent.parent).tuned[4].guidance
    assert (section.scale, section.interval, section.rescale) == (1.5, (0.1, 0.5), 0.3)
    change(file, **OLD | {"guidance": 1.0})
    assert load(file.parent.parent).tuned[4].guidance == ()


def change(file, **values):
    tree = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(tree | values), "utf-8")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"format": 3}, "has format 3, written by a newer unnoise"),
        ({"weights_sha256": "0" * 64}, "tuned for other weights"),
        ({"surprise": 1}, "unknown key of"),
        ({"guidance": "a"}, "is damaged"),
        ({"guidance": True}, "is damaged"),
        ({"guidance": [{"kind": "classifier_free"}]}, "is damaged"),
        ({"guidance": [{"kind": "classifier_free", "scale": 2, "interval": [0.1]}]}, "is damaged"),
        ({"guidance": [{"kind": "other", "scale": 2}]}, "known: classifier_free"),
        ({"interval": None}, "unknown key .* 'interval'"),
        ({"format": 1}, "lacks interval, rescale"),
        (OLD | {"guidance": "a"}, "is damaged"),
        (OLD | {"guidance": True}, "is damaged"),
        (OLD | {"interval": [0.1]}, "is damaged"),
        (OLD | {"interval": {}}, "is damaged"),
        (OLD | {"rescale": 2}, "is damaged"),
        ({"measured": []}, "is damaged"),
        ({"solver": []}, "exactly the keys"),
        ({"solver": {"kappa": 1.0, "places": [1, 0], "predict": [[1]], "correct": [[]]}},
         "holds a solver of 1 steps"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(file, values, says):
    change(file, **values)
    with pytest.raises(ArtifactError, match=says) as error:
        Model.load(file.parent.parent)
    assert "steps-4.json" in str(error.value)


def test_more_damage(file):
    folder = file.parent.parent
    tree = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({k: v for k, v in tree.items() if k != "guidance"}), "utf-8")
    with pytest.raises(ArtifactError, match="lacks guidance; remove it, or tune again"):
        Model.load(folder)
    for text in ("{", '{"format": NaN}', '{"a": 1, "a": 1}', ""):
        file.write_text(text, "utf-8")
        with pytest.raises(ArtifactError, match=r"steps-4\.json"):
            Model.load(folder)
    file.unlink()
    assert Model.load(folder).tuned == {}
    file.parent.rmdir()
    file.parent.write_text("x")
    with pytest.raises(ArtifactError, match="is no folder"):
        Model.load(folder)


def test_tuning_again_replaces(tuned, tmp_path):
    import shutil

    folder = shutil.copytree(tuned, tmp_path / "m")
    loaded = load(folder)
    kept, _ = calibrate(loaded.facts, SampleRequest.of(steps=4, guidance=1.0), starts=18, tries=1)
    digest = json.loads((folder / "model.json").read_text())["weights_sha256"]
    write_tuned(folder, kept, digest)
    assert load(folder).tuned[4].guidance == ()
