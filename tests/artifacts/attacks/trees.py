"""Attacks on a description: strict JSON in a file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .attack import Attack, rewrite

Tree = dict[str, Any]
Place = tuple[str | int, ...]
WORDS = (
    "os.system",
    "__import__('os').system",
    "!!python/object/apply:os.system [id]",
    "torch.nn.Linear",
)


def leaves(tree: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value with its place, the inner ones too."""
    if at:
        yield at, tree
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*at, key))
    elif isinstance(tree, list) and tree:
        yield from leaves(tree[0], (*at, 0))


def put(tree: Any, place: Place, value: Any) -> None:
    """Change one value."""
    for part in place[:-1]:
        tree = tree[part]
    tree[place[-1]] = value


def at_place(tree: Any, place: Place) -> Any:
    """One value; None where it is not there."""
    for part in place:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def wrong(value: Any) -> list[Any]:
    """Values of every other kind."""
    kinds: list[Any] = [None, True, 7, "word", [], {}, {"kind": "os.system"}]
    return [v for v in kinds if _kind(v) is not _kind(value)]


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _changed(change: Callable[[Tree], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tree = json.loads(path.read_bytes())
        change(tree)
        path.write_text(json.dumps(tree), "utf-8")

    return damage


def _inserted(text: str) -> Callable[[Path], None]:
    """Put a member before the first of the outermost object."""
    return rewrite(lambda c: b"{" + text.encode() + b"," + c.lstrip()[1:])


def textual(tree: Tree, seed: int) -> Iterator[Attack]:
    """What is no strict JSON, or too much of it."""
    key = json.dumps(next(iter(tree)))
    value = json.dumps(next(iter(tree.values())))
    for name, text in {
        "NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity", "1e309": "1e309",
        "-1e400": "-1e400", "a number of 5000 digits": "9" * 5000, "2^64": str(2**64),
        "a number of 100,000 zeros": "1" + "0" * 100_000,
    }.items():  # fmt: skip
        yield Attack("numbers", name, _inserted(f'"x": {text}'))
    for place, leaf in leaves(tree):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            for bad in ("NaN", "1e309"):

                def damage(path: Path, place: Place = place, bad: str = bad) -> None:
                    found = json.loads(path.read_bytes())
                    put(found, place, 7.0777e99)
                    path.write_text(json.dumps(found).replace("7.0777e+99", bad), "utf-8")

                yield Attack("numbers", f"{bad} at {dotted(place)}", damage)
    yield Attack("duplicate keys", "the first", _inserted(f"{key}: {value}"))
    for place, leaf in leaves(tree):
        if isinstance(leaf, dict) and leaf:
            inner = next(iter(leaf))

            def twice(path: Path, place: Place = place, inner: str = inner) -> None:
                found = json.loads(path.read_bytes())
                at_place(found, place)["\0" + inner] = at_place(found, place)[inner]
                path.write_text(json.dumps(found).replace("\\u0000", ""), "utf-8")

            yield Attack("duplicate keys", f"in {dotted(place)}", twice)
    for name, content in {
        "empty": b"", "spaces": b"   ", "a list": b"[]", "null": b"null", "a number": b"7",
        "a word": b'"x"', "two": b"{}{}", "none": b"{", "quotes": b"{'a': 1}",
        "a comment": b"{} // x",
        "a comma": b'{"a": 1,}', "byte order": b"\xef\xbb\xbf{}",
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "a byte 255": b'{"a": "\xff"}', "half a character": b'{"a": "\xc3"}',
        "a control": b'{"a": "\n"}',
    }.items():  # fmt: skip
        yield Attack("no JSON", name, rewrite(lambda _, c=content: c))
    yield Attack("no JSON", "half a surrogate", _inserted('"x": "\\ud800"'))
    for name, content in {
        "100,000 lists": b"[" * 100_000, "100,000 objects": b'{"a":' * 100_000,
        "closed": b"[" * 100_000 + b"]" * 100_000,
    }.items():  # fmt: skip
        yield Attack("deep", name, rewrite(lambda _, c=content: c))
    for depth in (200, 900):
        nest = "[" * depth + "]" * depth
        yield Attack("deep", f"{depth} at a key more", _inserted(f'"x": {nest}'))
    for name, content in {
        "50 MB of one text": b'{"a": "' + b"x" * 50_000_000,
        "50 MB of lists": b"[" + b"[]," * 17_000_000,
        "1 MB of lists": b"[" + b"[]," * 349_000 + b"1]",
    }.items():  # fmt: skip
        yield Attack("large", name, rewrite(lambda _, c=content: c))
    yield Attack("large", "a key of 1 MB", _inserted(f'"{"x" * 1_000_000}": 1'))
    drawn = random.Random(seed)
    text = json.dumps(tree)
    for at in sorted(drawn.sample(range(1, len(text)), 20)):
        yield Attack("cut off", f"after byte {at}", rewrite(lambda c, at=at: c[:at]))


def dotted(place: Place) -> str:
    return ".".join(map(str, place))


def changed(tree: Tree, depth: int | None = None) -> Iterator[Attack]:
    """Every value replaced by those of other kinds, keys lost and added, words that name code.

    The hashes are made right again: what finds these is the reading of the description.
    """
    for place, leaf in leaves(tree):
        if depth is not None and len(place) > depth:
            continue
        for bad in wrong(leaf):
            yield Attack(
                "another kind of value", f"{dotted(place)} = {json.dumps(bad)}",
                _changed(lambda t, p=place, b=bad: put(t, p, copy.deepcopy(b))),
                True, place, bad,
            )  # fmt: skip
        if isinstance(leaf, dict):
            for key in ("surprise", "__class__", "_target_", "kindd"):
                yield Attack(
                    "unknown keys", f"{dotted((*place, key))}",
                    _changed(lambda t, p=place, k=key: put(t, (*p, k), "os.system")),
                    True, (*place, key), "os.system",
                )  # fmt: skip
        if isinstance(place[-1], str):
            yield Attack(
                "missing keys", dotted(place),
                _changed(lambda t, p=place: at_place(t, p[:-1]).pop(p[-1])), True, place, None,
            )  # fmt: skip
        if place[-1] in ("kind", "source", "solver", "betas", "modality", "dtype", "precision"):
            for word in WORDS:
                yield Attack(
                    "names of code", f"{dotted(place)} = {word}",
                    _changed(lambda t, p=place, w=word: put(t, p, w)), True, place, word,
                )  # fmt: skip
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            for large in (10**9, 10**18, -(10**9)):
                yield Attack(
                    "numbers beyond all bounds", f"{dotted(place)} = {large}",
                    _changed(lambda t, p=place, n=large: put(t, p, n)), True, place, large,
                )  # fmt: skip
        if isinstance(leaf, list):
            for name, large in {
                "100,000 ones": [1] * 100_000, "100,000 words": [f"w{i}" for i in range(100_000)],
                "10^9, 17 times": [10**9] * 17, "65536, 16 times": [65536] * 16,
            }.items():  # fmt: skip
                yield Attack(
                    "numbers beyond all bounds", f"{dotted(place)} = {name}",
                    _changed(lambda t, p=place, n=large: put(t, p, n)), True, place, large,
                )  # fmt: skip


def taken(found: dict[str, Any], good: dict[str, Any], attack: Attack) -> bool:
    """Whether a changed description was taken at its word: what is now there is what it says, or,
    where a key was lost, what a description without it means."""
    if attack.group == "missing keys":
        return True
    return bool(at_place(found["tree"], attack.leaf or ()) == attack.value)
