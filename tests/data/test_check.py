"""`data check`: everything wrong is listed, and the verdict is that of training itself."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.data.samples import ramp
from tests.data.shards import parquet_shards, pictures, png, tar_shards, write_tar
from tests.data.test_folder import metadata
from unnoise.cli.main import app
from unnoise.data import check, open_data
from unnoise.errors import UnnoiseError
from unnoise.recipes import choose
from unnoise.recipes.outlook import outlook


def run(*arguments):
    """(exit code, the report as JSON)."""
    done = CliRunner().invoke(app, ["data", "check", *map(str, arguments), "--json"])
    assert done.exit_code in (0, 1), (done.output, done.exception)
    return done.exit_code, json.loads(done.output)


def messages(report):
    return [fault["message"] for fault in report["faults"]]


def test_a_sound_folder(save):
    x, y = pictures(90)
    for i in range(90):
        save(f"c{y[i]}/{i:02d}.png", x[i])
    code, found = run(save.folder)
    assert (code, found["counts"], found["samples"]) == (0, {}, 90)
    assert found["labels"] == {"c0": 30, "c1": 30, "c2": 30}
    assert found["sizes"] == {"6 × 5": 90}
    assert found["modes"] == {"RGB": 90}
    data = open_data(save.folder)
    assert (found["mean"], found["std"]) == (list(data.spec.mean), list(data.spec.std))
    assert (found["low"], found["high"]) == (x.min(), x.max())
    would = found["training"]
    assert (would["train"], would["validation"], would["shape"]) == (70, 20, [3, 6, 5])
    assert not would["streamed"]
    assert would["data_bytes"] == x.size
    assert f"train --data {save.folder} --budget 10m" in found["command"]


def test_everything_wrong_is_listed_not_the_first_alone(save):
    save("cat/1.png", ramp())
    save("cat/2.png", ramp(shift=1))
    save("dog/1.png", ramp(shift=2))
    for name in ("cat/bad.png", "dog/bad.jpg", "dog/cut.png", "cat/._1.png"):
        (save.folder / name).write_bytes(b"broken")
    whole = save("dog/cut.png", np.uint8(np.random.default_rng(0).integers(0, 256, (64, 64))))
    whole.write_bytes(whole.read_bytes()[:-900])
    save("dog/2.png", ramp(shift=3))
    code, found = run(save.folder, "--size", "4")
    assert code == 1
    said = "\n".join(messages(found))
    for name in ("cat/bad.png", "dog/bad.jpg", "dog/cut.png"):
        assert str(save.folder / name) in said
    assert sum(found["counts"].values()) == 3
    assert found["samples"] == 4
    assert found["left_out"] == ["cat/._1.png"]
    assert found["command"] is None


def test_metadata_by_line(save, tmp_path):
    for i in range(4):
        save(f"{i}.png", ramp(shift=i))
    metadata(
        save.folder,
        {"file_name": "0.png", "label": "a"},
        {"file_name": "absent.png", "label": "a"},
        "{broken",
        {"file_name": "../outside.png", "label": "a"},
        {"file_name": "1.png", "label": 3},
        {"file_name": "0.png", "label": "b"},
        {"file_name": "2.png", "label": "b"},
    )
    code, found = run(save.folder)
    assert code == 1
    said = messages(found)
    for line in (2, 3, 4, 5, 6):
        assert sum(f"metadata.jsonl line {line} " in message for message in said) == 1
    assert found["counts"] == {"metadata": 5, "not listed": 1}
    assert any("3.png is not listed" in message for message in said)
    assert found["labels"] == {"a": 1, "b": 1}


def test_copies_and_lookalikes(save):
    g = np.random.Generator(np.random.Philox(1))
    x = g.integers(0, 256, (8, 8, 10)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    for i in range(10):
        save(f"{'ab'[i % 2]}/{i}.png", x[..., i])
    save("a/copy.bmp", x[..., 0])  # in another format
    save("b/other.png", x[..., 2])  # of another class
    near = x[..., 3].copy()
    near[::9] ^= 1
    save("a/near.png", near)
    code, found = run(save.folder)
    assert code == 0
    names = [sorted(place.split("pictures/")[1] for place in group) for group in found["same"]]
    assert sorted(names) == [["a/0.png", "a/copy.bmp"], ["a/2.png", "b/other.png"]]
    assert found["contradicting"] == 1
    pairs = [sorted(place.split("pictures/")[1] for place in pair) for pair in found["alike"]]
    assert pairs == [["a/near.png", "b/3.png"]]


def test_real_digits_are_no_lookalikes():
    found = check("digits")
    assert (found.sound, found.samples, found.same, found.alike) == (True, 1797, [], [])


def test_differing_sizes_get_a_size_that_works(save):
    for i in range(9):
        save(f"{i}.png", ramp(20 + i, 30, shift=i))
    code, found = run(save.folder)
    assert (code, found["proposed_size"], found["training"]["shape"]) == (0, 16, [1, 16, 16])
    assert "--size 16" in found["command"]
    assert len(found["sizes"]) == 9
    assert run(save.folder, "--size", "8")[1]["training"]["shape"] == [1, 8, 8]


@pytest.mark.parametrize(
    ("x", "counts", "message"),
    [
        (np.float32(pictures(9)[0][..., 0]), {"range": 1}, "value_range"),
        (np.ones((5, 3)), {"constant": 1}, "nothing to learn"),
        (np.eye(3)[:1], {"too few": 1}, "fewer than 2"),
        (np.array([["a"], ["b"]]), {"refused": 1}, "give uint8 or floats"),
        (np.arange(6.0), {"refused": 1}, r"(N, 1)"),
        (np.zeros((4, 3, 9, 3), np.uint8), {"refused": 1}, "layout="),
    ],
)
def test_arrays_that_training_refuses(tmp_path, x, counts, message):
    np.save(tmp_path / "x.npy", x)
    code, found = run(tmp_path / "x.npy")
    assert (code, found["counts"]) == (1, counts)
    assert message in found["training"]["refusal"]


def test_every_value_that_is_not_finite_is_listed(tmp_path):
    x = np.random.Generator(np.random.Philox(0)).standard_normal((50, 4))
    x[[3, 3, 17], [1, 2, 0]] = np.nan
    x[40, 3] = np.inf
    np.savez(tmp_path / "x.npz", x=x)
    code, found = run(tmp_path / "x.npz")
    assert (code, found["counts"], found["samples"]) == (1, {"not finite": 3}, 47)
    for row, message in zip((3, 17, 40), messages(found), strict=True):
        assert f"x.npz row {row} holds" in message
    good = np.delete(x, [3, 17, 40], 0)
    np.testing.assert_allclose(found["mean"], good.mean(0), rtol=1e-5)


def test_declared_options_count(tmp_path):
    np.save(tmp_path / "x.npy", np.float32(pictures(9)[0][..., 0]))
    code, found = run(tmp_path / "x.npy", "data.value_range=[0, 255]")
    assert code == 0
    assert "'data.value_range=[0, 255]'" in found["command"]
    code, found = run(tmp_path / "x.npy", "data.value_range=[0, 9]")
    assert (code, found["counts"]) == (1, {"range": 1})


def test_a_declared_range_is_judged_as_training_judges_it(tmp_path):
    x = np.float32(np.random.default_rng(0).uniform(0, 0.1, (90, 2)))
    x[0] = 0, 0.1  # float32(0.1) lies above 0.1
    np.save(tmp_path / "x.npy", x)
    assert run(tmp_path / "x.npy", "data.value_range=[0, 0.1]")[0] == 0
    for wrong in ("5", "[a, b]", "[1, 0]"):
        code, found = run(tmp_path / "x.npy", f"data.value_range={wrong}")
        assert (code, found["counts"]) == (1, {"range": 1})
        assert "two finite numbers" in found["training"]["refusal"]


def test_nothing_but_the_path_says_which_data(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(90)[:, :3])
    np.save(tmp_path / "y.npy", np.eye(90)[:, :4])
    for other in (f"data.path={tmp_path / 'y.npy'}", "data.source=folder"):
        code, found = run(tmp_path / "x.npy", other)
        assert (code, found["command"]) == (1, None)
        assert "beside the data" in found["training"]["refusal"]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards(kind, tmp_path, cache):
    x, y = pictures(90)
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
        folder = parquet_shards(tmp_path / "s", x, y, each=50)
    else:
        folder = tar_shards(tmp_path / "s", x, y, each=50)
    code, found = run(folder)
    assert (code, found["samples"], found["labels"]) == (0, 90, {"0": 30, "1": 30, "2": 30})
    assert found["training"]["shape"] == [3, 6, 5]
    again = run(folder, "data.stream=true")[1]["training"]
    assert again == found["training"] | {"streamed": True}
    last = max(folder.iterdir())
    last.write_bytes(last.read_bytes()[:800])
    code, found = run(folder)
    assert (code, found["counts"], found["samples"]) == (1, {"damaged shard": 1}, 50)
    assert last.name in messages(found)[0]


def test_faults_inside_shards_are_all_listed(tmp_path, cache):
    x, _ = pictures(8)
    members = []
    for i in range(8):
        members.append((f"{i}.png", b"bad" if i in (2, 5) else png(x[i])))
        if i != 6:
            members.append((f"{i}.cls", b"\xff" if i == 4 else str(i % 2).encode()))
    members.append(("9.cls", b"0"))
    path = write_tar(tmp_path / "a.tar", members)
    code, found = run(path)
    assert (code, found["samples"]) == (1, 4)
    assert found["counts"] == {"without value": 1, "label": 2, "corrupt": 2}
    for name in ("9 has no", "4.cls", "6.png has no cls", "2.png", "5.png"):
        assert any(f"a.tar: {name}" in message for message in messages(found))


def test_faults_in_rows_are_all_listed(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
    import pyarrow.parquet as pq

    cells = [png(a) for a in pictures(9)[0]]
    cells[2], cells[5], cells[7] = None, b"bad", None
    labels = [0, 1, 0, None, 1, 0, 1.0, 0, 1]
    pq.write_table(pa.table({"image": cells, "label": labels}), tmp_path / "a.parquet")
    code, found = run(tmp_path / "a.parquet")
    assert (code, found["counts"]) == (1, {"label": 9, "corrupt": 3})  # all labels are floats
    for row in (2, 5, 7):
        assert any(f"a.parquet row {row}: image" in message for message in messages(found))


def test_options_that_the_data_do_not_have_are_the_refusal(save):
    save("0.png", ramp())
    code, found = run(save.folder, "data.sise=3")
    assert code == 1
    assert "did you mean 'size'" in found["training"]["refusal"]


def test_the_verdict_is_that_of_training(save, tmp_path):
    """For each kind of fault: the check refuses exactly where choosing and opening would."""
    x, _ = pictures(6)
    cases = {}
    for name in ("sound", "corrupt", "one", "parts", "loose", "empty"):
        (tmp_path / name / "c").mkdir(parents=True)
        cases[name] = tmp_path / name
        for i in range({"one": 1, "empty": 0}.get(name, 6)):
            Image.fromarray(x[i]).save(tmp_path / name / "c" / f"{i}.png")
    (tmp_path / "corrupt" / "c" / "9.png").write_bytes(b"x")
    (tmp_path / "parts" / "c").rename(tmp_path / "parts" / "train")
    Image.fromarray(x[0]).save(tmp_path / "loose" / "0.png")
    verdicts = {}
    for name, folder in cases.items():
        try:
            choose(str(folder))
            verdicts[name] = True
        except UnnoiseError:
            verdicts[name] = False
        assert check(folder).sound == verdicts[name], name
        assert (run(folder)[0] == 0) == verdicts[name], name
    assert verdicts == {name: name == "sound" for name in cases}


def test_names_and_nothing_there():
    assert run("digits")[1]["training"]["test"] == 200
    code, found = run("no/such/folder")
    assert code == 1
    assert "there is no data" in messages(found)[0]


def test_recipes_that_cannot_work_are_the_refusal(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((30, 3)))
    assert outlook(str(tmp_path / "x.npy")).refusal is None
    code, found = run(tmp_path / "x.npy", "network.kind=unet")
    assert code == 1
    assert "unet" in found["training"]["refusal"]


def test_the_report_in_words_and_the_command_it_prints(save, tmp_path, monkeypatch):
    for i in range(6):
        save(f"{i}.png", ramp(shift=i))
    (save.folder / "._0.png").write_bytes(b"x")
    done = CliRunner().invoke(app, ["data", "check", str(save.folder)])
    assert done.exit_code == 0
    for text in ("samples       6", "6 × 4 (6)", "._0.png", "6 samples, 0 held out", "in memory"):
        assert text in done.output
    command = done.output.splitlines()[-1].split("train", 1)[1].split()
    command[command.index("--budget") :] = ["--quiet", "--out", str(tmp_path / "run")]
    tiny = ["train.steps=1", "network.widths=[8]"]
    trained = CliRunner().invoke(app, ["train", *tiny, *command])
    assert trained.exit_code == 0, trained.output
    (save.folder / "0.png").write_bytes(b"x")
    done = CliRunner().invoke(app, ["data", "check", str(save.folder), "--limit", "1"])
    assert done.exit_code == 1
    assert "training      refused:" in done.output
    assert "corrupt 1" in done.output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_named_as_a_picture_is_refused_not_waited_for(save):
    for i in range(3):
        save(f"{i}.png", ramp(shift=i))
    os.mkfifo(save.folder / "pipe.png")

    def late(*_):
        raise AssertionError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        code, found = run(save.folder)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert (code, found["samples"]) == (1, 3)
    assert "pipe.png is no plain file" in found["training"]["refusal"]
