import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.tiny import assert_same, everything, first_states, run_steps, tiny, training_of
from unnoise.errors import ArtifactError
from unnoise.recipes import load_recipe
from unnoise.training import Checkpoints, checkpoints

FILES = {
    "weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json",
    "manifest.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def states():
    """States after 1, 2, 3 and 4 updates."""
    return first_states(training_of(tiny("train.steps=9")))


def save_all(run, states, keep=3):
    kept = Checkpoints(run, keep)
    for state in states:
        kept.save(state, {"n": state["step"]})
    return kept


def test_the_newest_are_kept_and_named(tmp_path, states):
    kept = save_all(tmp_path, states, keep=2)
    assert kept.names() == ["step-00000003", "step-00000004"]
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-00000004\n"
    assert {p.name for p in (tmp_path / "checkpoints" / "step-00000004").iterdir()} == FILES
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3  # nothing left beside
    state, recipe = Checkpoints(tmp_path).load()
    assert (state["step"], recipe) == (4, {"n": 4})
    assert all(
        torch.equal(state["players"]["denoiser"]["weights"][k], v)
        for k, v in states[3]["players"]["denoiser"]["weights"].items()
    )


def test_the_step_is_a_number_not_a_word(tmp_path, states):
    kept = Checkpoints(tmp_path, 5)
    for step in (99_999_999, 100_000_000):
        kept.save(states[0] | {"step": step}, {})
    assert kept.load()[0]["step"] == 100_000_000


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    **{f"{name} flipped": (lambda f, n=name: flip(f / n)) for name in sorted(FILES)},
    **{f"{name} missing": (lambda f, n=name: (f / n).unlink()) for name in sorted(FILES)},
    **{
        f"{name} truncated": (lambda f, n=name: (f / n).write_bytes((f / n).read_bytes()[:20]))
        for name in sorted(FILES)
    },
    "empty": lambda f: [p.unlink() for p in f.iterdir()],
    "a file": lambda f: (shutil.rmtree(f), f.write_text("")),
    "another manifest": lambda f: (f / "manifest.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_passed_over_and_said(tmp_path, states, damage):
    save_all(tmp_path, states[:2])
    DAMAGE[damage](tmp_path / "checkpoints" / "step-00000002")
    kept = Checkpoints(tmp_path)
    assert kept.load()[0]["step"] == 1
    assert len(kept.notes) == 1
    assert "step-00000002 was passed over" in kept.notes[0]


def test_a_stale_latest_does_not_matter(tmp_path, states):
    save_all(tmp_path, states[:3])
    (tmp_path / "checkpoints" / "latest").write_text("step-00000009\n")
    assert Checkpoints(tmp_path).load()[0]["step"] == 3
    (tmp_path / "checkpoints" / "latest").unlink()
    assert Checkpoints(tmp_path).load()[0]["step"] == 3


@pytest.mark.parametrize("content", ["step-00000001\n", "step-00000009\n", "\xff\0", None])
def test_a_latest_that_is_stale_is_said(content, tmp_path, states):
    save_all(tmp_path, states[:3])
    latest = tmp_path / "checkpoints" / "latest"
    latest.unlink()
    if content is not None:
        latest.write_text(content, encoding="latin-1")
    kept = Checkpoints(tmp_path)
    assert (kept.load()[0]["step"], kept.loaded) == (3, "step-00000003")
    assert len(kept.notes) == 1
    assert "`latest`" in kept.notes[0]
    assert "going on from step-00000003" in kept.notes[0]
    fresh = Checkpoints(tmp_path)
    fresh.save(states[3], {})
    fresh.load()
    assert fresh.notes == []


def test_a_latest_that_names_a_damaged_one_is_harmless(tmp_path, states):
    save_all(tmp_path, states[:2])
    flip(tmp_path / "checkpoints" / "step-00000002" / "ema.safetensors")
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-00000002\n"
    assert Checkpoints(tmp_path).load()[0]["step"] == 1


def test_every_nth_is_kept_beside_the_newest(tmp_path, states):
    kept = Checkpoints(tmp_path, keep=2, keep_every=4)
    for step in (1, 3, 4, 5, 6, 8, 9, 10, 11):
        kept.save(states[0] | {"step": step}, {})
    assert [int(name[5:]) for name in kept.names()] == [4, 8, 10, 11]
    kept.save(states[0] | {"step": 12}, {})
    assert [int(name[5:]) for name in kept.names()] == [4, 8, 11, 12]


def test_what_is_removed_is_never_half_a_checkpoint(tmp_path, states, monkeypatch):
    kept = save_all(tmp_path, states[:2], keep=2)
    seen = []

    def look(folder, **options):
        seen.append(folder.name)
        if folder.name.endswith(".gone"):
            assert kept.names() == ["step-00000002", "step-00000003"]

    monkeypatch.setattr(checkpoints.shutil, "rmtree", look)
    Checkpoints(tmp_path, 2).save(states[2], {})
    assert ".step-00000001.gone" in seen


def test_none_that_is_sound_is_said_with_every_reason(tmp_path, states):
    with pytest.raises(ArtifactError, match="there is none"):
        Checkpoints(tmp_path).load()
    save_all(tmp_path, states[:2])
    for name in ("step-00000001", "step-00000002"):
        flip(tmp_path / "checkpoints" / name / "ema.safetensors")
    with pytest.raises(ArtifactError, match=r"00000002 was passed over.*00000001 was passed over"):
        Checkpoints(tmp_path).load()


@pytest.mark.parametrize("keep", [1, 2])
def test_what_was_just_saved_is_never_the_one_removed(tmp_path, states, keep):
    save_all(tmp_path, states, keep=3)
    flip(tmp_path / "checkpoints" / "step-00000004" / "weights.safetensors")
    kept = Checkpoints(tmp_path, keep)
    assert kept.load()[0]["step"] == 3
    for step in (5, 6):
        kept.save(states[0] | {"step": step}, {})
        assert kept.names()[-1] == f"step-{step:08d}"
        assert Checkpoints(tmp_path).load()[0]["step"] == step
    assert "step-00000004" not in kept.names()  # the damaged one went with the next save
    assert len(kept.names()) == keep


def test_an_older_step_saved_after_a_newer_one_stays(tmp_path, states):
    kept = save_all(tmp_path, [states[3], states[0]], keep=1)
    assert "step-00000001" in kept.names()


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "manifest.json"])
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_earlier_ones(tmp_path, states, monkeypatch, file, fault):
    kept = save_all(tmp_path, states[:2])
    before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())

    def failing(write):
        def inner(path, *rest):
            if path.name == file:
                raise fault
            return write(path, *rest)

        return inner

    for name in ("write_tensors", "write_json"):
        monkeypatch.setattr(checkpoints, name, failing(getattr(checkpoints, name)))
    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        kept.save(states[2], {})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-00000002\n"
    assert Checkpoints(tmp_path).load()[0]["step"] == 2


