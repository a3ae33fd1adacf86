"""Every claim by name, in the order of the chapters."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType

import unnoise
from unnoise.errors import InvalidArgument, unknown

from .claim import CHAPTERS, Claim, Finding

CLAIMS: dict[str, Claim] = {}
FILES = (
    "schedules", "identities", "equations", "laws", "samplers", "chance", "straightness",
    "guidances", "encodings", "walks", "trained", "bounds", "reflowed",
)  # fmt: skip

Measure = Callable[[], Finding]


def claim(
    chapter: str, source: str, statement: str, trained: str = ""
) -> Callable[[Measure], Measure]:
    """Register the decorated function as the measurement of a claim, under its own name."""

    def register(measure: Measure) -> Measure:
        name = measure.__name__
        if name in CLAIMS:
            raise InvalidArgument(f"two claims named {name!r}; rename one")
        CLAIMS[name] = Claim(name, chapter, source, statement, measure, trained)
        return measure

    return register


def known() -> dict[str, Claim]:
    """Return every claim, chapter by chapter."""
    for name in FILES:
        import_module(f".{name}", __package__)
    order = list(CHAPTERS)
    return dict(sorted(CLAIMS.items(), key=lambda item: order.index(item[1].chapter)))


def chosen(names: Iterable[str]) -> list[Claim]:
    """Return claims by name or by chapter, in the registry's order; all if none is named.

    Raises InvalidArgument for an unknown name, with the nearest known one.
    """
    every, names = known(), list(names)
    for name in names:
        if name not in every and name not in CHAPTERS:
            raise unknown("claim", name, [*every, *CHAPTERS])
    return [c for c in every.values() if not names or c.name in names or c.chapter in names]


def fingerprint(measure: Measure) -> str:
    """Return a hash of a measurement's source and of all the code of claims/ that it uses."""
    found: dict[str, str] = {}
    _gather(measure, found)
    return hashlib.sha256("\n".join(found[k] for k in sorted(found)).encode()).hexdigest()[:16]


def _gather(thing: object, found: dict[str, str]) -> None:
    module = getattr(thing, "__module__", "") or ""
    name = f"{module}.{getattr(thing, '__qualname__', '')}"
    if name in found:
        return
    found[name] = inspect.getsource(thing)  # type: ignore[arg-type]
    if isinstance(thing, type):
        parts = [v for v in vars(thing).values() if isinstance(v, FunctionType)]
    else:
        parts = [thing] if isinstance(thing, FunctionType) else []
    for part in parts:
        for used in _names(part.__code__):
            other = part.__globals__.get(used)
            other = inspect.unwrap(other) if callable(other) else other
            home = getattr(other, "__module__", None) or ""
            if isinstance(other, FunctionType | type):
                if home == module or home.startswith(__package__ + "."):
                    _gather(other, found)
            elif other is not None and used.isupper():
                found[f"{module}.{used}"] = re.sub(r" at 0x\w+", "", f"{used} = {other!r}")


def _names(code: CodeType) -> set[str]:
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*(_names(c) for c in inner))


@cache
def library() -> str:
    """Return a hash of the library's source outside the command line."""
    root = Path(unnoise.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        where = file.relative_to(root)
        if where.parts[0] != "cli":
            digest.update(str(where).encode() + file.read_bytes())
    return digest.hexdigest()[:16]
