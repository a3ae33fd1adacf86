"""Columns beside the values, of every kind of file, become conditions; what cannot is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.shards import png, write_tar
from unnoise.data import check, from_arrays, open_data
from unnoise.data.columns import could_be, encode
from unnoise.errors import DataError, InvalidArgument

ASKED = {"age": "vector", "kind": "class"}
N = 30
AGE = [20.0 + 1.5 * i for i in range(N)]
KIND = ["ab"[i % 2] * 2 for i in range(N)]


def picture(i):
    return (np.arange(30).reshape(5, 6) * 3 + i).astype(np.uint8)


def rows(i):
    return {"age": AGE[i], "kind": KIND[i], "label": i % 3, "memo": f"sample {i}"}


def make(kind, folder):
    """Data of a kind with the columns age, kind and memo beside the labels."""
    if kind == "folder":
        lines = []
        for i in range(N):
            Image.fromarray(picture(i)).save(folder / f"{i:02d}.png")
            lines.append(json.dumps({"file_name": f"{i:02d}.png", **rows(i)}))
        (folder / "metadata.jsonl").write_text("\n".join(lines))
        return folder
    if kind == "npz":
        x = np.stack([picture(i) for i in range(N)])
        np.savez(folder / "a.npz", x=x, y=np.arange(N) % 3, age=np.array(AGE), kind=np.array(KIND))
        return folder / "a.npz"
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
        import pyarrow.parquet as pq

        table = {"image": [png(picture(i)) for i in range(N)]}
        table |= {name: [rows(i)[name] for i in range(N)] for name in rows(0)}
        pq.write_table(pa.table(table), folder / "a.parquet", row_group_size=7)
        return folder / "a.parquet"
    members = []
    for i in range(N):
        members += [
            (f"{i:02d}.png", png(picture(i))),
            (f"{i:02d}.json", json.dumps(rows(i)).encode()),
        ]
    return write_tar(folder / "a.tar", members)


@pytest.fixture(params=["folder", "npz", "parquet", "webdataset"])
def kind(request):
    return request.param


@pytest.mark.parametrize("stream", [False, True])
def test_columns_of_every_kind_of_file_are_read_right(kind, stream, tmp_path, cache):
    if kind == "npz" and stream:
        pytest.skip("a .npz file is read whole")
    (tmp_path / "d").mkdir()
    data = open_data(make(kind, tmp_path / "d"), conditions=ASKED, stream=stream)
    assert list(data.columns) == list(data.spec.conditions) == ["class", "age", "kind"]
    assert data.columns["age"].tolist() == [[age] for age in AGE]
    assert data.columns["kind"].tolist() == [i % 2 for i in range(N)]
    assert data.labels.tolist() == [i % 3 for i in range(N)]
    assert data.spec.conditions["kind"].names == ("aa", "bb")
    assert data.spec.conditions["age"].mean == pytest.approx((np.mean(AGE),), rel=1e-12)
    assert data.spec.conditions["age"].std == pytest.approx((np.std(AGE),), rel=1e-12)
    assert torch.equal(data.values[4, 0], torch.from_numpy(picture(4)))
    batch = data.batch([7, 3])
    wanted = (np.array([[AGE[7]], [AGE[3]]]) - np.mean(AGE)) / np.std(AGE)
    torch.testing.assert_close(batch.condition.values["age"], torch.from_numpy(wanted).float())
    assert batch.condition.values["kind"].tolist() == [1, 1]
    assert all(bool(mask.all()) for mask in batch.condition.keep.values())
    parts = data.split({"train": 20, "test": 10}, 0)
    age = parts["train"].columns["age"].double()
    assert parts["test"].spec.conditions["age"].mean == pytest.approx((float(age.mean()),))
    assert sorted(parts["test"].columns["age"][:, 0].tolist() + age[:, 0].tolist()) == AGE
    assert data.subset([5, 2]).columns["age"].tolist() == [[AGE[5]], [AGE[2]]]


def test_labels_alone_are_as_before_and_the_fingerprint_sees_every_column(kind, tmp_path, cache):
    (tmp_path / "d").mkdir()
    path = make(kind, tmp_path / "d")
    if kind != "npz":
        assert list(open_data(path).columns) == ["class"]
    found = {
        str(asked): open_data(path, conditions=asked).fingerprint()
        for asked in ({"age": "vector", "kind": "class"}, {"kind": "class", "age": "vector"})
        if kind == "npz" or asked
    }
    assert len(set(found.values())) == 1  # the order in which they are asked for is nothing
    x, y = np.arange(60.0).reshape(30, 2), np.arange(30) % 3

    def of(**options):
        return from_arrays(x, y, **options).fingerprint()

    aged = {"columns": {"age": AGE}, "conditions": {"age": "vector"}}
    other = {"columns": {"age": [*AGE[:-1], 0.5]}, "conditions": {"age": "vector"}}
    named = {"columns": {"old": AGE}, "conditions": {"old": "vector"}}
    assert len({of(), of(**aged), of(**other), of(**named)}) == 4


def test_a_check_lists_the_columns_and_what_each_could_be(kind, tmp_path, cache):
    (tmp_path / "d").mkdir()
    path = make(kind, tmp_path / "d")
    found = check(path, conditions=ASKED)
    assert found.sound
    assert found.columns["age"] == ["vector of 1"]
    assert found.columns["kind"] == ["class of 2"]
    assert found.conditions == {"age": "1 number(s)", "kind": "the classes ('aa', 'bb')"}
    if kind != "npz":
        assert found.columns["memo"] == []  # a text a sample is no class


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ([1, 2, 1, 2], ["class of 2", "vector of 1"]),
        ([1995, 2003, 1995, 2003], ["class of 2", "vector of 1"]),
        ([0.5, 1.5, 2.5], ["vector of 1"]),
        ([[1, 2.5], [3, 4]], ["vector of 2"]),
        (["a", "b", "a"], ["class of 2"]),
        (["a", None, "a"], []),
        ([True, False, True], []),
        ([[1, 2], [3]], []),
        (list(range(100)), ["vector of 1"]),
        (np.arange(8.0).reshape(4, 2), ["vector of 2"]),
        (np.array(["b", "a", "b"]), ["class of 2"]),
        (np.zeros((3, 2, 2)), []),
    ],
)
def test_what_a_column_could_be(values, kinds):
    assert could_be(values) == kinds


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("vector", [1.0, None], "row 1: age is missing; give it for every sample"),
        ("vector", [1.0, float("nan")], r"row 1: age is \[nan\].*remove them or fill them in"),
        ("vector", [1.0, 1e39], r"row 1: age is \[1e\+39\].*1 sample\(s\) in all are not finite"),
        ("vector", [1.0, "old"], "row 1: age is 'old'; a vector is a number.*age=class"),
        ("vector", [[1, 2], [3]], "row 1: age holds 1 numbers, and the first sample 2"),
        ("vector", [[1.0], []], "row 1: age is an empty list"),
        ("vector", [1.0, True], "row 1: age is True"),
        ("vector", np.zeros((2, 2, 2)), r"has shape \(2, 2, 2\); give \(samples,\)"),
        ("vector", np.array([0.0, np.inf]), r"row 1: age is \[inf\]"),
        ("class", ["a", None], "row 1: age is missing"),
        ("class", ["a", 1], "row 1: age is 1; a class is a name or a whole number"),
        ("class", [0.5, 1.5], "row 0: age is 0.5; a class is .*age=vector"),
        ("class", ["a", ""], "row 1: age is empty"),
        ("class", list(range(100)), "'age' has 100 values in 100 samples, too many.*age=vector"),
        ("class", [f"n{i}" for i in range(100)], "'age' has 100 values.*take it out"),
    ],
)
def test_values_that_are_no_condition_are_refused(kind, values, message):
    with pytest.raises(DataError, match=message):
        encode("age", kind, values, "row {}".format)


def test_what_is_asked_for_and_is_not_there_is_refused(kind, tmp_path, cache):
    (tmp_path / "d").mkdir()
    path = make(kind, tmp_path / "d")
    both = dict(ASKED)
    with pytest.raises(DataError, match=r"no column 'agee'.*its columns: .*age|agee"):
        open_data(path, conditions={**both, "agee": "vector"})
    for wrong, message in (
        ({"age": "vektor"}, "did you mean 'vector'"),
        ({"a.b": "vector"}, "use letters"),
        ({"class": "vector"}, "the labels'"),
        (["age"], "give kinds by column"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            open_data(path, conditions=wrong)
    with pytest.raises(DataError, match="kind is 'aa'; a vector is a number"):
        open_data(path, conditions={"age": "vector", "kind": "vector"})


def test_a_line_without_its_value_is_named(tmp_path, cache):
    (tmp_path / "d").mkdir()
    folder = make("folder", tmp_path / "d")
    lines = (folder / "metadata.jsonl").read_text().split("\n")
    bad = json.loads(lines[4])
    del bad["age"]
    lines[4] = json.dumps(bad)
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"metadata\.jsonl line 5: age is missing"):
        open_data(folder, conditions={"age": "vector"})
    found = check(folder, conditions={"age": "vector"})
    assert [fault.kind for fault in found.faults] == ["column"]
    assert "line 5" in found.faults[0].message


def test_arrays_of_other_lengths_and_arrays_nobody_asked_for_are_refused(tmp_path):
    x = np.arange(60.0).reshape(30, 2)
    np.savez(tmp_path / "a.npz", x=x, age=np.arange(29.0))
    with pytest.raises(DataError, match=r"'age'.*\(29,\); give a row for each of the 30"):
        open_data(tmp_path / "a.npz", conditions={"age": "vector"})
    np.savez(tmp_path / "b.npz", x=x, age=np.array(AGE))
    with pytest.raises(DataError, match=r"data\.conditions\.age=vector"):
        open_data(tmp_path / "b.npz")
    found = check(tmp_path / "b.npz")
    assert found.columns == {"age": ["vector of 1"]}
    assert "data.conditions.age=vector" in found.faults[0].message
    with pytest.raises(InvalidArgument, match="say what it is"):
        from_arrays(x, columns={"age": AGE})


def test_a_column_takes_the_place_of_the_labels_where_it_has_their_name(tmp_path, cache):
    (tmp_path / "d").mkdir()
    folder = make("folder", tmp_path / "d")
    named = open_data(folder, conditions={"label": "class"})
    assert list(named.columns) == ["label"]
    assert named.labels is None
    same = open_data(folder, conditions={"class": "class"})
    assert list(same.columns) == ["class"]
    assert same.labels.tolist() == [i % 3 for i in range(N)]
    without = open_data(folder, conditions={"age": "vector"}, labelled=False)
    assert list(without.columns) == ["age"]
