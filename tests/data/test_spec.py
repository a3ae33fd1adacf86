import json

import pytest
import torch

from tests.data.samples import labelled
from unnoise.data import DataSpec, from_arrays
from unnoise.errors import DataError, InvalidArgument, NonFinite


def every_byte(normalisation, value_range=None):
    values = torch.arange(256, dtype=torch.uint8).repeat(6).reshape(3, 2, 16, 16)
    return from_arrays(
        values, layout="NCHW", normalisation=normalisation, value_range=value_range
    ).spec, values


@pytest.mark.parametrize("normalisation", ["standardise", "range"])
def test_bytes_survive_the_round_trip_exactly(normalisation):
    spec, values = every_byte(normalisation)
    x = spec.normalise(values)
    assert x.dtype == torch.float32
    assert torch.equal(spec.restore(x), values)
    assert spec.restore(x).dtype == torch.uint8
    assert torch.equal(spec.restore(x[0]), values[0])


@pytest.mark.parametrize("normalisation", ["standardise", "range"])
def test_floats_survive_the_round_trip_to_rounding(normalisation):
    raw = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)) * 3 + 11
    spec = from_arrays(raw, normalisation=normalisation).spec
    torch.testing.assert_close(spec.restore(spec.normalise(raw)), raw, rtol=1e-6, atol=2e-6)


def test_standardise_is_mean_0_and_std_1_in_each_channel():
    data = labelled()
    x = data.spec.normalise(data.values).double()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(2).double())
    raw = data.values.double()
    torch.testing.assert_close(
        torch.tensor(data.spec.mean, dtype=torch.float64), raw.mean((0, 2, 3)), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        torch.tensor(data.spec.std, dtype=torch.float64),
        raw.std((0, 2, 3), correction=0),
        rtol=1e-12,
        atol=0,
    )


def test_range_maps_the_declared_ends_to_minus_one_and_one():
    x = torch.tensor([[0.0, 4.0], [2.0, 3.0]])
    spec = from_arrays(x, normalisation="range", value_range=(0, 8)).spec
    assert spec.range_declared
    assert torch.equal(spec.normalise(x), torch.tensor([[-1.0, 0.0], [-0.5, -0.25]]))
    measured = from_arrays(x, normalisation="range").spec
    assert measured.value_range == (0.0, 4.0)
    assert not measured.range_declared


def test_output_is_clipped_to_the_range_and_may_be_left_alone():
    spec = from_arrays(torch.tensor([[0.0], [1.0]]), normalisation="range").spec
    x = torch.tensor([[-3.0], [3.0]])
    assert spec.restore(x).flatten().tolist() == [0.0, 1.0]
    assert spec.restore(x, clip=False).flatten().tolist() == [-1.0, 2.0]
    bytes_, _ = every_byte("range")
    assert bytes_.restore(torch.full((2, 16, 16), 9.0)).unique().tolist() == [255]
    assert bytes_.restore(torch.full((2, 16, 16), -9.0), clip=False).unique().tolist() == [0]


def test_pixels_spread_the_range_over_bytes():
    x = torch.tensor([0, 8, 16, 4], dtype=torch.uint8).reshape(2, 1, 2)
    spec = from_arrays(x, layout="NHW", value_range=(0, 16)).spec
    assert spec.pixels(spec.normalise(x[:, None])).flatten().tolist() == [0, 128, 255, 64]
    assert int(spec.restore(torch.full((1, 1, 2), 99.0)).max()) == 16


def test_pixels_of_a_range_that_does_not_begin_at_zero():
    x = torch.tensor([-1.0, 0.0, 1.0, 0.5]).reshape(2, 1, 1, 2)
    spec = from_arrays(x, layout="NCHW", value_range=(-1, 1)).spec
    assert spec.pixels(spec.normalise(x)).flatten().tolist() == [0, 128, 255, 191]