def test_a_killed_save_leaves_nothing_that_is_taken_for_one(tmp_path, states):
    save_all(tmp_path, states[:2])
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "step-00000002", folder / ".step-00000003.part")
    kept = Checkpoints(tmp_path)
    assert kept.load()[0]["step"] == 2
    kept.save(states[3], {})
    assert not (folder / ".step-00000003.part").exists()


def test_the_same_step_saved_again_is_never_lost_in_between(tmp_path, states):
    kept = save_all(tmp_path, states[:1], keep=1)
    kept.save(states[0], {"n": "again"})
    assert kept.load()[1] == {"n": "again"}
    folder = tmp_path / "checkpoints"
    # killed after the old one was moved aside and before the new one took its place
    (folder / "step-00000001").rename(folder / ".step-00000001.old")
    assert Checkpoints(tmp_path).load()[1] == {"n": "again"}


def test_a_reader_beside_the_run_moves_nothing_under_its_hands(tmp_path, states):
    """Between the two renames of a save the old one stands aside: putting it back would make the
    second rename, and so the run, fail."""
    save_all(tmp_path, states[:2])
    folder = tmp_path / "checkpoints"
    (folder / "step-00000002").rename(folder / ".step-00000002.old")
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.load()[0]["step"] == 1
    assert (folder / ".step-00000002.old").is_dir()
    assert Checkpoints(tmp_path).load()[0]["step"] == 2


