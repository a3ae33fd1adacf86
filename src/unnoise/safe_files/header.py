"""The header of a safetensors file, checked before any tensor is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from .strict_json import strict_json

MOST_HEADER = 2 * 2**20  # bytes; the library itself would take 100 million
MOST_TENSORS = 20_000
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "I16": torch.int16, "U16": torch.uint16, "F16": torch.float16,
    "BF16": torch.bfloat16, "I32": torch.int32, "U32": torch.uint32, "F32": torch.float32,
    "I64": torch.int64, "U64": torch.uint64, "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: BinaryIO, size: int) -> dict[str, Entry]:
    """Return the entries of a file of `size` bytes by name; the position is left after the header.

    Eight bytes of length, that many bytes of JSON, then the tensors one after the other without
    gaps or overlaps up to the end of the file. Raises ValueError (DataError for the JSON) naming
    the violation.
    """
    if size < 8:
        raise ValueError(f"it holds {size} bytes, and the length of its header alone takes 8")
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= size - 8:
        raise ValueError(f"its header should take {length:,} bytes, and the file holds {size:,}")
    if length > MOST_HEADER:
        raise ValueError(f"its header takes {length:,} bytes; at most {MOST_HEADER:,} are read")
    try:
        text = file.read(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"its header is no UTF-8 text ({error})") from error
    tree = strict_json(text, "its header")
    if not isinstance(tree, dict):
        raise ValueError("its header is no object of tensors")
    notes = tree.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise ValueError("the __metadata__ of its header is no object of texts")
    if len(tree) > MOST_TENSORS:
        raise ValueError(f"it lists {len(tree):,} tensors; at most {MOST_TENSORS:,} are read")
    spans = []
    entries = {}
    for name, value in tree.items():
        entries[name], span = _entry(name, value)
        spans.append((*span, name))
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            fault = "overlaps what comes before it" if begin < at else "leaves a hole before it"
            raise ValueError(f"tensor {_short(name)} {fault}")
        at = end
    if at != size - 8 - length:
        raise ValueError(
            f"its tensors take {at:,} bytes, and {size - 8 - length:,} follow the header: it is "
            "cut off, or something was added"
        )
    return entries


def _entry(name: str, value: Any) -> tuple[Entry, tuple[int, int]]:
    where = f"tensor {_short(name)}"
    if not isinstance(value, Mapping) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} does not say exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{where} has dtype {_short(dtype)}; known: {', '.join(DTYPES)}")
    if not _whole(shape) or len(shape) > 16:
        raise ValueError(f"{where} has shape {_short(shape)}; give sizes of at least 0")
    if not _whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where} has data_offsets {_short(offsets)}; give begin and end")
    entry = Entry(DTYPES[dtype], tuple(shape))
    if max(shape, default=0) >= 2**63 or entry.bytes != offsets[1] - offsets[0]:
        raise ValueError(
            f"{where} of shape {_short(tuple(shape))} and {dtype} has {offsets[1] - offsets[0]:,} "
            "bytes, which is not what that takes"
        )
    return entry, (offsets[0], offsets[1])


def _whole(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
