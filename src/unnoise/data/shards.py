"""The files of a list of shards: one file, a folder, a glob, or a pattern with braces."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError

MAX_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_PART = re.compile(r"(train|training|test|val|valid|validation)(?=[-_.]|$)", re.IGNORECASE)


def is_pattern(what: str) -> bool:
    """Return whether a path names several files: `*`, `?`, `[…]` or braces."""
    return bool(_BRACES.search(what)) or glob.has_magic(what)


def shard_files(path: str | Path, ending: str) -> list[Path]:
    """Return the shards of a path, in the order of their names (of braces: in the order written).

    path: a file; a folder of files of this ending; a glob such as `train-*.tar`; or braces, as
    `train-{000..009}.tar` and `{a,b}.tar`. Raises DataError if there are none, one named by
    braces is absent, or a folder holds the shards of several parts (train, test, …).
    """
    text = str(Path(path).expanduser())
    if Path(text).is_file():
        return [Path(text)]
    if Path(text).is_dir():
        files = sorted(p for p in Path(text).rglob(f"*{ending}") if _seen(p, Path(text)))
        _one_part(files, text, ending)
    elif _BRACES.search(text):
        files = [Path(name) for name in expand_braces(text)]
        absent = [file for file in files if not file.is_file()]
        if absent:
            raise DataError(
                f"{len(absent)} of the {len(files)} shards of {path} are absent (first: "
                f"{absent[0]}); bring them, or narrow the pattern"
            )
    else:
        files = sorted(Path(name) for name in glob.glob(text, recursive=True))
        files = [file for file in files if file.is_file()]
    if not files:
        raise DataError(f"{path} means no {ending} file; check the path")
    return files


def shards_name(path: str | Path) -> str:
    """Return the data's name by the path of their shards: `train` of train-{000..009}.tar."""
    name = re.split(r"[{*?\[]", Path(path).name)[0]
    return (name if name != Path(path).name else Path(path).stem).strip("-_. ") or "shards"


def expand_braces(pattern: str) -> list[str]:
    """Return braces written out: `{000..009}` counts with leading zeros, `{a,b}` lists."""
    names = [pattern]
    while any(_BRACES.search(name) for name in names):
        longer = []
        for name in names:
            found = _BRACES.search(name)
            if found is None:
                longer.append(name)
                continue
            for word in _words(found[1], pattern):
                longer.append(name[: found.start()] + word + name[found.end() :])
                if len(longer) > MAX_SHARDS:
                    raise DataError(f"{pattern!r} means more than {MAX_SHARDS:,} shards")
        names = longer
    return names


def _words(inside: str, pattern: str) -> Sequence[str]:
    counted = _RANGE.fullmatch(inside)
    if counted is None:
        return inside.split(",")
    first, last = int(counted[1]), int(counted[2])
    if last < first or last - first >= MAX_SHARDS:
        raise DataError(
            f"{{{inside}}} in {pattern!r} counts from {first} to {last}; write the lower one "
            f"first, and at most {MAX_SHARDS:,} shards"
        )
    width = len(counted[1]) if counted[1].startswith("0") else 0
    return [str(i).zfill(width) for i in range(first, last + 1)]


def _seen(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(
        part.startswith(".") for part in path.relative_to(folder).parts
    )


def _one_part(files: Sequence[Path], folder: str, ending: str) -> None:
    parts: dict[str, Path] = {}
    for file in files:
        found = _PART.match(file.name)
        parts.setdefault(found[1].lower() if found else "", file)
    if len(parts) > 1:
        names = sorted(part or "others" for part in parts)
        example = Path(folder) / f"{next(p for p in sorted(parts) if p)}*{ending}"
        raise DataError(
            f"{folder} holds shards of several parts ({', '.join(names)}); give those of one, as "
            f"'{example}'"
        )
