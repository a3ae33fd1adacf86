"""Attacks on a safetensors file."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .attack import Attack, rewrite

HUGE = 2**62


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header as a tree, and what follows it."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any] | bytes, body: bytes, length: int | None = None) -> bytes:
    """A file with this header and body; length: what it says of its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def _tree(change) -> Any:
    """Damage by changing the header's tree (and the body, where a pair is returned)."""

    def damage(content: bytes) -> bytes:
        tree, body = parts(content)
        names = sorted(
            (n for n in tree if n != "__metadata__"), key=lambda n: tree[n]["data_offsets"]
        )
        found = change(tree, names, body)
        return joined(tree, found if isinstance(found, bytes) else body)

    return rewrite(damage)


def _text(change) -> Any:
    """Damage by changing the header's bytes."""

    def damage(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        return joined(change(content[8 : 8 + length]), content[8 + length :])

    return rewrite(damage)


def _set(which: int, **values: Any) -> Any:
    return _tree(lambda tree, names, body: tree[names[which]].update(values))


def _shift(tree, names, by, start):
    for name in names[start:]:
        tree[name]["data_offsets"] = [n + by for n in tree[name]["data_offsets"]]


def _hole(start: int) -> Any:
    def change(tree, names, body):
        at = tree[names[start]]["data_offsets"][0]
        _shift(tree, names, 16, start)
        return body[:at] + bytes(16) + body[at:]

    return _tree(change)


def _overlap(tree, names, body):
    same = [n for n in names if tree[n]["shape"] == tree[names[0]]["shape"]]
    if len(same) > 1:
        tree[same[1]]["data_offsets"] = tree[same[0]]["data_offsets"]
    else:
        _shift(tree, names, -4, 1)
    return body


def _exchanged(tree, names, body):
    a, b = names[0], names[-1]
    tree[a]["data_offsets"], tree[b]["data_offsets"] = (
        tree[b]["data_offsets"],
        tree[a]["data_offsets"],
    )


def _number(tree, names, body, number: float) -> bytes:
    name = next(n for n in names if tree[n]["dtype"] == "F32")
    at = tree[name]["data_offsets"][1] - 4
    return body[:at] + struct.pack("<f", number) + body[at + 4 :]


def _renamed(tree, names, body):
    tree["os.system"] = tree.pop(names[0])


def _many(tree, names, body):
    end = len(body)
    tree.update(
        {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [end, end]} for i in range(100000)}
    )


def _twice(header: bytes) -> bytes:
    tree = json.loads(header)
    name = next(n for n in tree if n != "__metadata__")
    again = f"{json.dumps(name)}: {json.dumps(tree[name])}".encode()
    return b"{" + again + b", " + header.lstrip()[1:]


