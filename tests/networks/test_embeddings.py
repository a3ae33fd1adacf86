import math

import pytest
import torch

from unnoise.errors import InvalidArgument
from unnoise.fields.condition import Condition
from unnoise.networks.embeddings import Embedding, fourier_features, resolve_conditions


def of(ids, keep=None, name="class"):
    ids = torch.as_tensor(ids)
    keep = torch.ones(len(ids), dtype=torch.bool) if keep is None else torch.tensor(keep)
    return Condition({name: ids}, keep)


def test_fourier_features_are_sines_and_cosines_of_geometric_frequencies():
    level = torch.tensor([0.0, 0.3, -7.0])
    got = fourier_features(level, 8, lowest=0.1, highest=100.0)
    for row, value in enumerate([0.0, 0.3, -7.0]):
        for k, omega in enumerate([0.1, 1.0, 10.0, 100.0]):
            assert got[row, k].item() == pytest.approx(math.sin(omega * value), abs=2e-4)
            assert got[row, 4 + k].item() == pytest.approx(math.cos(omega * value), abs=2e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_embedding_is_float32_whatever_the_weights(autocast):
    embed = Embedding(16, resolve_conditions(None, 3)).bfloat16()
    close = torch.tensor([0.5, 0.5 + 1e-4])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = embed(close, of([1, 1]))
    assert out.dtype == torch.float32
    assert not torch.equal(out[0], out[1])
    wide = Embedding(16, resolve_conditions(None, 3))
    wide.load_state_dict({name: p.float() for name, p in embed.state_dict().items()})
    assert torch.equal(out, wide(close, of([1, 1])))


@pytest.mark.parametrize("null", ["learned", "zero"])
@pytest.mark.parametrize("kind", ["class", "vector"])
def test_null(kind, null):
    size = {"count": 4} if kind == "class" else {"width": 3}
    embed = Embedding(16, resolve_conditions({"a": {"kind": kind, "null": null, **size}}))
    value = torch.tensor([0, 3]) if kind == "class" else torch.randn(2, 3)
    level = torch.rand(2)
    absent = embed(level, None)
    assert torch.equal(embed(level, of(value, [False, False], "a")), absent)
    mixed = embed(level, of(value, [True, False], "a"))
    assert torch.equal(mixed[1], absent[1])
    assert not torch.allclose(mixed[0], absent[0])
    silent = torch.nn.functional.silu(embed.noise(level))
    assert torch.allclose(absent, silent) == (null == "zero")


def test_the_value_of_a_dropped_condition_is_not_looked_at():
    embed = Embedding(16, resolve_conditions(None, 3))
    level = torch.rand(2)
    assert torch.equal(embed(level, of([-1, 2], [False, True]))[0], embed(level, None)[0])


def test_two_conditions_add_up_before_the_activation():
    embed = Embedding(
        8, resolve_conditions({"style": {"kind": "vector", "width": 2, "null": "zero"}}, 3)
    )
    level, style = torch.rand(2), torch.randn(2, 2)
    keep = torch.ones(2, dtype=torch.bool)
    got = embed(level, Condition({"class": torch.tensor([2, 0]), "style": style}, keep))
    part = embed.conditions["style"]
    table = embed.conditions["class"].table.weight
    want = (
        embed.noise(level)
        + table[[2, 0]]
        + part.second(torch.nn.functional.silu(part.first(style)))
    )
    torch.testing.assert_close(got, torch.nn.functional.silu(want))


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (of([0, 3]), "class 3; the network knows 0 to 2"),
        (of([-1, 0]), "class -1"),
        (of([0.5, 1.0]), "float32"),
        (of([[0], [1]]), r"shape \(2, 1\)"),
        (of([0, 1], name="clas"), "did you mean 'class'"),
        (Condition({}, torch.ones(2, dtype=torch.bool)), "'class' is missing"),
        (Condition({"class": {"a": torch.zeros(2)}}, torch.ones(2, dtype=torch.bool)), "a tree"),
    ],
)
def test_wrong_conditions(condition, says):
    embed = Embedding(8, resolve_conditions(None, 3))
    with pytest.raises(InvalidArgument, match=says):
        embed(torch.rand(2), condition)


def test_vector_of_the_wrong_width():
    embed = Embedding(8, resolve_conditions({"a": {"kind": "vector", "width": 3}}))
    with pytest.raises(InvalidArgument, match=r"\(batch, 3\)"):
        embed(torch.rand(2), of(torch.randn(2, 4), name="a"))


def test_a_condition_for_a_network_without_any():
    with pytest.raises(InvalidArgument, match="built without conditions"):
        Embedding(8, {})(torch.rand(2), of([0, 1]))


@pytest.mark.parametrize(
    ("conditions", "classes", "says"),
    [
        ({"a": {"kind": "clas", "count": 3}}, None, "did you mean 'class'"),
        ({"a": {"kind": "class", "width": 3}}, None, "'width'"),
        ({"a": {"kind": "class", "count": 0}}, None, "is 0"),
        ({"a": {"kind": "class", "count": 3, "null": "lerned"}}, None, "did you mean 'learned'"),
        ({"a": 3}, None, "give a mapping"),
        ({"class": {"kind": "class", "count": 3}}, 3, "give one of them"),
        (None, True, "True"),
    ],
)
def test_wrong_declarations(conditions, classes, says):
    with pytest.raises(InvalidArgument, match=says):
        resolve_conditions(conditions, classes)
