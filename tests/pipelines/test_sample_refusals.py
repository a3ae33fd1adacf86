"""What stands in the way of samples on the disk: one clear error, and nothing lost."""

import errno
import json
import os
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "campaigns"))

from forked import fork

from tests.pipelines.test_sample_many import KINDS, OPTIONS, SMALL, files, model, stopped, whole
from tests.safe_files.test_atomic_folder import Watch
from tests.training.tiny import model_of, tiny
from unnoise.errors import ArtifactError, InvalidArgument, UnnoiseError
from unnoise.pipelines import sample_files, sample_many
from unnoise.pipelines.sample_many import job_for
from unnoise.sampling import SampleRequest

__all__ = ["model", "whole"]


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The same network with other weights, and another network of weights of the same shapes."""
    folder = tmp_path_factory.mktemp("others")
    return {
        "weights": model_of(tiny(SMALL), 0.2).save(folder / "weights"),
        "path": model_of(tiny(SMALL, "path={kind: vp}"), 0.3).save(folder / "path"),
    }


CHANGES = {
    "n": 12, "batch": 5, "steps": 3, "seed": 4, "solver": "ddim", "grid": "uniform",
    "guidance": 2.0, "first": 1, "classes": ["3"], "precision": "bf16",
}  # fmt: skip


@pytest.mark.parametrize("state", ["begun", "finished"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_request_is_refused_naming_what_differs(
    kind, state, model, whole, others, tmp_path, monkeypatch
):
    from unnoise.sampling import precision

    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)
    out = tmp_path / KINDS[kind]
    if state == "begun":
        stopped(model, out)
    else:
        shutil.copytree(whole[kind], tmp_path, dirs_exist_ok=True)
    before = files(tmp_path)
    for name, value in CHANGES.items():
        with pytest.raises(ArtifactError, match=rf"\b{name} .*, not ") as said:
            sample_many(model, out, **{**OPTIONS, name: value})
        assert "give another --out" in str(said.value)
    for name, named in (("weights", "weights_sha256"), ("path", "recipe_sha256")):
        with pytest.raises(ArtifactError, match=f"{named} .*, not "):
            sample_many(others[name], out, **OPTIONS)
    assert files(tmp_path) == before
    sample_many(model, out, **OPTIONS)
    assert files(tmp_path) == files(whole[kind])


@pytest.mark.parametrize("name", ["x.npy", "x.labels.npy", "x/picture.png", "x/notes.txt"])
def test_what_is_there_already_is_never_written_over(name, model, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ArtifactError, match="give another --out"):
        sample_many(model, tmp_path / ("x" if "/" in name else "x.npy"), **OPTIONS)
    assert files(tmp_path) == {name: b"mine"}


def test_what_appears_meanwhile_is_not_written_over(model, whole, tmp_path):
    stopped(model, tmp_path / "x.npy")
    (tmp_path / "x.npy").write_text("mine")
    with pytest.raises(ArtifactError, match="move it away"):
        sample_many(model, tmp_path / "x.npy", **OPTIONS)
    assert (tmp_path / "x.npy").read_text() == "mine"
    (tmp_path / "x.npy").unlink()
    assert sample_many(model, tmp_path / "x.npy", **OPTIONS).blocks == 0
    assert files(tmp_path) == files(whole["array"])


def test_finished_files_that_were_changed_are_said(model, whole, tmp_path):
    for kind in KINDS:
        shutil.copytree(whole[kind], tmp_path / kind)
    array, folder = tmp_path / "array" / "x.npy", tmp_path / "folder" / "x"
    os.truncate(array, 100)
    (folder / "00003-3.png").unlink()
    for out, words in ((array, "holds 100 bytes"), (folder, "holds 10 pictures")):
        with pytest.raises(ArtifactError, match=words):
            sample_many(model, out, **OPTIONS)
    array.unlink()  # removed as a whole: drawn again
    (tmp_path / "array" / "x.labels.npy").unlink()
    assert sample_many(model, array, **OPTIONS).blocks == 3
    assert files(tmp_path / "array") == files(whole["array"])


def _changed(change):
    return lambda text: json.dumps({**json.loads(text), **change})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text[:50], "sound JSON"),
        (_changed({"format": 3}), "of format 2"),
        (_changed({"extra": 1}), "unknown key"),
        (_changed({"drawn": []}), "drawn is"),
        (_changed({"threads": "2"}), "threads is"),
        (_changed({"asked": None}), "asked is"),
        (lambda text: "[" * 100_000, "sound JSON"),
    ],
)
def test_a_damaged_description_is_said(edit, words, model, tmp_path):
    out = stopped(model, tmp_path / "x.npy")
    card = tmp_path / "x.npy.partial" / "samples.json"
    card.write_text(edit(card.read_text()))
    for resume in (False, True):
        with pytest.raises(ArtifactError, match=words):
            sample_many(model, out, **OPTIONS, resume=resume)


def test_options_that_a_description_cannot_have(model, tmp_path):
    out = stopped(model, tmp_path / "x.npy")
    card = tmp_path / "x.npy.partial" / "samples.json"
    text = card.read_text()
    for change in (
        {"n": "12"},
        {"batch": None, "sed": 3},
        {"first": -4},
        {"classes": [99]},
        {"device": 3},
    ):
        tree = json.loads(text)
        tree["asked"] |= change
        card.write_text(json.dumps(tree))
        with pytest.raises(UnnoiseError, match=r"n is|unknown|first is|class 99|device is"):
            sample_many(model, out, resume=True)


def test_damaged_blocks_are_said(model, whole, tmp_path):

    out = stopped(model, tmp_path / "x.npy")
    blocks = tmp_path / "x.npy.partial" / "blocks"
    (blocks / "00000007-4").touch()
    with pytest.raises(ArtifactError, match=r"block 7 of 3; .* remove .*x\.npy\.partial"):
        sample_many(model, out, **OPTIONS)
    (blocks / "00000007-4").unlink()
    os.truncate(blocks / "00000000-4", 5)
    with pytest.raises(ArtifactError, match=r"00000000-4 holds 5 bytes of 256; .* remove it"):
        sample_many(model, out, **OPTIONS)
    (blocks / "00000000-4").unlink()
    assert sample_many(model, out, **OPTIONS).blocks == 1
    assert files(tmp_path) == files(whole["array"])


def of_format_1(card):
    """Make a samples.json one of format 1, as the release before this one wrote them."""
    tree = json.loads(card.read_text())
    (section,) = tree["drawn"].pop("guidance")
    flat = {"guidance": section["scale"], "interval": None, "rescale": 0.0}
    asked = dict.fromkeys(("solver", "grid", "guidance", "classes")) | tree["asked"]
    drawn = tree["drawn"] | flat | {"solver": "Multistep(points=2, opening=None)"}
    card.write_text(json.dumps(tree | {"format": 1, "drawn": drawn, "asked": asked}))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfinished_job_of_the_old_layout_is_refused_with_a_remedy(kind, model, whole, tmp_path):
    out = stopped(model, tmp_path / KINDS[kind])
    work = tmp_path / ("x.npy.partial" if kind == "array" else "x/.partial")
    of_format_1(work / "samples.json")
    before = files(tmp_path)
    remedy = work if kind == "array" else out
    for resume in (False, True):
        with pytest.raises(ArtifactError, match=rf"older release.* or remove {remedy} to start"):
            sample_many(model, out, **OPTIONS, resume=resume)
    assert files(tmp_path) == before
    shutil.rmtree(remedy)
    assert sample_many(model, out, **OPTIONS).blocks == 3
    assert files(tmp_path) == files(whole[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_output_of_the_old_format_is_known(kind, model, whole, tmp_path):
    shutil.copytree(whole[kind], tmp_path, dirs_exist_ok=True)
    out = tmp_path / KINDS[kind]
    of_format_1(tmp_path / ("x.samples.json" if kind == "array" else "x/samples.json"))
    for resume in (False, True):
        assert sample_many(model, out, **OPTIONS, resume=resume).before
    for change in ({"guidance": 2.0}, {"rescale": 0.5}, {"seed": 4}):
        with pytest.raises(ArtifactError, match=r"(guidance|seed) .*, not "):
            sample_many(model, out, **{**OPTIONS, **change})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x.npz", {}, "streamed to a .npy or a folder"),
        ("none/x.npy", {}, "there is no folder"),
        ("x.npy", {"n": 0}, "n is 0"),
        ("x.npy", {"batch": 0}, "batch is 0"),
        ("x.npy", {"processes": 0}, "processes is 0"),
        ("x.npy", {"seed": 2**64}, "seed"),
        ("x.npy", {"first": 2**64}, "indices"),
        ("x.npy", {"classes": ["cat"]}, "class 'cat'"),
        ("x.npy", {"classes": ["1"] * 12}, "12 classes for 11"),
        ("x.npy", {"resume": True}, "nothing to go on with"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_nothing_written(
    name, options, words, model, tmp_path
):
    with pytest.raises(InvalidArgument, match=words):
        sample_many(model, tmp_path / name, **{**OPTIONS, **options})
    assert not list(tmp_path.iterdir())


def test_no_second_launcher(model, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidArgument, match="has started 2 already"):
        sample_many(model, tmp_path / "x.npy", **OPTIONS, processes=3)


def test_vectors_have_no_folder(tmp_path):
    import numpy as np

    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 3)).astype("float32"))
    data = ["data.source=arrays", f"data.path={tmp_path / 'v.npy'}", "data.split={}"]
    vectors = model_of(tiny(*data, SMALL, "sample.guidance=1")).save(tmp_path / "m")
    with pytest.raises(InvalidArgument, match=r"give --out samples\.npy"):
        sample_many(vectors, tmp_path / "x", **OPTIONS)


def test_no_room_is_found_before_work(model, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(sample_files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactError, match=r"take \d[\d,]* bytes, .* has 500 free; make room"):
        sample_many(model, tmp_path / "x.npy", **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_loses_nothing(model, whole, tmp_path, monkeypatch):
    sync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) == 3:  # after the description and the first block
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"No space left on device; what is done stays"):
        sample_many(model, tmp_path / "x.npy", **OPTIONS)
    monkeypatch.undo()
    assert sample_many(model, tmp_path / "x.npy", **OPTIONS).blocks == 2
    assert files(tmp_path) == files(whole["array"])


@pytest.mark.parametrize("there", ["", "a", "a/x"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_fails_at_any_operation_leaves_no_folder_behind(
    kind, there, model, whole, tmp_path
):
    """A disk that is full at one operation, of beginning an output in folders that are not there,
    or are."""

    def attempt(name, fail_at):
        place = tmp_path / name
        (place / there).mkdir(parents=True)
        out = place / "a" / "x"
        if kind == "array":
            out.mkdir(parents=True, exist_ok=True)
            out /= "x.npy"
        before = sorted(place.rglob("*"))
        job = job_for(model, out, SampleRequest.of(**OPTIONS))
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with pytest.MonkeyPatch.context() as patch:
            watch = Watch(patch, fail_at, full, False)
            try:
                job.begin(1)
            except ArtifactError as error:
                said = str(error)
            else:
                said = ""
        if said:
            assert full.strerror in said
            assert sorted(place.rglob("*")) == before, (fail_at, watch.seen)
        assert sample_many(model, out, **OPTIONS).blocks == 3
        assert len(files(place)) == len(files(whole[kind]))
        return watch.count, said

    total, _ = attempt("count", -1)
    failed = [bool(attempt(f"at{k}", k)[1]) for k in range(1, total + 1)]
    assert sum(failed) >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_may_not_grow(kind, model, tmp_path):
    """A limit on the size of files: of the first block, of the labels after all pictures."""
    n = 200
    out, options = tmp_path / "a" / KINDS[kind], {**OPTIONS, "n": n, "batch": 60}
    out.parent.mkdir()

    def work(say):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2600, 2600))
        try:
            sample_many(model, out, **options)
        except ArtifactError as error:
            say(str(error))

    code, said = fork(work, tmp_path / "errors.txt").end()
    assert code == 0, (tmp_path / "errors.txt").read_text()
    assert "cannot be written: File too large" in said[0]
    left = files(tmp_path / "a")
    assert all(".partial" in name for name in left) if kind == "array" else len(left) > n
    assert sample_many(model, out, **options).blocks == (4 if kind == "array" else 0)
    (tmp_path / "b").mkdir()
    sample_many(model, tmp_path / "b" / KINDS[kind], **options)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_numbers_that_break_down_leave_what_is_done(model, whole, tmp_path, monkeypatch):
    from unnoise.sampling import Stream

    draw = Stream.draw

    def broken(self, block, on_step=None):
        if block == 1:
            torch.manual_seed(0)
            raise ArithmeticError("not finite")
        return draw(self, block, on_step)

    monkeypatch.setattr(Stream, "draw", broken)
    with pytest.raises(ArithmeticError):
        sample_many(model, tmp_path / "x.npy", **OPTIONS)
    monkeypatch.undo()
    assert sample_many(model, tmp_path / "x.npy", **OPTIONS).blocks == 2
    assert files(tmp_path) == files(whole["array"])