def _inflated(path: Path) -> None:
    """A sound file in which one tensor more takes 2 TB, that hold nothing on the disk."""
    tree, body = parts(path.read_bytes())
    end, more = len(body), 2**41
    tree["large"] = {"dtype": "F32", "shape": [more // 4], "data_offsets": [end, end + more]}
    path.write_bytes(joined(tree, body))
    os.truncate(path, path.stat().st_size + more)


def _long_header(path: Path, length: int, there: bool) -> None:
    content = path.read_bytes()
    path.write_bytes(length.to_bytes(8, "little") + content[8:])
    if there:
        os.truncate(path, length + 8)


def _spaces(path: Path) -> None:
    tree, body = parts(path.read_bytes())
    path.write_bytes(joined(json.dumps(tree).encode() + b" " * (5 * 2**20), body))


def structural() -> Iterator[Attack]:
    """Headers that lie, and tensors that are others."""

    def attack(group: str, name: str, damage: Any) -> Attack:
        return Attack(group, name, damage, resealed=True)

    for length in (0, 1, 7, 2**31, 2**63, 2**63 - 1, 2**64 - 1, 10**8):
        yield attack(
            "header length", f"{length}", lambda p, n=length: _long_header(p, n, there=False)
        )
    yield attack(
        "header length", "1 more", rewrite(lambda c: (c[0] + 1).to_bytes(1, "little") + c[1:])
    )
    yield attack("header length", "100 MB of it", lambda p: _long_header(p, 10**8, there=True))
    yield attack("header length", "5 MB of spaces", _spaces)
    yield attack("overlap", "two in one place", _tree(_overlap))
    yield attack(
        "overlap", "by one number", _tree(lambda t, n, b: _shift(t, n, -4, len(n) - 1) or b[:-4])
    )
    yield attack("hole", "before the first", _hole(0))
    yield attack("hole", "before the last", _hole(-1))
    yield attack("hole", "after the last", rewrite(lambda c: c + bytes(16)))
    yield attack("duplicate keys", "a tensor", _text(_twice))
    yield attack(
        "duplicate keys",
        "a shape",
        _text(lambda h: h.replace(b'"shape":', b'"shape":[1],"shape":', 1)),
    )
    for name, bad in {
        "a byte 255": b"\xff",
        "half a character": b"\xc3",
        "UTF-16": b"\xfe\xff",
    }.items():
        yield attack("no UTF-8", name, _text(lambda h, bad=bad: h[:2] + bad + h[2:]))
    yield attack("100,000 entries", "of no size", _tree(_many))
    for name, shape in {
        "2^62 rows": [HUGE], "overflow to 0": [2**32, 2**32], "overflow": [2**33, 2**33, 4],
        "0 of 2^62": [0, HUGE], "beyond 64 bits": [2**70], "negative": [-1, -8], "fractions": [1.5],
        "truth": [True], "words": ["8"], "none": None, "a number": 8, "1000 axes": [1] * 1000,
        "another": [3],
    }.items():  # fmt: skip
        yield attack("shape", name, _set(0, shape=shape))
    for name in ("F16", "F64", "BOOL", "F128", "object", "__class__", "O", "", None, 7, ["F32"]):
        yield attack("dtype", repr(name), _set(0, dtype=name))
    for name, offsets in {
        "reversed": [64, 0], "negative": [-4, 0], "beyond the file": [0, HUGE], "one": [0],
        "three": [0, 1, 2], "words": ["0", "4"], "none": None, "fractions": [0.0, 4.0],
        "beyond 64 bits": [0, 2**80], "truth": [False, True],
    }.items():  # fmt: skip
        yield attack("offsets", name, _set(0, data_offsets=offsets))
    yield attack("offsets", "two exchanged", _tree(_exchanged))
    for name, number in (("NaN", float("nan")), ("inf", float("inf")), ("-inf", float("-inf"))):
        yield attack(
            "not finite", name, _tree(lambda t, n, b, number=number: _number(t, n, b, number))
        )
    yield attack("other tensors", "one missing", _tree(
        lambda t, n, b: b[: t.pop(n[-1])["data_offsets"][0]]
    ))  # fmt: skip
    yield attack("other tensors", "one renamed", _tree(_renamed))
    yield attack("other tensors", "none", rewrite(lambda c: joined({}, b"")))
    yield attack("other tensors", "2 TB more, on no disk", _inflated)
    for name, header in {
        "a list": b"[]", "a number": b"7", "null": b"null", "a word": b'"x"', "cut": b'{"a": {',
        "two": b"{}{}", "NaN": b'{"a": NaN}', "deep": b'{"a":' * 50000,
        "an entry is null": b'{"a": null}',
        "an entry is a list": b'{"a": [1]}', "an entry lacks all": b'{"a": {}}',
        "notes are numbers": b'{"__metadata__": {"a": 1}}',
        "notes are a list": b'{"__metadata__": []}',
        "a key too many": b'{"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0],"code":"x"}}',
    }.items():  # fmt: skip
        yield attack("no header", name, rewrite(lambda c, h=header: joined(h, parts(c)[1])))


def flips(content: bytes, seed: int, count: int) -> Iterator[Attack]:
    """Single bits changed: half of them in the header, half in the body.

    Those of the header also with the hash made right again: they are then refused by what they
    say, or change nothing that counts.
    """
    drawn = random.Random(seed)
    length = 8 + int.from_bytes(content[:8], "little")
    for k in range(count):
        at = drawn.randrange(length) if k % 2 else drawn.randrange(length, len(content))
        bit = 1 << drawn.randrange(8)

        def flip(c: bytes, at: int = at, bit: int = bit) -> bytes:
            return c[:at] + bytes([c[at] ^ bit]) + c[at + 1 :]

        where = "header" if k % 2 else "body"
        yield Attack(f"flipped bit, {where}", f"{bit} of byte {at}", rewrite(flip))
        if k % 2:
            yield Attack(
                f"flipped bit, {where}", f"{bit} of byte {at}", rewrite(flip), resealed=True
            )
