import hashlib

import pytest
import torch

from unnoise.errors import ArtifactError
from unnoise.safe_files import files


def test_bytes_are_written_whole_and_leave_nothing_beside(tmp_path):
    files.write_bytes(tmp_path / "a", b"one")
    files.write_bytes(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, fault):
    files.write_bytes(tmp_path / "a", b"old")

    def fail(handle):
        raise fault

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises((ArtifactError, KeyboardInterrupt)) as error:
        files.write_bytes(tmp_path / "a", b"new")
    if isinstance(fault, OSError):
        assert "No space left" in str(error.value)
        assert "untouched" in str(error.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()
    files.write_json(tmp_path / "a.json", {"x": [1, "é"]})
    assert files.read_json(tmp_path / "a.json") == {"x": [1, "é"]}


@pytest.mark.parametrize(
    "content",
    [
        b'{"x": NaN}', b'{"x": Infinity}', b'{"x": 1, "x": 2}', b'{"x": 1', b"", b"\xff\xfe",
        b"[" * 100_000, b'{"x": 1} more',
    ],
)  # fmt: skip
def test_json_that_is_not_sound_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")


def test_tensors_come_back_bitwise_whatever_their_memory(tmp_path):
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    given = {
        "last": x.to(memory_format=torch.channels_last),
        "part": x[1:, ::2],
        "shared": x,
        "number": torch.tensor(7, dtype=torch.int64),
        "half": x.bfloat16(),
    }
    digest = files.write_tensors(tmp_path / "t", given)
    assert digest == hashlib.sha256((tmp_path / "t").read_bytes()).hexdigest()
    back = files.read_tensors(tmp_path / "t", digest)
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in given.items())


def test_damaged_tensors_are_refused_by_hash_and_without(tmp_path):
    digest = files.write_tensors(tmp_path / "t", {"a": torch.ones(64)})
    good = (tmp_path / "t").read_bytes()
    flipped = bytearray(good)
    flipped[-3] ^= 16
    (tmp_path / "t").write_bytes(flipped)
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        files.read_tensors(tmp_path / "t", digest)
    for bad in (good[:-5], b"", good[:4], (2**60).to_bytes(8, "little") + good[8:], b"\x80\x04."):
        (tmp_path / "t").write_bytes(bad)
        with pytest.raises(ArtifactError, match="no sound safetensors"):
            files.read_tensors(tmp_path / "t")
    with pytest.raises(ArtifactError, match="cannot be read"):
        files.read_tensors(tmp_path / "absent")


def test_check_tensors_names_what_is_wrong():
    layer = torch.nn.Linear(3, 2, device="meta")
    good = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    files.check_tensors(layer, good, "w")
    nan = torch.tensor([0.0, float("nan")])
    for change, words in (
        ({"bias": None}, "lacks 1 tensors, such as 'bias'"),
        ({"more": torch.zeros(1)}, "unknown 1 tensors, such as 'more'"),
        ({"weight": torch.zeros(3, 2)}, r"'weight' is \(3, 2\), the network's is \(2, 3\)"),
        ({"weight": torch.zeros(2, 3).double()}, "'weight' is torch.float64"),
        ({"bias": nan}, "'bias' holds NaN"),
        ({"bias": nan / 0}, "'bias' holds NaN or infinity"),
    ):
        tensors = {k: v for k, v in (good | change).items() if v is not None}
        with pytest.raises(ArtifactError, match=words):
            files.check_tensors(layer, tensors, "w")