def test_floats_are_measured_over_the_samples():
    spec = from_arrays(torch.tensor([[1.0, 0.0], [3.0, 8.0]])).spec
    assert (spec.mean, spec.std) == ((2.0, 4.0), (1.0, 4.0))


def test_a_channel_that_never_changes_becomes_zero():
    raw = torch.tensor([[5.0, 1.0], [5.0, 3.0]])
    spec = from_arrays(raw).spec
    assert spec.normalise(raw)[:, 0].tolist() == [0.0, 0.0]
    assert torch.equal(spec.restore(spec.normalise(raw)), raw)


def test_non_finite_values_and_other_shapes_are_not_restored():
    spec, _ = every_byte("range")
    with pytest.raises(NonFinite):
        spec.restore(torch.full((2, 16, 16), torch.nan))
    with pytest.raises(InvalidArgument, match=r"\(1, 16, 16\)"):
        spec.normalise(torch.zeros(1, 16, 16))


def test_class_index_takes_numbers_and_names():
    spec = labelled().spec
    assert [spec.class_index(c) for c in (2, "c1", "0")] == [2, 1, 0]
    for wrong in (3, -1, "-1", "c9"):
        with pytest.raises(InvalidArgument, match="0 to 2"):
            spec.class_index(wrong)


def test_json_round_trip():
    for spec in (labelled().spec, from_arrays(torch.eye(3)).spec):
        assert DataSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key"),
        ({"means": [1.0]}, "did you mean 'mean'"),
        ({"shape": "2"}, "shape"),
        ({"shape": [2.0, 3, 5]}, "shape"),
        ({"shape": [2, 3]}, "shape"),
        ({"shape": [True, 3, 5]}, "shape"),
        ({"mean": [1.0, 2.0, 3.0]}, "mean"),
        ({"std": [0.0]}, "std"),
        ({"std": [-1.0]}, "std"),
        ({"value_range": [1, 0]}, "value_range"),
        ({"value_range": [0, 1, 2]}, "value_range"),
        ({"range_declared": 1}, "range_declared"),
        ({"modality": "picture"}, "unknown modality"),
        ({"dtype": "float64"}, "did you mean 'float32'"),
        ({"normalisation": "none"}, "unknown normalisation"),
        ({"conditions": {"class": {"kind": "class", "names": ["a", "a"]}}}, "no two alike"),
        ({"conditions": {"class": {"kind": "class", "names": [1]}}}, "list of names"),
        ({"conditions": {"class": {"kind": "class"}}}, "kind, names"),
        ({"conditions": {"age": {"kind": "vektor"}}}, "did you mean 'vector'"),
        ({"conditions": {"age": {"kind": "vector", "mean": [1], "std": [0]}}}, "std above 0"),
        ({"conditions": {"age": {"kind": "vector", "mean": [1], "std": ["1"]}}}, "list of numbers"),
        ({"conditions": {"a.b": {"kind": "class", "names": ["a"]}}}, "use letters"),
        ({"conditions": [1]}, "give an object"),
        ({"channels": "RGB"}, "channels"),
        ({"name": None}, "name"),
    ],
)
def test_a_description_that_is_not_sound_is_refused(change, message):
    values = labelled().spec.to_dict() | change
    with pytest.raises(DataError, match=message):
        DataSpec.from_json(json.dumps(values))


@pytest.mark.parametrize("drop", ["licence", "fingerprint", "mean"])
def test_a_missing_key_is_named(drop):
    values = labelled().spec.to_dict()
    del values[drop]
    with pytest.raises(DataError, match=drop):
        DataSpec.from_dict(values)


def test_json_with_nan_or_a_key_twice_is_refused():
    text = labelled().spec.to_json()
    with pytest.raises(DataError, match="twice"):
        DataSpec.from_json(text.replace('"name":', '"licence": "x", "name":'))
    for bad in ('{"mean": [NaN]}', "[", '"text"'):
        with pytest.raises(DataError):
            DataSpec.from_json(bad)
