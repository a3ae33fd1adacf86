"""A folder of pictures as a data set: flat, with class sub-folders, or with metadata.jsonl."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import DataError, InvalidArgument, unknown
from .dataset import MAX_BYTES, Dataset
from .labels import encode_labels
from .metadata import FILE_NAME, read_metadata
from .pictures import EXTENSIONS, MODES, Header, read_header, read_picture

_PART_NAMES = {"train", "training", "test", "val", "valid", "validation"}


@dataclass(frozen=True)
class FolderScan:
    """What is in a folder of pictures, found without decoding them.

    files: relative to the folder, sorted (as listed where there is metadata). found: a label a
    file, or None. places: where each label is written. headers: size and colour of each picture.
    notes: what was left out.
    """

    folder: Path
    files: tuple[str, ...]
    found: tuple[int | str, ...] | None
    places: tuple[str, ...]
    headers: tuple[Header, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """(height, width) → number of pictures."""
        return Counter(header.size for header in self.headers)

    @property
    def mode(self) -> str:
        """L where every picture is grey (1, L, LA, 16-bit), RGB otherwise; a palette is colour."""
        return "L" if all(header.grey for header in self.headers) else "RGB"


def scan_folder(path: str | Path, *, labelled: bool = True) -> FolderScan:
    """Look through a folder of pictures.

    With metadata.jsonl, the pictures and labels are those it lists. Without, the first level of
    sub-folders are the classes, or all pictures lie in the folder itself and have no labels.
    Hidden files (`._x.jpg`, `.DS_Store`, `__MACOSX`) and files that are not pictures are left
    out and noted. labelled=False: every picture in the folder and below, without labels.

    Raises DataError for a folder that is absent or has no pictures, pictures beside class folders
    or not listed, sub-folders named as parts (train, test, …), and any picture whose header is
    damaged or declares too many pixels.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; check the path")
    notes: list[str] = []
    files = _pictures(folder, notes)
    if not files:
        raise DataError(
            f"{folder} holds no pictures; put some in it or in class sub-folders "
            f"({', '.join(sorted(EXTENSIONS))})"
        )
    found: list[int | str] | None = None
    places: list[str] = []
    if labelled and (folder / FILE_NAME).exists():
        files, found, places = _listed(folder, files, notes)
    elif labelled and any("/" in name for name in files):
        found = _class_folders(folder, files, notes)
        places = [f"the folder of {name}" for name in files]
    headers = [read_header(folder / name) for name in files]
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
    )


def open_folder(
    path: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    labelled: bool = True,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    licence: str = "not stated",
) -> Dataset:
    """Decode a folder of pictures into bytes, (n, 1 or 3, height, width).

    path: the folder, read as `scan_folder` says. size: a side or (height, width) to which every
    picture is centre-cropped and resampled; needed where sizes differ. mode: L, RGB, or auto
    (`FolderScan.mode`). Each kind of file is treated as `read_picture` says. class_names: order
    of the classes. Raises DataError for what `scan_folder` refuses, damaged pictures, differing
    sizes without `size`, and labels that do not fit.
    """
    if mode not in ("auto", *MODES):
        raise unknown("mode", mode, ("auto", *MODES))
    target = _target(size)
    scan = scan_folder(path, labelled=labelled)
    labels, names = None, None
    if scan.found is not None:
        labels, names = encode_labels(scan.found, class_names, lambda i: f"{scan.places[i]}: label")
    elif class_names is not None:
        raise InvalidArgument(f"class_names were given, but the pictures of {path} have no labels")
    notes = list(scan.notes)
    target = _one_size(scan) if target is None else target
    smaller = sum(h < target[0] or w < target[1] for h, w in scan.sizes.elements())
    if smaller:
        notes.append(f"{smaller} picture(s) smaller than {target[0]} × {target[1]} were enlarged")
    mode = scan.mode if mode == "auto" else mode
    shape = (len(scan.files), MODES[mode], *target)
    if torch.Size(shape).numel() > MAX_BYTES:
        raise DataError(
            f"{path} decodes to {torch.Size(shape).numel() / 2**30:.1f} GiB and at most "
            f"{MAX_BYTES / 2**30:.0f} are held in memory; pass a smaller size="
        )
    values = torch.empty(shape, dtype=torch.uint8)
    for row, file in enumerate(_progress(scan.files)):
        values[row] = torch.from_numpy(read_picture(scan.folder / file, mode, target).copy())
    return Dataset.of(
        values,
        labels,
        name=name or scan.folder.resolve().name or "pictures",
        modality="image",
        channels=mode,
        class_names=names,
        licence=licence,
        source=f"folder {scan.folder.resolve().name}",
        normalisation=normalisation,
        notes=notes,
    )


def _pictures(folder: Path, notes: list[str]) -> list[str]:
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
    if hidden:
        notes.append(f"{len(hidden)} hidden file(s) left out (first: {min(hidden)})")
    if others:
        notes.append(f"{len(others)} file(s) that are not pictures left out (first: {min(others)})")
    return sorted(pictures)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _listed(
    folder: Path, files: list[str], notes: list[str]
) -> tuple[list[str], list[int | str] | None, list[str]]:
    entries, unused = read_metadata(folder)
    if unused:
        notes.append(f"columns of {FILE_NAME} that are not used: {', '.join(unused)}")
    listed = [entry.file_name for entry in entries]
    extra = sorted(set(files) - set(listed))
    if extra:
        raise DataError(
            f"{folder / FILE_NAME} does not list {len(extra)} of the pictures (first: {extra[0]}); "
            "list them or move them away"
        )
    places = [f"{folder / FILE_NAME} line {entry.line}" for entry in entries]
    found = [entry.label for entry in entries if entry.label is not None]
    return listed, found or None, places


def _class_folders(folder: Path, files: list[str], notes: list[str]) -> list[int | str]:
    loose = [name for name in files if "/" not in name]
    if loose:
        raise DataError(
            f"{folder} has pictures of its own (first: {loose[0]}) beside sub-folders with "
            "pictures; move them into a class folder, or pass labelled=False"
        )
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
    return list(classes)


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    sound = all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sides)
    if len(sides) != 2 or not sound:
        raise InvalidArgument(f"size is {size!r}; give one side or (height, width), 1 or more")
    return sides[0], sides[1]


def _one_size(scan: FolderScan) -> tuple[int, int]:
    if len(scan.sizes) == 1:
        return scan.headers[0].size
    some = [f"{h} × {w} ({count})" for (h, w), count in scan.sizes.most_common(5)]
    more = f" and {len(scan.sizes) - 5} more" if len(scan.sizes) > 5 else ""
    raise DataError(
        f"the pictures of {scan.folder} differ in size (height × width): {', '.join(some)}{more}; "
        "pass size=, such as size=64, to crop and resample them to one"
    )


def _progress(files: tuple[str, ...]) -> Iterable[str]:
    from tqdm import tqdm

    return tqdm(files, desc="reading pictures", unit="", disable=None, leave=False, delay=1)
