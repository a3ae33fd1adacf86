"""Shards of the real libraries read right, by column, label, list and pattern."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.shards import parquet_shards, pictures, png, write_tar
from unnoise.data import detect, open_data, open_parquet, open_webdataset
from unnoise.data.shards import expand_braces, shard_files
from unnoise.errors import DataError, InvalidArgument


def channels_last(data):
    return data.values.permute(0, 2, 3, 1).numpy()


@pytest.fixture
def hub(arrow):
    return pytest.importorskip("datasets", reason="Hugging Face's datasets is the peer")


def test_what_datasets_writes_is_read_right(hub, tmp_path):
    x, y = pictures(23)
    features = hub.Features(
        {"label": hub.ClassLabel(names=["cat", "dog", "ape"]), "image": hub.Image()}
    )
    rows = {"image": [Image.fromarray(a) for a in x], "label": y.tolist()}
    written = hub.Dataset.from_dict(rows, features=features)
    for shard in range(3):
        part = written.shard(3, shard, contiguous=True)
        part.to_parquet(tmp_path / f"train-{shard:05d}-of-00003.parquet", batch_size=3)
    for stream in (False, True):
        data = open_data(tmp_path, stream=stream)
        assert np.array_equal(channels_last(data), x)
        assert data.spec.class_names == ("cat", "dog", "ape")
        assert data.labels.tolist() == y.tolist()
        assert len(data.blocks.sizes) == 9  # row groups of 3 rows, in files of 8, 8 and 7
    again = hub.Dataset.from_parquet([str(p) for p in sorted(tmp_path.glob("*.parquet"))])
    for i in (0, 7, 22):
        assert np.array_equal(np.asarray(again[i]["image"]), channels_last(data)[i])


@pytest.mark.parametrize("stream", [False, True])
def test_arrays_of_datasets_are_read_right(hub, tmp_path, stream):
    x, y = pictures(11)
    grey = x[..., 0]
    kinds = {
        "grey": (hub.Array2D((6, 5), "uint8"), grey.tolist()),
        "x": (hub.Sequence(hub.Value("float32"), length=5), (grey[:, 0] / 7).tolist()),
        "ragged": (hub.Sequence(hub.Value("int64")), [list(range(i)) for i in range(11)]),
        "label": (hub.Value("string"), [f"c{v}" for v in y]),
    }
    features = hub.Features({name: kind for name, (kind, _) in kinds.items()})
    rows = {name: column for name, (_, column) in kinds.items()}
    hub.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet", batch_size=4)
    path = tmp_path / "a.parquet"
    data = open_parquet(path, stream=stream)  # the column called x
    assert data.spec.modality == "vector"
    assert np.array_equal(data.values.numpy(), (grey[:, 0] / 7).astype(np.float32))
    assert data.spec.class_names == ("c0", "c1", "c2")
    assert data.labels.tolist() == y.tolist()
    assert open_parquet(path, labelled=False, stream=stream).labels is None
    data = open_parquet(path, column="grey", stream=stream)
    assert data.spec.shape == (1, 6, 5)
    assert np.array_equal(data.values[:, 0].numpy(), grey)
    with pytest.raises(DataError, match=r"a\.parquet row 0: ragged|column 'ragged'"):
        open_parquet(path, column="ragged", stream=stream)
    with pytest.raises(InvalidArgument, match="did you mean 'grey'"):
        open_parquet(path, column="gray", stream=stream)


@pytest.mark.parametrize("kind", ["png", "npy", "jpg"])
def test_what_webdataset_writes_is_read_right(kind, tmp_path, cache, capsys):
    peer = pytest.importorskip("webdataset", reason="webdataset is the peer")
    x, y = pictures(20, 16, 16)
    pattern = str(tmp_path / "train-%03d.tar")
    with peer.ShardWriter(pattern, maxcount=6) as writer:
        for i in range(20):
            writer.write({"__key__": f"a/{i:04d}", kind: x[i], "json": {"label": int(y[i])}})
    seen = peer.WebDataset(sorted(map(str, tmp_path.glob("*.tar"))), shardshuffle=False).decode(
        "rgb8"
    )
    theirs = np.stack([sample[kind] for sample in seen])
    for what in (tmp_path, tmp_path / "train-{000..003}.tar", str(tmp_path / "train-*.tar")):
        data = open_data(what, stream=True)
        assert np.array_equal(channels_last(data), theirs)
        assert data.labels.tolist() == y.tolist()
        assert kind == "jpg" or np.array_equal(theirs, x)


def test_labels_of_tar_shards(tmp_path, cache):
    x, _ = pictures(4)
    members = []
    for i, name in enumerate(["dog", "cat", "dog", "ape"]):
        members += [
            (f"d/{i}.png", png(x[i])),
            (f"d/{i}.seg.png", png(255 - x[i])),
            (f"d/{i}.txt", name.encode()),
            (f"d/{i}.json", json.dumps({"id": i}).encode()),
        ]
    path = write_tar(tmp_path / "a.tar", members)
    plain = open_data(path)
    assert plain.labels is None
    assert plain.notes == ("json members hold no 'label' and no 'class': no labels",)
    named = open_webdataset(path, label="txt")
    assert named.spec.class_names == ("ape", "cat", "dog")
    assert named.labels.tolist() == [2, 1, 2, 0]
    assert np.array_equal(channels_last(open_webdataset(path, column="seg.png")), 255 - x)
    streamed = [open_webdataset(path, column=c, stream=True) for c in ("png", "seg.png")]
    assert np.array_equal(channels_last(streamed[1]), 255 - x)
    for one, two in zip(streamed[0].spec.mean, streamed[1].spec.mean, strict=True):
        assert one + two == pytest.approx(255)  # measured each, not one from the other's cache
    with pytest.raises(InvalidArgument, match=r"known: json, png, seg\.png, txt"):
        open_webdataset(path, label="cls")


def test_shard_lists(tmp_path):
    for name in ("b-0.tar", "b-1.tar", "b-10.tar", ".hidden.tar", "deep/b-2.tar", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def found(what):
        return [p.relative_to(tmp_path).as_posix() for p in shard_files(tmp_path / what, ".tar")]

    assert found("") == ["b-0.tar", "b-1.tar", "b-10.tar", "deep/b-2.tar"]
    assert found("b-{1,0}.tar") == ["b-1.tar", "b-0.tar"]
    assert found("b-?.tar") == ["b-0.tar", "b-1.tar"]
    assert found("**/b-*.tar") == ["b-0.tar", "b-1.tar", "b-10.tar", "deep/b-2.tar"]
    assert expand_braces("a{08..11}{x,y}")[:4] == ["a08x", "a08y", "a09x", "a09y"]
    assert expand_braces("a{8..11}") == ["a8", "a9", "a10", "a11"]
    with pytest.raises(DataError, match=r"1 of the 3 shards .*first: .*b-2\.tar"):
        found("b-{0..2}.tar")
    with pytest.raises(DataError, match=r"no \.tar file"):
        found("c-*.tar")
    for bomb in ("{0..999999999}", "{5..1}", "{0..9}" * 6):
        with pytest.raises(DataError, match="100,000"):
            expand_braces(bomb)


def test_parts_in_one_folder_are_not_mixed(tmp_path, arrow):
    x, y = pictures(8)
    parquet_shards(tmp_path, x, y, each=4)
    (tmp_path / "data-000.parquet").rename(tmp_path / "train-000.parquet")
    (tmp_path / "data-001.parquet").rename(tmp_path / "test-000.parquet")
    with pytest.raises(DataError, match=r"several parts \(test, train\).*\*\.parquet"):
        open_data(tmp_path)
    assert len(open_data(f"{tmp_path}/train-*.parquet")) == 4


def test_detect_knows_shards(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / "p" / "data").mkdir(parents=True)
    (tmp_path / "p" / "data" / "a.parquet").write_bytes(b"")
    assert detect(tmp_path / "a.tar")[0] == detect(f"{tmp_path}/{{a,b}}.tar")[0] == "webdataset"
    assert detect(tmp_path / "p")[0] == detect(f"{tmp_path}/p/*.parquet")[0] == "parquet"
    (tmp_path / "p" / "b.tar").write_bytes(b"")
    with pytest.raises(DataError, match="both"):
        detect(tmp_path / "p")
    with pytest.raises(DataError, match="there is no data"):
        detect(tmp_path / "absent.tar")


def test_mode_and_size_are_those_of_a_folder(tmp_path, cache):
    x, _ = pictures(3, 9, 12)
    members = [("0.png", png(x[0])), ("1.png", png(x[1, ..., 0])), ("2.png", png(x[2, :8]))]
    path = write_tar(tmp_path / "a.tar", members)
    data = open_data(path, size=4)
    assert data.spec.shape == (3, 4, 4)
    (tmp_path / "f").mkdir()
    for name, content in members:
        (tmp_path / "f" / name).write_bytes(content)
    assert torch.equal(open_data(tmp_path / "f", size=4).values, data.values)
    assert open_data(path, size=4, mode="L").spec.channels == "L"
