"""Parquet files: a column of pictures or numbers, with a column of labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError, unknown
from .columns import check_conditions
from .dataset import Dataset
from .faults import STRICT, Faults
from .found import Found, one_mode, one_size, size_notes
from .layout import LAYOUTS, channel_meaning, guess_layout
from .parquet_rows import Cells, Lists
from .shards import shard_files, shards_name
from .spec import Range
from .stores import Pictures, read_headers
from .tables import Tables, is_binary, is_list

COLUMNS = ("image", "img", "x")  # where values are looked for, by name
LABELS = ("label", "labels", "class", "y")


def open_parquet(
    path: str | Path,
    *,
    column: str | None = None,
    label: str | None = None,
    size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    labelled: bool = True,
    conditions: Mapping[str, str] | None = None,
    layout: str | None = None,
    value_range: Range | None = None,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    licence: str = "not stated",
    stream: bool | None = None,
) -> Dataset:
    """Parquet files, those of Hugging Face's `datasets` among them.

    path: files, as `shard_files` says. column: of encoded pictures (bytes, or a struct with
    `bytes`) or of numbers (lists of one shape); by default the only one of feature type Image, else
    one called image, img or x, else the only one of these kinds. label: by default the only one of
    feature type ClassLabel, whose names are the class names, else one called label, labels, class
    or y; labelled=False: none. conditions: name → "class" or "vector" of further columns to
    condition on. size, mode as for a folder, layout and value_range as for arrays. stream: leave
    the values in the files; by default where they take more than MAX_BYTES. Needs pyarrow. Raises
    DataError naming file and row for damaged files, files whose columns differ, absent values,
    pictures that are only paths, differing shapes.
    """
    found = find_parquet(
        path,
        column=column,
        label=label,
        size=size,
        mode=mode,
        labelled=labelled,
        conditions=conditions,
        layout=layout,
        value_range=value_range,
        normalisation=normalisation,
        class_names=class_names,
        name=name,
        licence=licence,
    )
    return found.dataset(stream)


def find_parquet(
    path: str | Path,
    faults: Faults = STRICT,
    *,
    column: str | None = None,
    label: str | None = None,
    size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    labelled: bool = True,
    conditions: Mapping[str, str] | None = None,
    layout: str | None = None,
    name: str | None = None,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> Found:
    """The rows of parquet files before they are decoded; options are those of `open_parquet`."""
    one_mode(mode, ())
    asked = check_conditions(conditions)
    tables = Tables(shard_files(path, ".parquet"), faults)
    if not len(tables):
        raise DataError(f"{path} holds no rows")
    column = column or _value_column(tables)
    if column not in tables.names:
        raise unknown("column", column, tables.names)
    notes: list[str] = []
    labels, names = None, None
    taken = (column, *(asked.keys() - {"class"}))
    if labelled and (label := label or _label_column(tables, taken)) is not None:
        if label not in tables.names:
            raise unknown("label column", label, tables.names)
        labels, names = _labels(tables, label, faults)
    described: dict[str, Any] = {
        "name": name or shards_name(path),
        "source": f"{len(tables.files)} parquet file(s), {Path(path).name}, column {column}",
        "class_names": class_names or names,
        "label_place": lambda i: f"{tables.place(i)}: label",
        "notes": notes,
        "conditions": asked,
        "place": tables.place,
        **options,
    }
    columns = _columns(tables, (column, label), None if not faults.strict else asked)
    if is_list(tables, column):
        first = tables.numbers(0, column, slice(0, 1))
        if first.dtype.kind not in "uif" or 0 in first.shape:
            raise DataError(f"column {column!r} holds {first.dtype} of shape {first.shape[1:]}")
        shape = (len(tables), *first.shape[1:])
        layout = layout or guess_layout(shape, first.dtype.kind in "ui")
        lists = Lists(tables, column, layout, first)
        modality, channels = LAYOUTS[layout], channel_meaning(LAYOUTS[layout], lists.shape[0])
        stored = str(first.dtype)
        return Found(
            lists,
            labels,
            modality=modality,
            channels=channels,
            stored=stored,
            columns=columns,
            **described,
        )
    if not is_binary(tables, column):
        raise DataError(
            f"column {column!r} holds {tables.kind(column)}; values are pictures (bytes) or lists "
            f"of numbers: say which column, of {', '.join(tables.names)}, by column="
        )
    cells = Cells(tables, column)
    good, headers = read_headers(cells, faults)
    if not good:
        raise DataError(f"no picture of {path} is sound")
    mode = one_mode(mode, headers)
    target = one_size(size, headers, str(path), faults)
    notes += size_notes(target, headers)
    kept = None if labels is None else [labels[i] for i in good]
    described["columns"] = {n: [found[i] for i in good] for n, found in columns.items()}
    rows = Pictures(cells, mode, target, torch.tensor(good))
    return Found(rows, kept, modality="image", channels=mode, headers=headers, **described)


def _columns(
    tables: Tables, used: Collection[str | None], asked: Collection[str] | None
) -> dict[str, list[Any]]:
    """Return the columns that are asked for, by default all that are not used otherwise and hold no
    pictures."""
    names = [n for n in tables.names if n not in used and not is_binary(tables, n)]
    return {n: tables.column(n) for n in names if asked is None or n in asked}


def _value_column(tables: Tables) -> str:
    images = [n for n in tables.names if tables.features.get(n, {}).get("_type") == "Image"]
    fitting = [n for n in tables.names if is_binary(tables, n) or is_list(tables, n)]
    for some in (images, [n for n in COLUMNS if n in fitting][:1], fitting):
        if len(some) == 1:
            return some[0]
        if some:
            raise DataError(
                f"{tables.files[0]} has several columns that may be the values, "
                f"{', '.join(some)}; say which, as column={some[0]}"
            )
    raise DataError(
        f"{tables.files[0]} has the columns {', '.join(tables.names)}, and none holds pictures "
        "(bytes) or lists of numbers"
    )


def _label_column(tables: Tables, taken: Collection[str]) -> str | None:
    free = [n for n in tables.names if n not in taken]
    typed = [n for n in free if tables.features.get(n, {}).get("_type") == "ClassLabel"]
    if len(typed) > 1:
        raise DataError(
            f"{tables.files[0]} has several columns of class labels, {', '.join(typed)}; say "
            f"which, as label={typed[0]}, or labelled=false"
        )
    named = [n for n in LABELS if n in free]
    return next(iter(typed + named), None)


def _labels(
    tables: Tables, label: str, faults: Faults
) -> tuple[list[Any] | None, Sequence[str] | None]:
    found = tables.column(label)
    before = faults.counts["label"]
    for i, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, int | str):
            faults.add(
                "label",
                f"{tables.place(i)}: {label} is {value!r}; give every row a name or a whole "
                "number, or leave labels out by labelled=false",
            )
    if faults.counts["label"] > before:
        return None, None
    names = tables.features.get(label, {}).get("names")
    sound = isinstance(names, list) and bool(names) and all(isinstance(n, str) for n in names)
    return found, names if sound and not isinstance(found[0], str) else None
