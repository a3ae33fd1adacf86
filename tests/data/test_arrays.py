import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from unnoise.data import from_arrays, open_arrays
from unnoise.errors import DataError, InvalidArgument


def bytes_(*shape, seed=0):
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)


def floats(*shape, seed=0):
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape, np.float32)


@pytest.mark.parametrize(
    ("x", "layout", "shape", "modality", "channels"),
    [
        (floats(5, 3), None, (3,), "vector", "features"),
        (bytes_(5, 9, 7), None, (1, 9, 7), "image", "L"),
        (bytes_(5, 3, 7), None, (1, 3, 7), "image", "L"),
        (bytes_(5, 9, 7, 3), None, (3, 9, 7), "image", "RGB"),
        (bytes_(5, 3, 9, 7), None, (3, 9, 7), "image", "RGB"),
        (bytes_(5, 9, 7, 1), None, (1, 9, 7), "image", "L"),
        (bytes_(5, 4, 9, 7), None, (4, 9, 7), "image", "4 channels"),
        (bytes_(5, 6, 9, 7), "NCHW", (6, 9, 7), "image", "6 channels"),
        (bytes_(5, 2, 9, 3), "NCHW", (2, 9, 3), "image", "2 channels"),
        (floats(5, 2, 90), "NCL", (2, 90), "signal", "2 channels"),
        (floats(5, 90, 2), "NLC", (2, 90), "signal", "2 channels"),
        (floats(5, 1, 8, 9, 7), None, (1, 8, 9, 7), "volume", "1 channel"),
        (floats(5, 8, 9, 7), "NDHW", (1, 8, 9, 7), "volume", "1 channel"),
        (floats(5, 8, 9, 7, 2), None, (2, 8, 9, 7), "volume", "2 channels"),
    ],
)
def test_every_shape_has_one_reading(x, layout, shape, modality, channels):
    data = from_arrays(x, layout=layout)
    assert (data.spec.shape, data.spec.modality, data.spec.channels) == (shape, modality, channels)
    last = (layout or "") in ("NLC",) or (x.ndim > 3 and x.shape[-1] == shape[0] and layout is None)
    channel = np.take(x, 0, axis=-1 if last else 1) if x.ndim == len(shape) + 1 else x
    assert np.array_equal(data.values[:, 0].numpy(), channel)


@pytest.mark.parametrize(
    "x", [bytes_(5, 3, 9, 3), bytes_(5, 9, 8, 7), floats(5, 2, 90), floats(5, 3, 8, 9, 3)]
)
def test_shapes_with_two_readings_ask_for_the_layout(x):
    with pytest.raises(DataError, match="layout="):
        from_arrays(x)


def test_unknown_and_unfitting_layouts_are_refused():
    with pytest.raises(InvalidArgument, match="did you mean 'NCHW'"):
        from_arrays(bytes_(5, 3, 9, 7), layout="NCWH")
    with pytest.raises(InvalidArgument, match="4 axes"):
        from_arrays(bytes_(5, 9, 7), layout="NCHW")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_non_finite_values_name_the_first_place(bad):
    x = floats(6, 4).astype(np.float64)
    x[4, 2] = x[3, 1] = bad
    with pytest.raises(DataError, match=r"\[3, 1\].* 2 in all"):
        from_arrays(x)


def test_bytes_made_into_floats_are_refused_with_the_remedy():
    x = bytes_(5, 9, 7).astype(np.float32)
    with pytest.raises(DataError, match=r"astype\('uint8'\).*value_range="):
        from_arrays(x)
    with pytest.raises(DataError, match="value_range"):
        from_arrays(x.astype(np.int64))
    declared = from_arrays(x, value_range=(0, 255)).spec
    assert declared.value_range == (0.0, 255.0)
    assert declared.dtype == "float32"
    for known in (x / 255, x / 127.5 - 1, floats(5, 9, 7) * 50):
        assert not from_arrays(known).spec.range_declared
    assert from_arrays(x.reshape(5, 63)).spec.modality == "vector"


def test_values_outside_the_declared_range_are_named():
    x = floats(5, 4) * 0.1
    x[2, 3] = 7
    with pytest.raises(DataError, match=r"7 at \[2, 3\]"):
        from_arrays(x, value_range=(-1, 1))
    tenth = np.array([[0.0], [0.1]], np.float32)
    assert from_arrays(tenth, value_range=(0, 0.1)).spec.value_range == (0.0, 0.1)
    for wrong in ((1, 1), (2, 1), (0, float("nan")), (0, float("inf"))):
        with pytest.raises(InvalidArgument, match="value_range"):
            from_arrays(tenth, value_range=wrong)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (floats(1, 4), "1 sample"),
        (floats(0, 4), "empty axis"),
        (floats(4, 0), "empty axis"),
        (floats(4), r"\(N, 1\)"),
        (np.ones((4, 3), np.float32), "nothing to learn"),
        (np.ones((4, 3), bool), "astype"),
        (np.ones((4, 3), complex), "complex"),
        (np.array([["a"], ["b"]]), "<U1"),
    ],
)
def test_what_cannot_be_learned_is_refused(x, message):
    with pytest.raises(DataError, match=message):
        from_arrays(x)


