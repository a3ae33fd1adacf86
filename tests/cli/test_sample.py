from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unnoise
from tests.training.tiny import model_of, tiny


def arrays(tmp_path, shape, *overrides):
    """A saved model of random float arrays."""
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    data = [
        "data.source=arrays",
        f"data.path={tmp_path / 'x.npy'}",
        "data.split={}",
        "sample.guidance=1",
    ]
    return model_of(tiny(*data, *overrides)).save(tmp_path / "model")


def test_a_picture_by_default(run, model, tmp_path):
    said = run("sample", model, "--steps", 2)
    assert said.code == 0, said.err
    assert "40 samples, 4 network passes each: samples.png" in said.out
    picture = Image.open("samples.png")
    assert picture.height > 10 * 56  # a row a class
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["samples.png"]
    first = Path("samples.png").read_bytes()
    again = run("sample", model, "--steps", 2, "--seed", 1)
    assert again.out.splitlines()[-1].endswith("network passes each: replaced samples.png")
    assert Path("samples.png").read_bytes() != first
    assert "replaced" not in said.out


def test_an_array_is_what_python_gives(run, model):
    options = ["--n", 12, "--steps", 3, "--solver", "ddim", "--guidance", 1.5, "--seed", 4]
    said = run("sample", model, *options, "--precision", "fp32", "--out", "a.npy", "--batch", 5)
    assert said.code == 0, said.err
    expected = unnoise.load(model, "fp32").sample(12, steps=3, solver="ddim", guidance=1.5, seed=4)
    made = np.load("a.npy")
    assert made.dtype == np.uint8
    assert np.abs(made.astype(int) - expected.values.numpy()).max() <= 1
    assert np.array_equal(np.load("a.labels.npy"), expected.labels)
    again = run("sample", model, *options, "--precision", "fp32", "--out", "a.npy", "--batch", 5)
    assert (again.code, "a.npy is there already" in again.out) == (0, True)


