"""Artifacts that earlier releases wrote: real files, kept here as they were written."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.artifacts.edit import JSON, WEIGHTS, edit, reweigh
from unnoise import __version__
from unnoise.artifacts import Model
from unnoise.artifacts.formats import MODEL, MODEL_STEPS, digest, migrate
from unnoise.errors import ArtifactError, DataError

HERE = Path(__file__).parent / "formats"
KEPT = sorted(f for f in HERE.glob("*/*") if f.is_dir())


def test_every_format_has_an_artifact():
    assert {int(folder.parent.name) for folder in KEPT} == set(range(1, MODEL + 1))
    assert sum(f.stat().st_size for f in HERE.rglob("*") if f.is_file()) < 200_000


@pytest.mark.parametrize("folder", KEPT, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_it_loads_and_samples_as_it_did(folder):
    assert json.loads((folder / JSON).read_text())["format"] == int(folder.parent.name)
    model = Model.load(folder, "fp32")
    for what, options in (("samples", {}), ("tuned", {"solver": "tuned", "steps": 4})):
        expected = folder.parent / f"{folder.name}.{what}.npy"
        if not expected.exists():
            assert what == "tuned"
            assert not model.tuned
            continue
        made = model.sample(6, seed=3, **options).x.numpy()
        wanted = np.load(expected, allow_pickle=False)
        np.testing.assert_allclose(made, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("folder", KEPT, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_written_again_it_has_the_newest_format_and_samples_bitwise_the_same(folder, tmp_path):
    old = Model.load(folder, "fp32")
    again = old.save(tmp_path / "again")
    tree = json.loads((again / JSON).read_text())
    assert tree["format"] == MODEL
    assert tree["provenance"] == old.origin.to_dict()
    new = Model.load(again, "fp32")
    assert torch.equal(new.sample(3).x, old.sample(3).x)
    assert (new.recipe, new.spec, new.training) == (old.recipe, old.spec, old.training)
    assert new.origin == old.origin
    assert tree["modules"] == ["denoiser"]
    tensors, before = (load_file(f / WEIGHTS) for f in (again, folder))
    old_names = {f"denoiser.network.{k.removeprefix('denoiser.network.')}": k for k in before}
    assert tensors.keys() == old_names.keys()
    assert all(torch.equal(tensors[k], before[v]) for k, v in old_names.items())
    assert (
        new.save(folder=tmp_path / "third").joinpath(WEIGHTS).read_bytes()
        == (again / WEIGHTS).read_bytes()
    )
    assert {k: t.solver for k, t in new.tuned.items()} == {
        k: t.solver for k, t in old.tuned.items()
    }


def test_what_format_1_did_not_note_is_none_and_what_it_did_is_kept():
    tree = json.loads((HERE / "1" / "last" / JSON).read_text())
    before = copy.deepcopy(tree)
    new = MODEL_STEPS[1](tree)
    assert tree == before  # its argument is left alone
    assert new["provenance"] == {
        "unnoise": "0.1.0", "python": None, "torch": None, "platform": None, "written": None,
    }  # fmt: skip
    assert new["ema"] == tree["training"]["ema"]
    assert new["recipe_sha256"] == digest(tree["recipe"])
    assert all(new[key] == tree[key] for key in tree.keys() - {"format"})
    model = Model.load(HERE / "1" / "last")
    assert "written" not in str(model.origin)
    assert str(model.origin) == "unnoise 0.1.0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("weights_sha256"), "lacks weights_sha256"),
        (lambda t: t.update(sha256="0" * 64), "unknown key .* 'sha256'"),
        (lambda t: t.update(training=None), "training is no object"),
        (lambda t: t.update(unnoise=1), "unnoise is 1"),
        (lambda t: t.update(weights_sha256=None), "weights_sha256 is None"),
        (lambda t: t.update(weights_sha256="f" * 63), "weights_sha256 is no SHA-256"),
        (lambda t: t["recipe"].update(surprise=1), "unknown key 'surprise'"),
        (lambda t: t.update(format=2), "lacks recipe_sha256, ema, provenance, sha256"),
        (lambda t: t.update(format=True), "has format True"),
        (lambda t: t.update(format=0), "has format 0"),
        (lambda t: t.update(format="1"), "has format '1'"),
        (lambda t: t.update(format=[1]), r"has format \[1\]"),
        (lambda t: t.update(format=None), "has format None"),
    ],
)
def test_a_damaged_old_one_is_refused(tmp_path, change, words):
    folder = shutil.copytree(HERE / "1" / "first", tmp_path / "m")
    tree = json.loads((folder / JSON).read_text())
    change(tree)
    (folder / JSON).write_text(json.dumps(tree))
    with pytest.raises(ArtifactError, match=words):
        Model.load(folder)


def test_a_newer_one_names_the_release_that_reads_it(folder):
    tree = json.loads((folder / JSON).read_text())
    newer = tree | {"format": MODEL + 3, "unnoise": "7.4.1", "more": 1}
    (folder / JSON).write_text(json.dumps(newer))
    with pytest.raises(ArtifactError, match=r"written by unnoise 7\.4\.1.*unnoise>=7\.4\.1'"):
        Model.load(folder)
    for lie in ("7'; rm -rf ~", None, 7, __version__, "x" * 10_000, "9" * 40):
        (folder / JSON).write_text(json.dumps(newer | {"unnoise": lie}))
        with pytest.raises(ArtifactError, match="written by a newer unnoise") as error:
            Model.load(folder)
        assert "rm -rf" not in str(error.value)
        assert len(str(error.value)) < 500


def test_steps_are_taken_in_turn_from_the_one_that_is_there():
    steps = {n: lambda t, n=n: {**t, "format": n + 1, "seen": [*t["seen"], n]} for n in (1, 2, 3)}
    for first in (1, 2, 3, 4):
        tree = {"format": first, "seen": []}
        made = migrate(tree, steps, 4, "a thing")
        assert made == {"format": 4, "seen": list(range(first, 4))}
        assert tree == {"format": first, "seen": []}
    with pytest.raises(DataError, match=r"a thing of format 2 is damaged.*to format 3.*'seen'"):
        migrate({"format": 2}, steps, 4, "a thing", DataError)
    for tree in ({"format": 5}, {"format": 0}, {}, [], None, {"format": 1.0}, {"format": True}):
        with pytest.raises(DataError, match="a thing"):
            migrate(tree, steps, 4, "a thing", DataError)


def test_a_changed_description_is_seen_though_every_key_is_sound(folder):
    text = (folder / JSON).read_text()
    for old, new in (("6.018", "6.019"), ('"solver": "dpmpp_2m"', '"solver": "ddim"')):
        assert old in text
        (folder / JSON).write_text(text.replace(old, new))
        with pytest.raises(ArtifactError, match="was changed after it was written"):
            Model.load(folder)
    tree = json.loads(text)
    (folder / JSON).write_text(
        json.dumps(dict(reversed(tree.items())))
    )  # another order is no change
    Model.load(folder)


def test_the_newest_lists_its_modules_and_names_tensors_by_them(folder):
    tree = json.loads((folder / JSON).read_text())
    for modules in ([], ["denoiser", "critic"], ["critic"], "denoiser", None):
        edit(folder, lambda t, m=modules: t.update(modules=m))
        with pytest.raises(ArtifactError, match=r"modules are .* of one module, denoiser"):
            Model.load(folder)
    edit(folder, lambda t: t.update(modules=tree["modules"]))
    Model.load(folder)

    def bare(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("denoiser.network.")] = tensors.pop(name)

    reweigh(folder, bare)
    with pytest.raises(ArtifactError, match=r"lacks .* such as .denoiser\.network\."):
        Model.load(folder)


def test_flat_guidance_of_an_old_one_is_one_section():
    model = Model.load(HERE / "2" / "last", "fp32")
    (section,) = model.recipe.sample.guidance
    assert (section.kind, section.scale, section.interval, section.rescale) == (
        "classifier_free", 1.5, (0.1, 0.9), 0.3,
    )  # fmt: skip
    assert model.tuned[4].guidance == (section,)


def test_a_changed_old_description_is_seen(tmp_path):
    """Migration makes a seal of its own: that of the file is checked before."""
    folder = shutil.copytree(HERE / "2" / "last", tmp_path / "m")
    text = (folder / JSON).read_text()
    assert '"updates": 0' in text
    (folder / JSON).write_text(text.replace('"updates": 0', '"updates": 9'))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        Model.load(folder)
