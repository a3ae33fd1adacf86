"""Saving over an artifact: cut short anywhere, it leaves all of the old or all of the new."""

import errno
import io
import os
import shutil

import pytest
import torch

from tests.training.tiny import model_of, tiny
from unnoise.artifacts import Model
from unnoise.artifacts.tuned_files import write_tuned
from unnoise.errors import ArtifactError
from unnoise.recipes import SampleConfig
from unnoise.safe_files import atomic_folder
from unnoise.sampling import TunedSolver
from unnoise.solvers import Tuned

OPERATIONS = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir")
NAMES = {"model.safetensors", "model.json", "README.md"}


class Killed(BaseException):
    """The process is gone: no handler of it can do anything any more."""


class Full(io.FileIO):
    """A file on a disk that fails in the middle of a write."""

    def __init__(self, path, watch):
        super().__init__(path, "wb")
        self.watch = watch

    def write(self, content):
        try:
            self.watch("write")
        except BaseException:
            super().write(bytes(content)[: len(content) // 2])
            raise
        return super().write(content)


class Watch:
    """Counts the file operations of a save and fails at one of them, or from it on."""

    def __init__(self, monkeypatch, fail_at, fault, forever):
        self.count, self.fail_at, self.fault, self.forever = 0, fail_at, fault, forever
        self.seen = []
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self.watched(name, getattr(os, name)))
        monkeypatch.setattr(io, "open", lambda path, mode, *rest: Full(path, self))

    def watched(self, name, real):
        def call(*arguments, **options):
            self(name)
            return real(*arguments, **options)

        return call

    def __call__(self, name):
        self.count += 1
        self.seen.append(name)
        if self.count == self.fail_at or (self.forever and self.count > self.fail_at):
            raise self.fault


def save_failing(model, folder, fail_at, fault, forever=False):
    """Save with a fault at one operation: (the operations that were begun, what was raised)."""
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(patch, fail_at, fault, forever)
        try:
            model.save(folder)
        except (Killed, ArtifactError) as error:
            return watch.seen, error
    return watch.seen, None


GUIDED = SampleConfig(guidance=1.5).guidance


@pytest.fixture(scope="module")
def pair():
    """Two models that differ in everything; the first is tuned for one step."""
    old, new = model_of(tiny("name=old")), model_of(tiny("name=new", "network.blocks=2"), 0.1)
    one = Tuned.from_dict({"kappa": 1.0, "places": [1, 0], "predict": [[1]], "correct": [[]]})
    old.tuned[1] = TunedSolver(one, guidance=GUIDED)
    return old, new


def which(folder, pair):
    """The one of two models that lies in a folder, all of it."""
    found = Model.load(folder, "fp32")
    (one,) = [m for m in pair if m.recipe.name == found.recipe.name]
    state = one.denoiser.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in found.denoiser.state_dict().items())
    assert {k: t.solver for k, t in found.tuned.items()} == {
        k: t.solver for k, t in one.tuned.items()
    }
    return one


def operations(pair, tmp_path):
    before, after = pair
    return save_failing(after, before.save(tmp_path / "count"), -1, None)[0]


@pytest.mark.parametrize("turned", [False, True], ids=["tuned before", "tuned after"])
def test_killed_at_any_operation_it_is_all_old_or_all_new(pair, tmp_path, turned):
    before, after = pair[::-1] if turned else pair
    good = before.save(tmp_path / "good")
    total = len(operations((before, after), tmp_path))
    assert total > 20
    third, found = model_of(tiny("name=third")), []
    for k in range(1, total + 1):
        folder = shutil.copytree(good, tmp_path / f"at{k}")
        _, error = save_failing(after, folder, k, Killed(), forever=True)
        assert isinstance(error, Killed)
        found.append(which(folder, pair))
        third.save(folder)  # what the crash left is cleared away
        assert {p.name for p in folder.iterdir()} == NAMES
        assert '"name": "third"' in (folder / "model.json").read_text()
    assert found[0] is before
    assert found[-1] is after
    assert found == sorted(found, key=lambda model: model is after)  # once new, it stays new


def test_a_disk_that_fails_at_any_operation_is_said_and_loses_nothing(pair, tmp_path):
    good = pair[0].save(tmp_path / "good")
    total = len(operations(pair, tmp_path))
    for k in range(1, total + 1):
        folder = shutil.copytree(good, tmp_path / f"at{k}")
        code = (errno.ENOSPC, errno.EROFS, errno.EIO)[k % 3]
        seen, error = save_failing(pair[1], folder, k, OSError(code, os.strerror(code)))
        one = which(folder, pair)
        if error is None:  # the fault was in clearing up
            assert one is pair[1]
        else:
            assert os.strerror(code) in str(error)
            assert ("untouched" in str(error)) == (one is pair[0]), seen[-1]
        pair[1].save(folder)
        assert {p.name for p in folder.iterdir()} == NAMES


def test_the_first_save_cut_short_is_no_model_or_a_whole_one(pair, tmp_path):
    total = len(save_failing(pair[0], tmp_path / "count", -1, None)[0])
    found = []
    for k in range(1, total + 1):
        folder = tmp_path / f"at{k}"
        save_failing(pair[0], folder, k, Killed(), forever=True)
        try:
            found.append(which(folder, pair))
        except ArtifactError:
            with pytest.raises(ArtifactError, match=r"there is no model|holds no model\.json"):
                Model.load(folder)
            found.append(None)
    assert found[0] is None
    assert found[-1] is pair[0]
    assert found == sorted(found, key=lambda model: model is not None)


@pytest.mark.parametrize("there", ["", "a", "a/m", "a/m/notes.txt"])
def test_a_first_save_on_a_disk_that_fails_leaves_what_was_there(pair, tmp_path, there):
    def start(name):
        place = tmp_path / name / there
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix:
            place.write_text("mine")
        else:
            place.mkdir(exist_ok=True)
        return tmp_path / name

    def below(folder):
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))

    total = len(save_failing(pair[0], start("count") / "a" / "m", -1, None)[0])
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    untouched = 0
    for k in range(1, total + 1):
        folder = start(f"at{k}")
        before = below(folder)
        _, error = save_failing(pair[0], folder / "a" / "m", k, full)
        if error is not None and "can be read as it is" not in str(error):
            assert below(folder) == before
            untouched += 1
        else:
            assert which(folder / "a" / "m", pair) is pair[0]
    assert untouched > 8


def test_an_interrupt_before_the_files_change_leaves_the_folder_as_it_was(pair, tmp_path):
    folder = pair[0].save(tmp_path / "m")
    before = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    _, error = save_failing(pair[1], folder, 6, Killed())
    assert isinstance(error, Killed)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == before


def test_tuning_after_a_crash_is_not_hidden_by_what_the_crash_left(pair, tmp_path):
    folder = pair[1].save(tmp_path / "m")

    def stop(place):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            atomic_folder, "recover", lambda at: stop(at) if (at / ".next").exists() else None
        )
        with pytest.raises(Killed):
            pair[0].save(folder)
    loaded = Model.load(folder)
    assert (loaded.recipe.name, list(loaded.tuned)) == ("old", [1])
    kept = TunedSolver(loaded.tuned[1].solver, guidance=())
    write_tuned(folder, kept, loaded.weights_sha256)
    assert Model.load(folder).tuned[1].guidance == ()


def test_a_folder_that_cannot_be_written_is_said(pair, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside", tmp_path / ("x" * 300)):
        with pytest.raises(ArtifactError, match="cannot be made"):
            pair[0].save(place)
