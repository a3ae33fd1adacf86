"""Paths as plain data: numbers, names and lists, from a closed set of kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import InvalidArgument, Unsupported, unknown
from ..paths import (
    EDM,
    VE,
    Chain,
    ChainPath,
    Cosine,
    Coupled,
    Flow,
    GaussianPath,
    Restricted,
    Shifted,
    SubVP,
    Trigonometric,
    VPLinear,
)

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        EDM, VE, Chain, ChainPath, Cosine, Coupled, Flow, Restricted, Shifted, SubVP,
        Trigonometric, VPLinear,
    )
}  # fmt: skip


def to_tree(path: GaussianPath) -> dict[str, Any]:
    """Return a path as JSON values: {"kind": its class, and its fields}.

    Raises Unsupported for a class outside the closed set.
    """
    if type(path) not in KINDS.values():
        raise Unsupported(
            f"{path!r} is no path of unnoise; known: {', '.join(sorted(KINDS))}: only these can be "
            "written down and read again"
        )
    tree: dict[str, Any] = {"kind": type(path).__name__}
    for field in fields(path):  # type: ignore[arg-type]
        value = getattr(path, field.name)
        if type(value) in KINDS.values():
            value = to_tree(value)
        tree[field.name] = list(value) if isinstance(value, tuple) else value
    return tree


def from_tree(tree: Mapping[str, Any]) -> GaussianPath:
    """Return the path that `to_tree` wrote; raises InvalidArgument naming the faulty key."""
    path = _build(tree)
    if not isinstance(path, GaussianPath):
        raise InvalidArgument(f"{tree.get('kind')!r} is no path by itself; give a ChainPath of it")
    return path


def _build(tree: Any) -> Any:
    if not isinstance(tree, Mapping) or not isinstance(tree.get("kind"), str):
        raise InvalidArgument(f'a path is {tree!r}; give {{"kind": …}} and its fields')
    kind = KINDS.get(tree["kind"])
    if kind is None:
        raise unknown("kind of path", tree["kind"], KINDS)
    allowed = {field.name for field in fields(kind)}
    options = {key: value for key, value in tree.items() if key != "kind"}
    for key, value in options.items():
        if key not in allowed:
            raise unknown(f"field of the path {tree['kind']!r}", key, allowed)
        if isinstance(value, Mapping):
            options[key] = _build(value)
        elif isinstance(value, list):
            options[key] = tuple(value)
    try:
        return kind(**options)
    except TypeError as error:
        raise InvalidArgument(f"a path {tree['kind']!r} of {options!r}: {error}") from error
