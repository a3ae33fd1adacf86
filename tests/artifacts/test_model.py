import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import unnoise
from tests.artifacts.edit import JSON, edit, reweigh
from tests.training.tiny import model_of, tiny
from unnoise.artifacts import Model
from unnoise.errors import ArtifactError, InvalidArgument


def test_what_is_loaded_is_what_was_saved(model, saved):
    loaded = unnoise.load(saved, "fp32")
    assert loaded.recipe == model.recipe
    assert loaded.spec == model.spec
    assert loaded.training == model.training
    a, b = (m.sample(12, seed=3) for m in (model, loaded))
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.values, b.values)
    assert not any(p.requires_grad for p in loaded.denoiser.parameters())
    assert torch.equal(unnoise.sample(str(saved), 2, seed=9), unnoise.sample(saved, 2, seed=9))


def test_the_card_says_what_it_is(saved, model):
    card = (saved / "README.md").read_text()
    digest = json.loads((saved / JSON).read_text())["weights_sha256"]
    for word in (digest, model.spec.fingerprint, model.spec.licence, "name: tiny", "unet"):
        assert word in card


def test_a_recipe_without_clipping_comes_back_without(tmp_path):
    made = model_of(tiny("train.clip=null"))
    assert Model.load(made.save(tmp_path / "m")).recipe.train.clip is None


def test_saving_twice_replaces(model, tmp_path):
    other = model_of(tiny(), size=0.1)
    model.save(tmp_path / "m")
    other.save(tmp_path / "m")
    assert torch.equal(Model.load(tmp_path / "m", "fp32").sample(2).x, other.sample(2).x)
    names = {"model.safetensors", "model.json", "README.md"}
    assert {p.name for p in (tmp_path / "m").iterdir()} == names
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be made"):
        model.save(tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.update(formt=1),
            r"unknown key of .*model\.json 'formt'; did you mean 'format'",
        ),
        (lambda t: t.update(format=4), "format 4.*upgrade"),
        (lambda t: t.pop("format"), "format None"),
        (lambda t: t.pop("weights_sha256"), "lacks weights_sha256"),
        (lambda t: t.update(weights_sha256="0" * 64), "SHA-256 differs"),
        (lambda t: t.update(recipe="digits"), "recipe is no object"),
        (lambda t: t.update(training=[1]), "training is no object"),
        (lambda t: t.update(data=None), "data is no object"),
        (lambda t: t["recipe"].update(extra=1), "unknown key 'extra'"),
        (lambda t: t["recipe"]["network"].update(kind="os.system"), "network is 'os.system'"),
        (lambda t: t["recipe"]["network"].update(widths=[65536] * 4), "lacks|has unknown|tensor"),
        (lambda t: t["recipe"]["network"].update(widths=[10**9]), "less than or equal"),
        (lambda t: t["recipe"]["model"].update(predicts="eps"), "eps says nothing"),
        (lambda t: t["recipe"].pop("path"), "path is missing"),
        (lambda t: t["data"].update(std=[0.0]), "std"),
        (lambda t: t["data"].update(shape=[1, 8]), "shape"),
        (lambda t: t["data"].pop("mean"), "lacks mean"),
        (lambda t: t["data"]["conditions"]["class"].update(names=["a", "a"]), "no two alike"),
        (lambda t: t["data"]["conditions"]["class"].update(names=[*"abcdefg"]), "tensor"),
    ],
)
def test_json_that_says_something_else_is_refused(folder, change, words):
    edit(folder, change)
    with pytest.raises(ArtifactError, match=words):
        Model.load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"format": 1, "format": 1}', b'{"format": NaN}', b"\xff", b"{"]
)
def test_json_that_is_none_is_refused(folder, content):
    (folder / JSON).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.json"):
        Model.load(folder)


@pytest.mark.parametrize("where", [2, 300, -5])
def test_a_flipped_byte_or_a_lost_end_of_the_weights_is_seen(folder, where):
    path = folder / "model.safetensors"
    good = path.read_bytes()
    bad = bytearray(good)
    bad[where] ^= 1
    for content in (bytes(bad), good[:where], b""):
        path.write_bytes(content)
        with pytest.raises(
            ArtifactError, match=r"SHA-256 differs|no sound safetensors|lacks 1 tensors"
        ):
            Model.load(folder)
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        Model.load(folder)


def _lose(tensors):
    del tensors[sorted(tensors)[0]]


def _reshape(tensors):
    name = max(tensors, key=lambda k: tensors[k].numel())
    tensors[name] = tensors[name].flatten()


def _poison(tensors):
    next(iter(tensors.values())).view(-1)[0] = float("nan")


def _widen(tensors):
    name = next(iter(tensors))
    tensors[name] = tensors[name].double()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_lose, "lacks 1 tensors"),
        (_reshape, "the network's is"),
        (_poison, "NaN"),
        (_widen, "float64"),
        (lambda t: t.update(extra=torch.zeros(2)), "unknown 1 tensors, such as 'extra'"),
        (lambda t: t.update({f"x{i}": torch.zeros(0) for i in range(5000)}), "unknown 5000"),
    ],
)
def test_weights_of_another_network_are_refused(folder, change, words):
    reweigh(folder, change)
    with pytest.raises(ArtifactError, match=words):
        Model.load(folder)


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_an_artifact_is_executed(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(_Bomb())
    (folder / "model.safetensors").write_bytes(bomb)
    import hashlib

    edit(folder, lambda t: t.update(weights_sha256=hashlib.sha256(bomb).hexdigest()))
    with pytest.raises(ArtifactError, match="no sound safetensors"):
        Model.load(folder)
    edit(folder, lambda t: t["recipe"].update(name="!!python/object/apply:os.mkdir [executed]"))
    with pytest.raises(ArtifactError):
        Model.load(folder)
    assert not (tmp_path / "executed").exists()


def test_folders_without_a_model_say_what_they_are(tmp_path, folder):
    with pytest.raises(ArtifactError, match="there is no model"):
        Model.load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        Model.load(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"holds no model\.json"):
        Model.load(tmp_path / "empty")
    (tmp_path / "empty" / "checkpoints").mkdir()
    with pytest.raises(ArtifactError, match=r"unnoise train --resume --out"):
        Model.load(tmp_path / "empty")
    with pytest.raises(InvalidArgument, match="fp32"):
        Model.load(folder, "fp8")


def test_a_file_of_the_same_tensors_in_another_order_is_the_same_model(model, folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(dict(reversed(tensors.items())), folder / "model.safetensors", {"note": "x"})
    content = (folder / "model.safetensors").read_bytes()
    import hashlib

    edit(folder, lambda t: t.update(weights_sha256=hashlib.sha256(content).hexdigest()))
    assert torch.equal(Model.load(folder, "fp32").sample(2).x, model.sample(2).x)