def test_an_exception_between_the_renames_keeps_the_old_one(tmp_path, states, monkeypatch):
    kept = save_all(tmp_path, states[:1], keep=1)
    rename = type(tmp_path).rename

    def fail(self, target):
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", fail)
    with pytest.raises(ArtifactError, match="Input/output"):
        kept.save(states[0], {"n": "new"})
    monkeypatch.undo()
    assert Checkpoints(tmp_path).load()[1] == {"n": 1}


def test_another_format_is_passed_over(tmp_path, states):
    save_all(tmp_path, states[:2])
    folder = tmp_path / "checkpoints" / "step-00000002"
    tree = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(tree | {"format": 9}))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kept = Checkpoints(tmp_path)
    assert kept.load()[0]["step"] == 1
    assert "another format" in kept.notes[0]


BOUND = "{kind: vlb, variance: posterior, steps: 20, times: {kind: loss_history, keep: 2}}"
OLD = [f"objective={BOUND}", "network={kind: mlp, width: 8, depth: 1, embedding: 8}",
       "train.averages={snapshots: 2}", "train.steps=9"]  # fmt: skip


def as_older(folder, kind):
    """Write a checkpoint over as releases with one player, and before the guard, wrote it."""
    tree = json.loads((folder / "state.json").read_text())
    assert tree.pop("format") == checkpoints.FORMAT == 3
    tree |= tree.pop("players")["denoiser"]
    tree["guard"] |= tree["guard"].pop("sizes")["denoiser"]
    if kind == 1:
        del tree["guard"]
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        assert all(name.startswith("denoiser.") for name in tensors)
        save_file({name.removeprefix("denoiser."): t for name, t in tensors.items()}, path)
    (folder / "state.json").write_text(json.dumps({"format": kind, **tree}))
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(hashes))


@pytest.mark.parametrize("kind", [1, 2])
def test_a_checkpoint_of_an_earlier_format_is_gone_on_with(tmp_path, kind):
    straight = training_of(tiny(*OLD))
    run_steps(straight, 2)
    Checkpoints(tmp_path).save(straight.state(), {})
    as_older(tmp_path / "checkpoints" / "step-00000002", kind)
    kept = Checkpoints(tmp_path)
    state, _ = kept.load()
    assert (state["step"], kept.notes) == (2, [])
    assert state["guard"] == (straight.guard.state() if kind == 2 else {})
    old = training_of(tiny(*OLD))
    old.load_state(state)
    run_steps(straight, 3)
    run_steps(old, 3)
    assert_same(everything(old), everything(straight))
    for one, two in zip(old.leader.averages, straight.leader.averages, strict=True):
        assert one.updates == two.updates == 5
        assert all(map(torch.equal, one.averages, two.averages))
    if kind == 2:
        assert old.guard.state() == straight.guard.state()


def test_a_checkpoint_written_by_an_earlier_release_is_read_whole(tmp_path):
    """tests/training/format_2 was written by the release before players, after three updates."""
    shutil.copytree(Path(__file__).parent / "format_2", tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints" / "step-00000003"
    training = training_of(tiny(*OLD))
    state, recipe = Checkpoints(tmp_path).load()
    assert load_recipe(recipe) == tiny(*OLD)
    training.load_state(state)
    assert (training.step, training.seen, training.ema.updates) == (3, 48, 3)
    assert training.guard.sizes["denoiser"].scale == 2.1797897815704346
    found = everything(training)
    for part in ("weights", "ema", "objective"):
        for name, tensor in load_file(folder / f"{part}.safetensors").items():
            assert torch.equal(found[f"{part}.{name}"], tensor), name
    for name, tensor in load_file(folder / "optimizer.safetensors").items():
        assert torch.equal(found[f"optimizer.{name}"], tensor), name
    for name, tensor in load_file(folder / "averages.safetensors").items():
        j, i = map(int, name.split("."))
        assert torch.equal(training.leader.averages[j].averages[i], tensor)
    assert len(list(training.updates())) == 6


def test_nothing_but_safetensors_and_json_is_written(tmp_path, states):
    save_all(tmp_path, states[:1])
    for path in (tmp_path / "checkpoints" / "step-00000001").iterdir():
        assert path.suffix in (".safetensors", ".json")
        if path.suffix == ".json":
            json.loads(path.read_text(), parse_constant=pytest.fail)
