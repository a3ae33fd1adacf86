"""The header of a safetensors file is refused by what it says, before a tensor is read."""

import io

import pytest
import torch
from safetensors.torch import save

from tests.artifacts.attacks.tensors import joined, parts
from unnoise.safe_files.header import MOST_HEADER, MOST_TENSORS, Entry, read_header


def entry(begin, end, shape=None, dtype="U8"):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape,
            "data_offsets": [begin, end]}  # fmt: skip


def read(content):
    return read_header(io.BytesIO(content), len(content))


def test_what_the_library_writes_is_read_as_it_is():
    tensors = {
        "a": torch.zeros(2, 3), "b": torch.zeros(0, dtype=torch.int64), "c": torch.tensor(True),
        "d": torch.zeros(5, dtype=torch.bfloat16),
    }  # fmt: skip
    content = save(tensors, {"note": "x"})
    file = io.BytesIO(content)
    found = read_header(file, len(content))
    assert found == {k: Entry(v.dtype, tuple(v.shape)) for k, v in tensors.items()}
    assert sum(e.bytes for e in found.values()) == len(parts(content)[1])
    assert file.read() == parts(content)[1]


@pytest.mark.parametrize(
    ("tree", "body", "words"),
    [
        ({"a": entry(0, 4), "b": entry(2, 6)}, 6, "'b' overlaps"),
        ({"a": entry(0, 4), "b": entry(0, 4)}, 4, "'b' overlaps"),
        ({"a": entry(0, 4), "b": entry(6, 8)}, 8, "'b' leaves a hole"),
        ({"a": entry(2, 4)}, 4, "'a' leaves a hole"),
        ({"a": entry(0, 4)}, 6, "take 4 bytes, and 6 follow"),
        ({"a": entry(0, 4)}, 2, "take 4 bytes, and 2 follow"),
        ({"a": entry(0, 0, [2**32, 2**32])}, 0, "which is not what that takes"),
        ({"a": entry(0, 0, [0, 2**63])}, 0, "which is not what that takes"),
        ({"a": entry(0, 4, [2])}, 4, "which is not what that takes"),
        ({"a": entry(0, 4, [-1, -4])}, 4, "has shape"),
        ({"a": entry(0, 4, [True, 4])}, 4, "has shape"),
        ({"a": entry(0, 4) | {"data_offsets": [4, 0]}}, 4, "has data_offsets"),
        ({"a": entry(0, 4) | {"dtype": "object"}}, 4, "has dtype 'object'"),
        ({"a": entry(0, 4) | {"code": "x"}}, 4, "does not say exactly"),
        ({"a": None}, 0, "does not say exactly"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__"),
        ({str(i): entry(0, 0) for i in range(MOST_TENSORS + 1)}, 0, "at most 20,000"),
        (b"[]", 0, "no object"),
        (b'{"a": NaN}', 0, "not sound JSON"),
        (b'{"\xff": 1}', 0, "no UTF-8"),
        (b'{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}', 0, "given twice"),
    ],
)
def test_each_lie_is_named(tree, body, words):
    with pytest.raises(ValueError, match=words):
        read(joined(tree, bytes(body)))


@pytest.mark.parametrize("length", [0, 1, 3, 100, 2**63, 2**64 - 1])
def test_a_length_that_cannot_be_is_refused_before_anything_is_read(length):
    file = io.BytesIO(joined(b"{}", b"", length))
    with pytest.raises(ValueError, match="its header should take"):
        read_header(file, 10)
    assert file.tell() == 8


def test_a_header_that_is_too_long_is_not_read():
    file = io.BytesIO((MOST_HEADER + 1).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="at most"):
        read_header(file, 2**40)
    for short in (b"", b"1234567"):
        with pytest.raises(ValueError, match="alone takes 8"):
            read(short)
