"""Attacks on a recipe: YAML in a file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from . import trees
from .attack import Attack, rewrite


def _more(text: str) -> Callable[[Path], None]:
    return rewrite(lambda c: c + b"\n" + text.encode() + b"\n")


def _laughs(levels: int, form: str) -> str:
    """Each line holds the one before it ten times."""
    lines = ["l0: &l0 " + form.format("ha")]
    for level in range(1, levels):
        lines.append(f"l{level}: &l{level} " + form.format(", ".join([f"*l{level - 1}"] * 10)))
    return "\n".join(lines)


def _merges(levels: int) -> str:
    lines = ["l0: &l0 {ha: 1}"]
    for level in range(1, levels):
        lines.append(f"l{level}: &l{level} {{<<: [{', '.join([f'*l{level - 1}'] * 10)}]}}")
    return "\n".join(lines)


def textual() -> Iterator[Attack]:
    """What is no plain YAML tree."""
    for name, text in {
        "lists": _laughs(10, "[{}]"), "objects": _laughs(10, "{{a: [{}]}}"), "merged": _merges(9),
        "of itself": "about: &a [*a]", "an object of itself": "data: &a {b: *a}",
        "in the data": _laughs(9, "[{}]") + "\ndata: *l8",
    }.items():  # fmt: skip
        yield Attack("references", name, _more(text))
        yield Attack("references", f"{name}, alone", rewrite(lambda _, t=text: t.encode()))
    for name, tag in {
        "a call": "!!python/object/apply:os.system [id]", "an object": "!!python/object:os.x {}",
        "a new object": "!!python/object/new:os.system [id]",
        "a name": "!!python/name:os.system ''",
        "a module": "!!python/module:os ''", "a tuple": "!!python/tuple [1]",
        "bytes": "!!binary aGk=",
        "a set": "!!set {a: null}", "pairs": "!!omap [a: 1]", "a date": "2024-01-01",
        "a time": "2024-01-01 10:00:00", "one of its own": "!run id",
    }.items():  # fmt: skip
        for key in ("about", "surprise"):
            yield Attack("tags and types", f"{name} at {key}", _more(f"{key}: {tag}"))
            yield Attack(
                "tags and types",
                f"{name} alone at {key}",
                rewrite(lambda _, k=key, t=tag: f"{k}: {t}".encode()),
            )
        yield Attack("tags and types", f"{name}, the whole", rewrite(lambda _, t=tag: t.encode()))
    for name, content in {
        "empty": b"", "a list": b"- 1", "a word": b"word", "two documents": b"a: 1\n---\nb: 2\n",
        "unclosed": b"a: [", "a tab": b"a:\n\t- 1", "NUL": b"a: \0", "a byte 255": b"a: \xff",
        "a key of a list": b"? [1]\n: 2", "a number as key": b"1: 2", "null as key": b"~: 2",
        "truth as key": b"yes: 2", "colons": b"a: b: c", "an anchor twice": b"a: &x 1\nb: &x 2",
        "nothing referred to": b"a: *x", "half a surrogate": b'a: "\\ud800"',
        "a directive": b"%YAML 9.9\n---\na: 1",
    }.items():  # fmt: skip
        yield Attack("no recipe", name, rewrite(lambda _, c=content: c))
    for name, text in {
        "of 60,000 bits": "0b" + "1" * 60_000, "of 5000 digits": "9" * 5000,
        "in base 60": ":".join(["59"] * 20_000), "of 2^64": str(2**64), "hex": "0x" + "f" * 50_000,
    }.items():  # fmt: skip
        yield Attack(
            "numbers", name, rewrite(lambda _, t=text: b"train: {steps: " + t.encode() + b"}")
        )
    for name, text in {"top": "name: again", "inner": "train: {steps: 1, steps: 2}"}.items():
        yield Attack("duplicate keys", name, _more(text))
    for name, content in {
        "100,000 [": b"[" * 100_000, "90,000 [": b"[" * 90_000, "90,000 {": b"{" * 90_000,
        "40,000 ?": b"? " * 40_000, "40,000 -": b"- " * 40_000,
        "300 lists": b"about: " + b"[" * 300 + b"]" * 300,
        "100 lists": b"about: " + b"[" * 100 + b"]" * 100,
    }.items():  # fmt: skip
        yield Attack("deep", name, rewrite(lambda _, c=content: c))
    for name, content in {
        "50 MB": b"a: " + b"x" * 50_000_000, "90 kB of numbers": b"a: [" + b"1," * 46_000 + b"]",
        "90 kB of keys": b"".join(b"k%d: 1\n" % i for i in range(9_000)),
    }.items():  # fmt: skip
        yield Attack("large", name, rewrite(lambda _, c=content: c))


def _put(place: trees.Place, value: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tree = yaml.safe_load(path.read_text("utf-8"))
        if value is LOST:
            trees.at_place(tree, place[:-1]).pop(place[-1])
        else:
            trees.put(tree, place, copy.deepcopy(value))
        path.write_text(yaml.safe_dump(tree), "utf-8")

    return damage


LOST = object()


def changed(tree: dict[str, Any]) -> Iterator[Attack]:
    """The changes of `trees.changed`, and NaN and infinity at every number."""
    for place, leaf in trees.leaves(tree):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            for bad in (float("nan"), float("inf"), float("-inf")):
                yield Attack("numbers", f"{bad} at {trees.dotted(place)}", _put(place, bad))
        for bad in trees.wrong(leaf):
            yield Attack(
                "another kind of value", f"{trees.dotted(place)} = {bad!r}", _put(place, bad),
                leaf=place, value=bad,
            )  # fmt: skip
        if isinstance(leaf, dict):
            for key in ("surprise", "__class__", "_target_"):
                inner = (*place, key)
                yield Attack(
                    "unknown keys", trees.dotted(inner), _put(inner, "os.system"),
                    leaf=inner, value="os.system",
                )  # fmt: skip
        if place[-1] in ("kind", "source", "solver", "precision"):
            for word in trees.WORDS:
                yield Attack(
                    "names of code", f"{trees.dotted(place)} = {word}", _put(place, word),
                    leaf=place, value=word,
                )  # fmt: skip
