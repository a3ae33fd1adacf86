"""Faults of the folder of a run: held by another process, full, not to be written."""

import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch

from tests.training.test_run import go, lines
from tests.training.tiny import tiny
from unnoise.errors import ArtifactError, RecipeError
from unnoise.training import Checkpoints, run, stopping
from unnoise.training.folder import held, need_same


def forked(work, *arguments):
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def hold(out, ready):
    with held(out):
        ready.touch()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path / "run"."""
    process = forked(hold, tmp_path / "run", tmp_path / "ready")
    while not (tmp_path / "ready").exists():
        assert process.is_alive()
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_process_is_refused_and_told_whose_the_folder_is(resume, holder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match=rf"run is in use by process {holder.pid} on .*--out"):
        go(tiny(), tmp_path / "run", resume=resume)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_death_of_the_holder_frees_the_folder(holder, tmp_path):
    holder.kill()
    holder.join()
    assert go(tiny("train.steps=1"), tmp_path / "run").training["updates"] == 1
    left = {p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")}
    assert left <= {".lock"}


def test_a_run_that_was_held_off_can_be_gone_on_with(tmp_path, monkeypatch):
    """Two runs of one folder at once: the second is refused, the first ends as if alone."""
    recipe = tiny("train.steps=3")
    go(recipe, tmp_path / "alone")
    updates, refused = run.Training.updates, []

    def meddled(self):
        for update in updates(self):
            with pytest.raises(ArtifactError, match=f"in use by process {os.getpid()}"):
                run.train(recipe, tmp_path / "run", resume=True, quiet=True, tensorboard=False)
            refused.append(update.step)
            yield update

    monkeypatch.setattr(run.Training, "updates", meddled)
    go(recipe, tmp_path / "run")
    assert refused == [1, 2, 3]
    a, b = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("alone", "run"))
    assert a == b


def short_of_room(recipe, out):
    """Files of this process cannot grow beyond 4 kB from the fourth update on."""
    updates = run.Training.updates

    def limited(self):
        for update in updates(self):
            if update.step == 4:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            yield update

    run.Training.updates = limited
    said = out.parent / "said"
    try:
        go(recipe, out)
    except ArtifactError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        said.write_text(str(error))


def test_a_disk_that_fills_up_ends_the_run_with_the_last_good_state_kept(tmp_path):
    recipe = tiny("train.steps=6", "train.checkpoint=1e-9")
    process = forked(short_of_room, recipe, tmp_path / "run")
    process.join(60)
    said = (tmp_path / "said").read_text()
    assert "cannot be written: File too large" in said
    assert "untouched" in said
    assert Checkpoints(tmp_path / "run").load()[0]["step"] == 3
    go(recipe, tmp_path / "alone")
    go(recipe, tmp_path / "run", resume=True)
    a, b = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("alone", "run"))
    assert a == b


def without_rights(recipe, out, resume, said):
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        go(recipe, out, resume=resume)
    except ArtifactError as error:
        said.write_text(str(error))


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_written_is_said(resume):
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        recipe, out = tiny("train.steps=1"), folder / "run"
        out.mkdir()
        if resume:
            go(recipe, out)
        before = sorted(out.rglob("*"))
        (out / ".lock").unlink(missing_ok=True)
        out.chmod(0o555)
        process = forked(without_rights, recipe, out, resume, folder / "said")
        process.join(60)
        assert "run cannot be written: Permission denied" in (folder / "said").read_text()
        assert sorted(out.rglob("*")) == [p for p in before if p.name != ".lock"]
    finally:
        out.chmod(0o777)
        shutil.rmtree(folder)


def test_how_a_run_is_shared_out_may_change_and_the_rest_may_not(tmp_path):
    constant = "train.schedule=constant"
    go(tiny(constant, "train.steps=2"), tmp_path / "a")
    changed = ["train.workers=1", "train.keep_every=3", "train.accumulate=2", "train.keep=1",
               "train.checkpoint=1h", "train.reports=3"]  # fmt: skip
    go(tiny(constant, "train.steps=4", *changed), tmp_path / "a", resume=True)
    assert Checkpoints(tmp_path / "a").names() == ["step-00000003", "step-00000004"]
    kinds = [(row["kind"], row["step"]) for row in lines(tmp_path / "a")]
    assert ("start", 0) in kinds
    assert ("resumed", 2) in kinds


def test_a_signal_that_comes_twice_at_once_is_one(monkeypatch):
    """Launchers pass on what the terminal has already sent to all."""
    with stopping.stoppable() as stopped:
        assert not stopped()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
        monkeypatch.setattr(stopping, "AGAIN", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


HISTORY = [
    "path.kind=chain", "path.steps=4", "model.predicts=v", "model.learned_variance=true",
    "objective.kind=vlb", "objective.times={kind: loss_history, keep: 1}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "free"),
    [([], True), (["objective.coupling={kind: optimal}"], False), (HISTORY, False)],
    ids=["denoising", "coupled", "by history"],
)
def test_parts_may_change_only_where_samples_are_taken_one_by_one(overrides, free):
    saved = tiny(*overrides).model_dump(mode="json")
    in_parts = tiny(*overrides, "train.accumulate=2")
    need_same(saved, tiny(*overrides))
    if free:
        need_same(saved, in_parts)
    else:
        with pytest.raises(RecipeError, match=r"train\.accumulate"):
            need_same(saved, in_parts)


def test_a_checkpoint_s_recipe_has_no_keys_of_its_own():
    with pytest.raises(RecipeError, match="surprise"):
        need_same(tiny().model_dump(mode="json") | {"surprise": "os.system"}, tiny())


def test_a_run_may_go_on_with_less_memory(tmp_path):
    more = ["train.schedule=constant", "train.steps=4"]
    go(tiny(*more), tmp_path / "straight")
    go(tiny("train.schedule=constant", "train.steps=2"), tmp_path / "a")
    go(tiny(*more, "train.recompute=true"), tmp_path / "a", resume=True)
    last = [Checkpoints(tmp_path / name).load()[0] for name in ("straight", "a")]
    for name, value in last[0]["players"]["denoiser"]["weights"].items():
        assert torch.equal(last[1]["players"]["denoiser"]["weights"][name], value), name


def test_a_start_that_cannot_lock_leaves_no_folder_of_its_own(tmp_path, monkeypatch) -> None:
    import filelock

    def full(self: object, timeout: float) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filelock.FileLock, "acquire", full)
    said = "run cannot be written: No space left on device"
    with pytest.raises(ArtifactError, match=said), held(tmp_path / "new" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(ArtifactError), held(there):
        pass
    assert there.is_dir()
