"""A folder of pictures as a data set: flat, with class sub-folders, or with metadata.jsonl."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from .columns import check_conditions
from .dataset import Dataset
from .faults import STRICT, Faults
from .found import Found, one_mode, one_size, size_notes
from .metadata import FILE_NAME, read_metadata
from .pictures import EXTENSIONS, Header
from .stores import Files, Pictures, read_headers

_PART_NAMES = {"train", "training", "test", "val", "valid", "validation"}


@dataclass(frozen=True)
class FolderScan:
    """What is in a folder of pictures, found without decoding them.

    files: relative to the folder, sorted (as listed where there is metadata). found: a label a
    file, or None. places: where each label is written. columns: of metadata.jsonl, a value a file.
    headers: size and colour of each picture.
    notes: what was left out, and left_out, file by file.
    """

    folder: Path
    files: tuple[str, ...]
    found: tuple[int | str, ...] | None
    places: tuple[str, ...]
    headers: tuple[Header, ...]
    notes: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """(height, width) → number of pictures."""
        return Counter(header.size for header in self.headers)

    @property
    def mode(self) -> str:
        """L where every picture is grey (1, L, LA, 16-bit), RGB otherwise; a palette is colour."""
        return one_mode("auto", self.headers)


def scan_folder(
    path: str | Path,
    *,
    labelled: bool = True,
    conditions: Mapping[str, str] | None = None,
    faults: Faults = STRICT,
) -> FolderScan:
    """Look through a folder of pictures.

    With metadata.jsonl, the pictures and labels are those it lists. Without, the first level of
    sub-folders are the classes, or all pictures lie in the folder itself and have no labels.
    Hidden files (`._x.jpg`, `.DS_Store`, `__MACOSX`) and files that are not pictures are left
    out and noted. labelled=False: every picture in the folder and below, without labels. Links to
    pictures, and at the first level to folders, are the user's own: followed, and noted where they
    lead out. Names in metadata.jsonl never lead out, not by a link either. faults: where a check
    collects what is wrong.

    Raises DataError for a folder that is absent or has no pictures, pictures beside class folders
    or not listed, sub-folders named as parts (train, test, …), and any picture whose header is
    damaged or declares too many pixels.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; check the path")
    notes: list[str] = []
    left_out: list[str] = []
    files = _pictures(folder, notes, left_out)
    if not files:
        raise DataError(
            f"{folder} holds no pictures; put some in it or in class sub-folders "
            f"({', '.join(sorted(EXTENSIONS))})"
        )
    found: list[int | str] | None = None
    places: list[str] = []
    columns: dict[str, list[Any]] = {}
    if (labelled or conditions) and (folder / FILE_NAME).exists():
        files, found, places, columns = _listed(folder, files, notes, faults, conditions or {})
        found = found if labelled else None
    elif labelled and any("/" in name for name in files):
        files, found = _class_folders(folder, files, notes, faults)
        places = [f"the folder of {name}" for name in files]
    good, headers = read_headers(Files(folder, files), faults)
    files = [files[i] for i in good]
    found = None if found is None else [found[i] for i in good]
    places = [places[i] for i in good] if places else places
    columns = {name: [column[i] for i in good] for name, column in columns.items()}
    moving = [name for name, h in zip(files, headers, strict=True) if h.frames > 1]
    if moving:
        notes.append(f"{len(moving)} moving or many-page file(s) (first: {moving[0]}): first frame")
    return FolderScan(
        folder,
        tuple(files),
        None if found is None else tuple(found),
        tuple(places),
        tuple(headers),
        tuple(notes),
        tuple(left_out),
        columns,
    )


def open_folder(
    path: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    labelled: bool = True,
    conditions: Mapping[str, str] | None = None,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    licence: str = "not stated",
    stream: bool | None = None,
) -> Dataset:
    """Decode a folder of pictures into bytes, (n, 1 or 3, height, width).

    path: the folder, read as `scan_folder` says. size: a side or (height, width) to which every
    picture is centre-cropped and resampled; needed where sizes differ. mode: L, RGB, or auto
    (`FolderScan.mode`). conditions: name → "class" or "vector" of keys of metadata.jsonl to
    condition on, beside the label. Each kind of file is treated as `read_picture` says.
    class_names: order of the classes. stream: decode each picture when it is needed, every time; by
    default where all take more than MAX_BYTES. Raises DataError for what `scan_folder` refuses,
    damaged pictures, differing sizes without `size`, and labels that do not fit.
    """
    found = find_folder(
        path,
        size=size,
        mode=mode,
        labelled=labelled,
        conditions=conditions,
        normalisation=normalisation,
        class_names=class_names,
        name=name,
        licence=licence,
    )
    return found.dataset(stream)


