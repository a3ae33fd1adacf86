"""metadata.jsonl beside the pictures: one JSON object a line, with the file and its label."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from ..safe_files.strict_json import strict_json
from .faults import STRICT, Faults

FILE_NAME = "metadata.jsonl"
_LABELS = ("label", "class")


@dataclass(frozen=True)
class Entry:
    """One line: the file, relative to the folder, its label if there is one, the line's number,
    and its other keys."""

    file_name: str
    label: int | str | None
    line: int
    columns: dict[str, Any]


def read_metadata(
    folder: Path, faults: Faults = STRICT, taken: Collection[str] = ()
) -> tuple[list[Entry], dict[str, int]]:
    """Return entries in the order of the file, and file → its line.

    taken: keys that are no labels, as columns of those names are asked for. Each line needs
    `file_name`, a path inside the folder, and may have `label` or `class`; either all lines have a
    label or none. Raises DataError naming the file and the line when it cannot be parsed, a file is
    absent, given twice or outside the folder, or labels are of mixed kinds.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        place = f"{path} line {line}"
        try:
            item = strict_json(content, place)
            if not isinstance(item, dict):
                raise DataError(f"{place} is not an object; write {{'file_name': …, 'label': …}}")
            name = _file_name(item.get("file_name"), folder, place)
            if name in seen:
                raise DataError(
                    f"{place} names {name!r}, as line {seen[name]} does; keep one of them"
                )
            seen[name] = line
            keys = [key for key in _LABELS if key not in taken]
            rest = {k: v for k, v in item.items() if k not in ("file_name", *keys)}
            entry = Entry(name, _label(item, keys, place), line, rest)
        except DataError as error:
            faults.add("metadata", error)
            continue
        entries.append(entry)
    if not entries and not faults.found:
        raise DataError(f"{path} names no files; write one JSON object a line or remove it")
    for entry in list(entries):
        first = entries[0]
        if type(entry.label) is not type(first.label):
            faults.add(
                "metadata",
                f"{path} line {entry.line} has label {entry.label!r} and line {first.line} has "
                f"{first.label!r}; give all lines a name, all a number, or none a label",
            )
            entries.remove(entry)
    return entries, seen


def _file_name(name: object, folder: Path, place: str) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{place} has file_name {name!r}; give the path of a picture in the folder")
    pure = PurePosixPath(name)
    inside = (folder / pure).resolve().is_relative_to(folder.resolve())
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not inside:
        raise DataError(
            f"{place} has file_name {name!r}, which leads out of {folder}; give a path inside it, "
            "with forward slashes"
        )
    if not (folder / pure).is_file():
        raise DataError(f"{place} names {name!r}, but there is no such file in {folder}")
    return str(pure)


def _label(item: dict[str, object], keys: Sequence[str], place: str) -> int | str | None:
    given = [key for key in keys if key in item]
    if len(given) > 1:
        raise DataError(f"{place} has both 'label' and 'class'; keep one")
    label = item[given[0]] if given else None
    if label is None or (isinstance(label, int | str) and not isinstance(label, bool)):
        return label
    raise DataError(f"{place} has {given[0]} {label!r}; give a name or a whole number")