def test_an_array_goes_on_with_the_options_it_was_begun_with(run, refused, model, monkeypatch):
    from unnoise.pipelines import sample_files

    write, written = sample_files.ArrayOutput.write, []

    def interrupted(self, block):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(block.first)
        return write(self, block)

    options = ["--n", 12, "--steps", 2, "--seed", 4, "--batch", 5, "--class", 3, "--class", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(sample_files.ArrayOutput, "write", interrupted)
        said = run("sample", model, *options, "--out", "a.npy")
    assert said.code == 130
    assert "10 of 12 samples are on the disk" in said.err
    assert f"unnoise sample {model} --resume --out a.npy" in said.err
    assert "n 12, not 13" in refused("sample", model, "--resume", "--n", 13, "--out", "a.npy")
    said = run("sample", model, "--resume", "--out", "a.npy")
    assert said.code == 0, said.err
    assert "12 samples" in said.out
    assert np.load("a.labels.npy").tolist() == [3, 5] * 6
    assert run("sample", model, *options, "--out", "b.npy").code == 0
    for name in ("{}.npy", "{}.labels.npy", "{}.samples.json"):
        a, b = (Path(name.format(x)).read_bytes() for x in "ab")
        assert a == b


def test_progress_says_rate_and_time_left(capsys, monkeypatch):
    from unnoise.cli import output

    now = iter([0.0, 5.0, 14.0, 17.0, 25.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(now))
    meter = output.Meter()
    for done in (100, 190, 220, 300):  # 100 were there before: 10 a second since
        meter(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "190 of 1000 samples  10.0/s  01:21 left",
        "300 of 1000 samples  10.0/s  01:10 left",
    ]


def test_a_folder_of_pictures_named_by_class(run, model, tmp_path):
    said = run("sample", model, "--n", 5, "--class", 7, "--class", "2", "--out", "deep/folder")
    assert said.code == 0, said.err
    names = sorted(p.name for p in (tmp_path / "here" / "deep" / "folder").iterdir())
    pictures = ["00000-7.png", "00001-2.png", "00002-7.png", "00003-2.png", "00004-7.png"]
    assert names == [*pictures, "labels.csv", "samples.json"]
    picture = np.asarray(Image.open("deep/folder/00000-7.png"))
    loaded = unnoise.load(model)
    made = loaded.sample(5, condition={"class": [7, 2, 7, 2, 7]})
    pixels = loaded.spec.pixels(made.x)[0, 0].numpy()
    assert picture.shape == (8, 8)
    assert np.abs(picture.astype(int) - pixels).max() <= 1


def test_pictures_one_pixel_wide(run, tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "thin.npy", g.integers(0, 256, (30, 6, 1), "uint8"))
    data = [
        "data.source=arrays",
        f"data.path={tmp_path / 'thin.npy'}",
        "data.split={}",
        "sample.guidance=1",
    ]
    thin = model_of(tiny(*data)).save(tmp_path / "model")
    assert run("sample", thin, "--n", 1, "--out", "thin").code == 0
    assert np.asarray(Image.open("thin/00000.png")).shape == (6, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", 0], "n is 0"),
        (["--n", -5], "n is -5"),
        (["--n", 10**14], "GiB"),
        (["--n", 10**14, "--class", 1, "--class", 2], "GiB"),
        (["--steps", 0], "steps is 0"),
        (["--steps", -5], "steps is -5"),
        (["--steps", "1e309"], "--steps"),
        (["--guidance", "nan"], "guidance is nan"),
        (["--guidance", "inf"], "guidance is inf"),
        (["--guidance", "much"], "--guidance is 'much'; give a number"),
        (["--guidance", "true"], "--guidance is 'true'; give a number"),
        (["--guidance", "[{kind: free, scale: 2}]"], "known: classifier_free"),
        (["--guidance", "[{kind: classifier_free}]"], "scale is missing"),
        (["--guidance", "[{kind: classifier_free, scale: 2, sale: 1}]"], "did you mean 'scale'"),
        (["--guidance", "[2"], "not sound YAML"),
        (["--interval", "0.8,0.2"], "lower one first"),
        (["--interval", "0.2"], "interval"),
        (["--interval", "0.2,0.4,0.6"], "interval"),
        (["--interval", "a,b"], "interval"),
        (["--interval", "0.2,1.5"], "less than or equal to 1"),
        (["--interval", "0.2,0.4", "--guidance", 1], "nothing is guided"),
        (["--interval", "0.2,0.4", "--guidance", 1, "--out", "x.npy"], "nothing is guided"),
        (["--rescale", 2], "rescale is 2"),
        (["--rescale", "nan", "--out", "x"], "rescale is nan"),
        (["--rescale", "much"], "--rescale"),
        (["--seed", -1], "seed is -1"),
        (["--seed", 2**64], "seed"),
        (["--batch", 0], "batch is 0"),
        (["--class", 10], "number from 0 to 9"),
        (["--class", -1], "number from 0 to 9"),
        (["--class", "cat"], "number from 0 to 9"),
        (["--n", 2, "--class", 1, "--class", 2, "--class", 3], "3 classes for 2 samples"),
        (["--solver", "dpmp_2m"], "did you mean 'dpmpp_2m'"),
        (["--grid", "karas"], "did you mean 'karras'"),
        (["--grid", "trailing"], "chain"),
        (["--precision", "fp8"], "fp32"),
        (["--stepz", 3], "--steps"),
        (["--out", "x.jpg"], ".png"),
        (["--out", "x.npz"], "give a .npy"),
        (["--resume"], "drawn at once"),
        (["--processes", 2], "drawn at once"),
        (["--processes", 0, "--out", "x.npy"], "processes is 0"),
        (["--resume", "--out", "x.npy"], "nothing to go on with"),
        (["--first", -1, "--out", "x.npy"], "first is -1"),
        (["--n", 10**14, "--out", "x.npy"], "take 6,4.* bytes, and"),
        (["--class", 1, "--class", 2, "--n", 1, "--out", "x"], "2 classes for 1 samples"),
        (["--out", "nowhere/x.png"], "there is no folder nowhere"),
        (["--out", "/dev/null"], "is a file|/dev/null"),
        (["--out", "/dev/null/deeper"], "is a file"),
    ],
)
def test_what_cannot_be_sampled_ends_with_code_2(refused, model, words, message):
    import re

    assert re.search(message, refused("sample", model, *words))


def test_places_that_are_taken(refused, model, tmp_path):
    (tmp_path / "here" / "folder.png").mkdir()
    (tmp_path / "here" / "file").write_text("")
    assert "is a folder" in refused("sample", model, "--out", "folder.png")
    assert "is a file" in refused("sample", model, "--out", "file")
    assert "is a file" in refused("sample", model, "--out", "file/below")


@pytest.mark.parametrize(
    ("folder", "message"),
    [("none", "there is no model at none"), (".", "holds no model.json"), ("", "holds no model")],
)
def test_no_model(refused, folder, message):
    assert message in refused("sample", folder)


def test_a_broken_model(refused, model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "it is cut off" in refused("sample", model)


def test_vectors_are_no_pictures(refused, run, tmp_path):
    vectors = arrays(tmp_path, (3,), "network.kind=mlp", "network.width=8")
    assert "give --out samples.npy" in refused("sample", vectors)
    assert "give --out samples.npy" in refused("sample", vectors, "--out", "folder")
    assert "unconditional" in refused("sample", vectors, "--class", 1, "--out", "a.npy")
    assert "no condition" in refused("sample", vectors, "--guidance", 2, "--out", "a.npy")
    said = run("sample", vectors, "--n", 7, "--steps", 1, "--out", "a.npy")
    assert said.code == 0, said.err
    assert np.load("a.npy").shape == (7, 3)


def test_many_channels_are_no_pictures(refused, tmp_path):
    many = arrays(tmp_path, (5, 6, 6), "data.layout=NCHW", "data.value_range=[-9, 9]")
    assert "samples of image data of shape (5, 6, 6) are no pictures" in refused("sample", many)


def test_interval_and_rescale_are_those_of_python(run, model):
    """In an array and in a picture; as flat options and as a list of sections."""
    options = ["--n", 6, "--steps", 3, "--seed", 4, "--precision", "fp32"]
    flat = ["--guidance", 3, "--interval", "0.2,0.9", "--rescale", 0.7]
    listed = "[{kind: classifier_free, scale: 3, interval: [0.2, 0.9], rescale: 0.7}]"
    loaded = unnoise.load(model, "fp32")
    same = {"guidance": 3.0, "interval": (0.2, 0.9), "rescale": 0.7}
    expected = loaded.sample(6, steps=3, seed=4, **same).values
    assert run("sample", model, *options, *flat, "--out", "a.npy").code == 0
    assert run("sample", model, *options, "--guidance", listed, "--out", "b.npy").code == 0
    for name in "ab":
        assert np.array_equal(np.load(f"{name}.npy"), expected)
    for less in (flat[:2], flat[:4], [*flat[:2], *flat[4:]]):
        assert (
            run("sample", model, *options, *less, "--out", f"{len(less)}{less[-1]}.npy").code == 0
        )
        assert not np.array_equal(np.load(f"{len(less)}{less[-1]}.npy"), expected)
    assert run("sample", model, *options, *flat, "--out", "a.png").code == 0
    assert run("sample", model, *options, "--guidance", listed, "--out", "b.png").code == 0
    assert run("sample", model, *options, *flat[:2], "--out", "c.png").code == 0
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_the_options_are_those_of_a_request():
    """An option that is added to SampleRequest and not to the command line is found here."""
    from unnoise.cli.request import OPTIONS
    from unnoise.sampling import SampleRequest

    spelled = {"scale": "guidance", "times": "grid"}
    fields = {spelled.get(name, name) for name in SampleRequest.model_fields}
    assert OPTIONS.keys() == {"classes", *fields}  # --class is the class of a condition