def find_folder(
    path: str | Path,
    faults: Faults = STRICT,
    *,
    size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    labelled: bool = True,
    conditions: Mapping[str, str] | None = None,
    **options: Any,
) -> Found:
    """The pictures of a folder before they are decoded; options are those of `open_folder`."""
    one_mode(mode, ())
    asked = check_conditions(conditions)
    if size is not None:
        one_size(size, (), str(path))
    scan = scan_folder(path, labelled=labelled, conditions=asked, faults=faults)
    if not scan.headers:
        raise DataError(f"no picture of {path} is sound")
    mode = one_mode(mode, scan.headers)
    target = one_size(size, scan.headers, str(scan.folder), faults)
    name = options.pop("name", None) or scan.folder.resolve().name or "pictures"
    return Found(
        Pictures(Files(scan.folder, scan.files), mode, target),
        scan.found,
        name=name,
        modality="image",
        channels=mode,
        source=f"folder {scan.folder.resolve().name}",
        label_place=lambda i: f"{scan.places[i]}: label",
        notes=[*scan.notes, *size_notes(target, scan.headers)],
        headers=list(scan.headers),
        left_out=scan.left_out,
        conditions=asked,
        columns=scan.columns,
        place=lambda i: scan.places[i],
        **options,
    )


def _pictures(folder: Path, notes: list[str], left_out: list[str]) -> list[str]:
    """Relative paths of the pictures, sorted; the others are noted."""
    pictures, hidden, others = [], [], []

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error

    linked = [p for p in folder.iterdir() if p.is_symlink() and p.is_dir() and not _hidden(p.name)]
    for top in (folder, *linked):
        for parent, folders, names in os.walk(top, onerror=fail):
            here = Path(parent).relative_to(folder)
            hidden += [(here / f).as_posix() + "/" for f in folders if _hidden(f)]
            folders[:] = [f for f in folders if not _hidden(f)]
            for name in names:
                relative = (here / name).as_posix()
                if _hidden(name):
                    hidden.append(relative)
                elif Path(name).suffix.lower() in EXTENSIONS:
                    pictures.append(relative)
                elif relative != FILE_NAME:
                    others.append(relative)
    root = folder.resolve()
    out = [
        name
        for name in [p.name for p in linked] + [n for n in pictures if (folder / n).is_symlink()]
        if not (folder / name).resolve().is_relative_to(root)
    ]
    if out:
        notes.append(f"{len(out)} link(s) out of the folder were followed (first: {min(out)})")
    if hidden:
        notes.append(f"{len(hidden)} hidden file(s) left out (first: {min(hidden)})")
    if others:
        notes.append(f"{len(others)} file(s) that are not pictures left out (first: {min(others)})")
    left_out += sorted(hidden) + sorted(others)
    return sorted(pictures)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _listed(
    folder: Path,
    files: list[str],
    notes: list[str],
    faults: Faults,
    conditions: Mapping[str, str],
) -> tuple[list[str], list[int | str] | None, list[str], dict[str, list[Any]]]:
    entries, lines = read_metadata(folder, faults, conditions.keys() - {"class"})
    names = dict.fromkeys(name for entry in entries for name in entry.columns)
    columns = {name: [entry.columns.get(name) for entry in entries] for name in names}
    if unused := [name for name in columns if name not in conditions]:
        notes.append(f"columns of {FILE_NAME} that are not used: {', '.join(unused)}")
    listed = [entry.file_name for entry in entries]
    extra = sorted(set(files) - set(lines))
    if extra and not faults.strict:
        for name in extra:
            faults.add("not listed", f"{folder / name} is not listed in {FILE_NAME}")
    elif extra:
        raise DataError(
            f"{folder / FILE_NAME} does not list {len(extra)} of the pictures (first: {extra[0]}); "
            "list them or move them away"
        )
    places = [f"{folder / FILE_NAME} line {entry.line}" for entry in entries]
    found = [entry.label for entry in entries if entry.label is not None]
    return listed, found or None, places, columns


def _class_folders(
    folder: Path, files: list[str], notes: list[str], faults: Faults
) -> tuple[list[str], list[int | str]]:
    loose = [name for name in files if "/" not in name]
    if loose:
        faults.add(
            "without class",
            f"{folder} has pictures of its own (first: {loose[0]}) beside sub-folders with "
            "pictures; move them into a class folder, or pass labelled=False",
        )
        files = [name for name in files if "/" in name]
    classes = [name.split("/", 1)[0] for name in files]
    parts = sorted(set(classes))
    if {name.lower() for name in parts} <= _PART_NAMES:
        raise DataError(
            f"the sub-folders of {folder} are parts of a data set ({', '.join(parts)}"
            f"), not classes; give one of them, such as {folder / classes[0]}"
        )
    present = {p.name for p in folder.iterdir() if p.is_dir() and not _hidden(p.name)}
    empty = sorted(present - set(classes))
    if empty:
        notes.append(f"sub-folder(s) without pictures, no classes: {', '.join(empty)}")
    return files, list(classes)
