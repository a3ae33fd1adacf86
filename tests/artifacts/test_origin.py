"""What an artifact says of its making."""

import json
import platform
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch

from tests.artifacts.edit import JSON, edit
from tests.training.tiny import model_of, tiny
from unnoise import __version__
from unnoise.artifacts import Model
from unnoise.artifacts.formats import digest
from unnoise.errors import ArtifactError
from unnoise.recipes import resolved


def test_a_model_says_with_what_and_when_it_was_made(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    model = model_of(tiny())
    model.training["ema"] = "power"
    tree = json.loads((model.save(tmp_path / "m") / JSON).read_text())
    said = tree["provenance"]
    assert said["unnoise"] == tree["unnoise"] == __version__
    assert said["torch"] == torch.__version__
    assert said["python"] == platform.python_version()
    assert platform.machine() in said["platform"]
    written = datetime.strptime(said["written"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= written <= datetime.now(UTC)
    assert tree["ema"] == "power"
    assert tree["recipe_sha256"] == digest(resolved(model.recipe)) == digest(tree["recipe"])


def test_a_copy_keeps_where_the_model_was_made(saved, tmp_path):
    edit_time = "2020-02-02T02:02:02Z"
    first = Model.load(saved)
    origin = type(first.origin)("0.0.9", "3.9.1", "2.1.0", "Plan9 mips", edit_time)
    first = replace(first, origin=origin)
    second = Model.load(first.save(tmp_path / "a"))
    tree = json.loads((second.save(tmp_path / "b") / JSON).read_text())
    assert tree["unnoise"] == __version__  # who wrote this file
    assert tree["provenance"] == {
        "unnoise": "0.0.9", "python": "3.9.1", "torch": "2.1.0", "platform": "Plan9 mips",
        "written": edit_time,
    }  # fmt: skip


def test_card_and_repr_show_it(saved):
    model = Model.load(saved)
    tree, card = json.loads((saved / JSON).read_text()), (saved / "README.md").read_text()
    for text in (card, repr(model)):
        for key in ("torch", "python", "platform", "written"):
            assert tree["provenance"][key] in text
        assert __version__ in text
    assert tree["recipe_sha256"] in card
    assert tree["weights_sha256"] in card
    assert tree["weights_sha256"][:12] in repr(model)
    for word in ("tiny", "unet", "velocity", "Flow", "digits", "10 classes"):
        assert word in repr(model)
    assert "unsaved" in repr(model_of(tiny()))


def test_a_card_is_one_table_whatever_the_names(tmp_path):
    model = model_of(tiny())
    model.training["note"] = "a | b\n\n# c"
    lines = (model.save(tmp_path / "m") / "README.md").read_text().splitlines()
    assert r"| note | a \| b # c |" in lines
    assert "# c" not in lines


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update(provenance=None), "provenance is no object"),
        (lambda t: t["provenance"].pop("torch"), "provenance lacks torch"),
        (lambda t: t["provenance"].update(tourch="2"), "tourch.*did you mean 'torch'"),
        (lambda t: t["provenance"].update(torch=2), "torch of provenance is 2"),
        (lambda t: t["provenance"].update(written="x" * 500), "written of provenance"),
        (lambda t: t.update(ema="another"), "ema is 'another', and training says another"),
    ],
)
def test_what_it_cannot_be_is_refused(folder, change, words):
    edit(folder, change)
    with pytest.raises(ArtifactError, match=words):
        Model.load(folder)


def test_a_recipe_hash_that_lies_is_refused(folder):
    from unnoise.artifacts.formats import sealed

    tree = json.loads((folder / JSON).read_text())
    (folder / JSON).write_text(json.dumps(sealed(tree | {"recipe_sha256": "0" * 64})))
    with pytest.raises(ArtifactError, match="recipe is not the one"):
        Model.load(folder)
