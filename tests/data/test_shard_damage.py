"""Damaged shards: one clear error that names shard and row, whether streamed or not."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from tests.data.shards import npy, parquet_shards, pictures, png, tar_shards, write_tar
from unnoise.data import open_data
from unnoise.errors import DataError

X, Y = pictures(6)
GOOD = [("0.png", png(X[0])), ("0.cls", b"0"), ("1.png", png(X[1])), ("1.cls", b"1")]


def header(**fields):
    info = tarfile.TarInfo(fields.pop("name"))
    for key, value in fields.items():
        setattr(info, key, value)
    return info


LINK = header(name="2.png", type=tarfile.SYMTYPE, linkname="/etc/hostname")
HARD = header(name="2.png", type=tarfile.LNKTYPE, linkname="0.png")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([("2.cls", b"1")], r"a\.tar: 2 has no picture"),
        ([("2.png", png(X[2]))], r"a\.tar: 2\.png has no cls beside it"),
        ([("2.png", b"damaged"), ("2.cls", b"1")], r"a\.tar: 2\.png is not a sound picture"),
        ([("2.png", png(X[2])[:-40]), ("2.cls", b"1")], r"a\.tar: 2\.png is not a sound picture"),
        ([("2.png", png(X[2][:4])), ("2.cls", b"1")], r"differ in size .*4 × 5 \(1\)"),
        ([("2.png", png(X[2])), ("2.cls", b"7")], r"no sample has label 2"),
        ([("2.png", png(X[2])), ("2.cls", b"x")], r"a\.tar: 2\.png: label is 'x'"),
        ([("2.png", png(X[2])), ("2.cls", b"\xff")], r"a\.tar: 2\.cls is no UTF-8"),
        ([("0.png", png(X[2])), ("0.cls", b"1")], r"a\.tar holds the key '0' twice"),
        ([("2.png", png(X[2])), ("2.png", png(X[2]))], r"a\.tar holds '2\.png' twice"),
        ([("2.png", png(X[2])), ("2.jpg", png(X[2]))], r"a\.tar: 2 has png and jpg; .*column=png"),
        ([("../2.png", png(X[2]))], r"a\.tar holds '\.\./2\.png', a name that leads out"),
        ([("a/../../2.png", png(X[2]))], "leads out"),
        ([("/etc/2.png", png(X[2]))], "leads out"),
        ([("2.png", LINK)], r"a\.tar holds '2\.png', which is a link"),
        ([("2.png", HARD)], r"a\.tar holds '2\.png', which is a link"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_damaged_tar_shards_name_shard_and_member(tmp_path, cache, more, message, stream):
    write_tar(tmp_path / "a.tar", GOOD + more)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path / "a.tar", stream=stream)


@pytest.mark.parametrize("beyond", [-5000, -1300, -700, -512, -100, 0, 300, 511])
def test_tar_shards_that_are_cut_short_are_named(tmp_path, cache, beyond):
    folder = tar_shards(tmp_path / "t", *pictures(12), each=6)
    assert len(open_data(folder)) == 12
    path = folder / "data-001.tar"
    whole = path.read_bytes()
    end = -(-len(whole.rstrip(b"\0")) // 512) * 512  # of the last member; zeros follow
    path.write_bytes(whole[: end + beyond])
    with pytest.raises(DataError, match=r"data-001\.tar (is cut short|is no sound tar)"):
        open_data(folder)


def test_a_broken_header_in_the_middle_of_a_tar_is_seen(tmp_path, cache):
    path = write_tar(tmp_path / "a.tar", GOOD)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"1.png")
    whole[at + 150] ^= 0xFF  # in the checksum
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"a\.tar has a broken header at byte"):
        open_data(path)


def test_files_that_are_no_tar(tmp_path, cache):
    (tmp_path / "text.tar").write_bytes(b"hello" * 400)
    (tmp_path / "empty.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "zipped.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    for name, message in (
        ("text", "no sound tar"),
        ("empty", "no sound|cut"),
        ("zipped", "gunzip"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.tar.*({message})"):
            open_data(tmp_path / f"{name}.tar")
    write_tar(tmp_path / "none.tar", [("readme", b"x")])
    with pytest.raises(DataError, match="no samples"):
        open_data(tmp_path / "none.tar")


@pytest.mark.parametrize("stream", [False, True])
def test_arrays_of_differing_shapes_and_nan_are_named(tmp_path, cache, stream):
    x = np.random.Generator(np.random.Philox(0)).standard_normal((4, 3), np.float32)
    for bad, message in (
        (x[0, :2], r"n\.tar: 3\.npy is float32 of shape \(2,\)"),
        (x[0].astype(np.float64), r"n\.tar: 3\.npy is float64"),
        (np.float32([1, np.nan, 2]), r"n\.tar: 3\.npy holds (NaN|nan)"),
    ):
        members = [(f"{i}.npy", npy(bad if i == 3 else x[i])) for i in range(4)]
        write_tar(tmp_path / "n.tar", members)
        with pytest.raises(DataError, match=message):
            open_data(tmp_path / "n.tar", stream=stream)
    bytes_ = [(f"{i}.npy", npy(np.float32(pictures(4)[0][i]))) for i in range(4)]
    write_tar(tmp_path / "n.tar", bytes_)
    with pytest.raises(DataError, match="value_range"):
        open_data(tmp_path / "n.tar", stream=stream)
    assert open_data(tmp_path / "n.tar", value_range=(0, 255), stream=stream).spec.range_declared


def rows(n=5):
    return {"image": [png(a) for a in X[:n]], "label": [i % 2 for i in range(n)]}


def write_rows(path, columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, row_group_size=2)


@pytest.mark.parametrize(
    ("at", "column", "value", "message"),
    [
        (3, "image", None, r"a\.parquet row 3: image holds no picture"),
        (3, "image", b"damaged", r"a\.parquet row 3: image is not a sound picture"),
        (4, "image", png(X[4])[:-40], r"a\.parquet row 4: image is not a sound picture"),
        (2, "label", None, r"a\.parquet row 2: label is None"),
        (2, "label", -1, r"a\.parquet row 2: label is -1, out of range"),
        (2, "label", 5, "no sample has label 2"),
        (2, "image", png(X[2][:4]), r"differ in size"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_damaged_rows_are_named(tmp_path, arrow, at, column, value, message, stream):
    columns = rows()
    columns[column][at] = value
    write_rows(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path / "a.parquet", stream=stream)


def test_pictures_that_are_only_paths_are_never_followed(tmp_path, arrow):
    Image.fromarray(X[0]).save(tmp_path / "secret.png")
    cells = [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 3
    kind = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    write_rows(tmp_path / "a.parquet", {"image": arrow.array(cells, kind)})
    with pytest.raises(DataError, match=r"row 0: image holds no picture but the path .*never"):
        open_data(tmp_path / "a.parquet")


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9, 0.999])
def test_parquet_files_that_are_cut_short_are_named(tmp_path, arrow, cut):
    folder = parquet_shards(tmp_path / "p", *pictures(12), each=6)
    path = folder / "data-001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(DataError, match=r"data-001\.parquet is no sound parquet file"):
        open_data(folder)


def test_a_flipped_byte_in_a_parquet_page_does_not_pass(tmp_path, arrow):
    folder = parquet_shards(tmp_path / "p", *pictures(6), each=6)
    path = folder / "data-000.parquet"
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"IDAT") + 8] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"data-000\.parquet"):
        open_data(folder)


def test_schemas_that_differ_and_lists_that_do(tmp_path, arrow):
    write_rows(tmp_path / "a.parquet", rows())
    write_rows(tmp_path / "b.parquet", {"image": rows()["image"]})
    with pytest.raises(DataError, match=r"b\.parquet has the columns .* and .*a\.parquet"):
        open_data(tmp_path)
    for value, message in (([1.0], "shape"), (None, "absent"), ([1.0, None], "absent")):
        lists = [[0.5, 1.5], [2.5, 0.5], value, [1.0, 2.0]]
        write_rows(tmp_path / "c.parquet", {"x": lists})
        with pytest.raises(DataError, match=rf"c\.parquet row 2.* ({message})"):
            open_data(tmp_path / "c.parquet")


def test_columns_that_cannot_be_told_apart_are_asked_for(tmp_path, arrow):
    images = rows()["image"]
    write_rows(tmp_path / "a.parquet", {"left": images, "right": images})
    with pytest.raises(DataError, match=r"left, right; say which, as column=left"):
        open_data(tmp_path / "a.parquet")
    assert len(open_data(tmp_path / "a.parquet", column="right")) == 5
    write_rows(tmp_path / "b.parquet", {"text": ["a", "b"], "n": [1, 2]})
    with pytest.raises(DataError, match="none holds pictures"):
        open_data(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="say which column"):
        open_data(tmp_path / "b.parquet", column="n")


def test_row_groups_too_large_to_read_are_refused(tmp_path, arrow, monkeypatch):
    write_rows(tmp_path / "a.parquet", rows())
    monkeypatch.setattr("unnoise.data.tables.GROUP_BYTES", 100)
    with pytest.raises(DataError, match="row_group_size"):
        open_data(tmp_path / "a.parquet")


def test_a_missing_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'unnoise\[parquet\]'"):
        open_data(tmp_path / "a.parquet")