def test_the_data_set_is_a_copy():
    x = bytes_(5, 9, 7)
    data, before = from_arrays(x), x.copy()
    x[:] = 0
    assert np.array_equal(data.values[:, 0].numpy(), before)
    wide = torch.arange(6, dtype=torch.bfloat16).view(3, 2)
    assert from_arrays(wide).values.flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("y", "names", "message"),
    [
        ([0, 1, 2, 1, -1], None, "label 4 .* is -1"),
        ([1, 2, 3, 1, 2], None, "no sample has label 0"),
        ([0, 2, 0, 2, 0], None, "no sample has label 1"),
        ([0, 1, 2, 0, 1], ["a", "b"], "label 2 .* 0 to 1"),
        ([0.0, 1.0, 0.0, 1.0, 0.0], None, "whole numbers"),
        ([True, False, True, True, True], None, "whole numbers"),
        ([0, 1], None, "5 samples"),
        (np.eye(5), None, "argmax"),
        (["cat", "dgo", "cat", "dog", "cat"], ["cat", "dog"], "label 1 .* mean 'dog'"),
        ([0, 1, 0, 1, 0], ["a", "a"], "no two alike"),
    ],
)
def test_labels_that_do_not_fit_are_named(y, names, message):
    with pytest.raises(DataError, match=message):
        from_arrays(floats(5, 3), y, class_names=names)


def test_labels_and_names():
    data = from_arrays(floats(4, 3), ["dog", "cat", "dog", "ape"])
    assert data.spec.class_names == ("ape", "cat", "dog")
    assert data.labels.tolist() == [2, 1, 2, 0]
    data = from_arrays(floats(4, 3), ["dog", "cat", "dog", "cat"], class_names=["dog", "cat", "x"])
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.class_counts() == {"dog": 2, "cat": 2, "x": 0}
    assert from_arrays(floats(4, 3), np.uint8([1, 0, 1, 0])).spec.class_names == ("0", "1")
    with pytest.raises(InvalidArgument, match="no labels"):
        from_arrays(floats(4, 3), class_names=["a"])


def test_numpy_files(tmp_path):
    x, y = bytes_(6, 9, 7), np.array([0, 1, 2, 0, 1, 2])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "plain.npz", x=x)
    np.savez_compressed(tmp_path / "all.npz", x=x, labels=y, class_names=["a", "b", "c"])
    plain = open_arrays(tmp_path / "x.npy")
    assert np.array_equal(plain.values[:, 0].numpy(), x)
    assert plain.labels is None
    assert open_arrays(tmp_path / "x.npy", labels=tmp_path / "y.npy").labels.tolist() == y.tolist()
    assert open_arrays(tmp_path / "plain.npz").spec.name == "plain"
    whole = open_arrays(tmp_path / "all.npz")
    assert whole.class_counts() == {"a": 2, "b": 2, "c": 2}
    with pytest.raises(InvalidArgument, match="'y'"):
        open_arrays(tmp_path / "plain.npz", labels=tmp_path / "y.npy")


def test_npz_keys_are_a_closed_set(tmp_path):
    x = floats(4, 3)
    for keys, message in (
        ({"images": x}, "'images' is not known"),
        ({"x": x, "extra": x}, "'extra' is not known"),
        ({"y": np.arange(4)}, "needs 'x'"),
        ({"x": x, "y": np.arange(4), "labels": np.arange(4)}, "one of"),
    ):
        np.savez(tmp_path / "a.npz", **keys)
        with pytest.raises(DataError, match=message):
            open_arrays(tmp_path / "a.npz")


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", x=np.array([Trap()], dtype=object))
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Trap()))
    for name, message in (
        ("objects.npy", "pickled"),
        ("objects.npz", "pickled"),
        ("pickle.npy", "cannot be read"),
    ):
        with pytest.raises(DataError, match=message):
            open_arrays(tmp_path / name)


def huge_header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue() + b"\0" * 64


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2**62, 8), (17,), (15,)])
def test_headers_that_declare_more_than_there_is_are_refused(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(huge_header(shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", huge_header(shape))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=name):
            open_arrays(tmp_path / name)


def test_damaged_and_missing_files_are_named(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=floats(50, 30))
    whole = (tmp_path / "a.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(flipped)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1,2,3")
    (tmp_path / "zip.npy").write_bytes(whole)
    np.save(tmp_path / "cut.npy", floats(50, 30))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    for name in ("cut.npz", "flipped.npz", "empty.npy", "text.npy", "zip.npy", "cut.npy"):
        with pytest.raises(DataError, match=name):
            open_arrays(tmp_path / name)
    for name in ("absent.npy", "absent.npz"):
        with pytest.raises(DataError, match="no file"):
            open_arrays(tmp_path / name)
    with pytest.raises(DataError, match="neither"):
        open_arrays(tmp_path / "a.pkl")


def test_an_archive_that_unpacks_to_too_much_is_refused_first(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000), np.float32))
    monkeypatch.setattr("unnoise.data.numpy_files.MAX_BYTES", 10**6)
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match="GiB"):
        open_arrays(tmp_path / "a.npz")
