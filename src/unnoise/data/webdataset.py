"""Tar shards as webdataset writes them: pictures or arrays, with a label beside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError, unknown
from ..safe_files.strict_json import strict_json
from .columns import check_conditions
from .dataset import Dataset
from .faults import STRICT, Faults
from .found import Found, one_mode, one_size, size_notes
from .layout import LAYOUTS, channel_meaning, guess_layout
from .numpy_files import read_npy_bytes
from .pictures import EXTENSIONS
from .rows import Rows
from .shards import shard_files, shards_name
from .spec import Range
from .stores import Pictures, read_headers
from .tar_index import Index, index_tars
from .tar_rows import ArrayMembers, Members

LABELS = ("cls", "json")  # where a label is looked for; a txt only when asked for
_PICTURES = frozenset(ending.removeprefix(".") for ending in EXTENSIONS)


def open_webdataset(
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
    """Tar shards: each sample the members of one name before the first dot.

    path: shards, as `shard_files` says; nothing is unpacked to disk. column: the ending of the
    values; by default the one picture (png, jpg, webp, …) or npy of each sample. label: the ending
    of the label (cls, txt: a name or a whole number; json: its `label` or `class`); by default cls,
    else json; labelled=False: none. conditions: name → "class" or "vector" of keys of the json
    members to condition on. size, mode as for a folder, layout and value_range as for arrays.
    stream: leave the values in the shards; by default where they take more than MAX_BYTES. Raises
    DataError naming shard and key for what `index_tars` refuses, samples without value or label,
    damaged values, differing shapes.
    """
    found = find_webdataset(
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


def find_webdataset(
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
    **options: Any,
) -> Found:
    """The samples of tar shards before they are decoded; options are those of `open_webdataset`."""
    one_mode(mode, ())
    asked = check_conditions(conditions)
    files = shard_files(path, ".tar")
    index = index_tars(files, faults)
    if not len(index.keys):
        raise DataError(f"{path} holds no samples; write some with webdataset.ShardWriter")
    notes: list[str] = []
    values = _values(index, files, column, faults)
    members = Members(files, index, values)
    taken = asked.keys() - {"class"}
    labels = _labels(members, label, faults, notes, taken) if labelled else None
    if labels is not None:  # with a collecting check, samples without a label are left out
        kept = [i for i, found in enumerate(labels) if found is not None]
        members, labels = Members(files, index, values[kept]), [labels[i] for i in kept]
    described: dict[str, Any] = {
        "name": name or shards_name(path),
        "source": f"{len(files)} tar shard(s), {Path(path).name}",
        "label_place": partial(_label_place, members),
        "notes": notes,
        "conditions": asked,
        "place": members.place,
        **options,
    }
    columns = _columns(members, asked if faults.strict else None)
    if str(index.ending[values[0]]).rpartition(".")[2] == "npy":
        arrays, stored = _arrays(members, layout)
        rows: Rows = arrays
        modality = LAYOUTS[arrays.layout]
        channels = channel_meaning(modality, rows.shape[0])
        good = list(range(len(rows)))
    else:
        good, headers = read_headers(members, faults)
        if not good:
            raise DataError(f"no picture of {path} is sound")
        mode = one_mode(mode, headers)
        target = one_size(size, headers, str(path), faults)
        notes += size_notes(target, headers)
        rows = Pictures(members, mode, target, torch.tensor(good))
        modality, channels, stored = "image", mode, "uint8"
        described["headers"] = headers
    labels = None if labels is None else [labels[i] for i in good]
    described["columns"] = {n: [found[i] for i in good] for n, found in columns.items()}
    return Found(rows, labels, modality=modality, channels=channels, stored=stored, **described)


def _columns(members: Members, asked: Mapping[str, str] | None) -> dict[str, list[Any]]:
    """Return the keys of the json members that are asked for, by default all, a value a sample; one
    that a sample lacks is None there."""
    index = members.index
    rows = np.nonzero(index.ending == "json")[0]
    if not len(rows) or (asked is not None and not asked):
        return {}
    at = dict(zip(index.sample[rows].tolist(), rows.tolist(), strict=True))
    trees: list[Any] = []
    for sample in index.sample[members.values].tolist():
        tree = None
        if sample in at:
            place = members.name(at[sample])
            try:
                tree = strict_json(members.member(at[sample]).decode("utf-8"), place)
            except UnicodeDecodeError as error:
                raise DataError(f"{place} is no UTF-8 text: {error}") from error
        trees.append(tree if isinstance(tree, dict) else {})
    names = dict.fromkeys(name for tree in trees for name in tree)
    return {
        name: [tree.get(name) for tree in trees] for name in names if asked is None or name in asked
    }


def _values(index: Index, files: list[Path], column: str | None, faults: Faults) -> np.ndarray:
    """The member of the index that is each sample's value."""
    endings = sorted(set(index.ending.tolist()))
    if column is not None and column not in endings:
        raise unknown("column (the ending of a member)", column, endings)
    wanted = {column} if column else {e for e in endings if e in _PICTURES or e == "npy"}
    if not wanted:
        raise DataError(
            f"the members of {files[0]} end in {', '.join(endings[:9])}, and none is a picture or "
            "npy; say which holds the values, by column="
        )
    rows = np.nonzero(np.isin(index.ending, sorted(wanted)))[0]
    counts = np.bincount(index.sample[rows], minlength=len(index.keys))
    if (counts > 1).any():
        at = int(np.argmax(counts > 1))
        several = index.ending[rows[index.sample[rows] == at]].tolist()
        raise DataError(
            f"{files[int(index.shards[at])]}: {index.keys[at]} has {' and '.join(several)}; say "
            f"which holds the values, as column={several[0]}"
        )
    for at in np.nonzero(counts == 0)[0].tolist():
        faults.add(
            "without value",
            f"{files[int(index.shards[at])]}: {index.keys[at]} has no picture and no npy; add it, "
            "or take the sample out",
        )
    kinds = sorted({e == "npy" or e.endswith(".npy") for e in index.ending[rows].tolist()})
    if len(kinds) > 1:
        raise DataError(
            f"{files[0]} holds both pictures and npy; say which are the values, column="
        )
    if not len(rows):
        raise DataError(f"no sample of {files[0]} has a value")
    return rows


def _labels(
    members: Members,
    label: str | None,
    faults: Faults,
    notes: list[str],
    taken: Collection[str],
) -> list[int | str | None] | None:
    index = members.index
    endings = set(index.ending.tolist())
    if label is not None and label not in endings:
        raise unknown("label (the ending of a member)", label, sorted(endings))
    chosen = label or next((e for e in LABELS if e in endings), None)
    if chosen is None:
        if "txt" in endings:
            notes.append("txt members are not used; where they are labels, pass label=txt")
        return None
    rows = np.nonzero(index.ending == chosen)[0]
    at = dict(zip(index.sample[rows].tolist(), rows.tolist(), strict=True))
    found: list[int | str | None] = []
    for i, sample in enumerate(index.sample[members.values].tolist()):
        try:
            if sample not in at:
                raise DataError(f"{members.place(i)} has no {chosen} beside it; all need a label")
            content = members.member(at[sample])
            found.append(_label(content, chosen, members.name(at[sample]), taken))
        except DataError as error:
            faults.add("label", error)
            found.append(None)
    if label is None and chosen == "json" and all(value is None for value in found):
        notes.append("json members hold no 'label' and no 'class': no labels")
        return None
    for i, value in enumerate(found):
        if value is None and not faults.counts["label"]:
            faults.add("label", f"{members.place(i)} has no label in its {chosen}; all need one")
    return found


def _label(content: bytes, ending: str, name: str, taken: Collection[str]) -> int | str | None:
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no UTF-8 text: {error}") from error
    if ending.rpartition(".")[2] == "json":
        value = strict_json(text, name)
        if isinstance(value, dict):
            keys = [key for key in ("label", "class") if key in value and key not in taken]
            value = value[keys[0]] if keys else None
        if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
            return value
        raise DataError(f"{name} has label {value!r}; give a name or a whole number")
    if not text or len(text) > 200:
        raise DataError(f"{name} holds {text[:40]!r}; a label is a name or a whole number")
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() else text


def _label_place(members: Members, i: int) -> str:
    return f"{members.place(i)}: label"


def _arrays(members: Members, layout: str | None) -> tuple[ArrayMembers, str]:
    content = members.get([0])[0]
    assert isinstance(content, bytes)
    like = read_npy_bytes(content, members.place(0))
    if like.dtype.kind not in "uif" or like.ndim < 1 or 0 in like.shape:
        raise DataError(
            f"{members.place(0)} is {like.dtype} of shape {like.shape}; give uint8 or floats"
        )
    layout = layout or guess_layout((len(members), *like.shape), like.dtype.kind in "ui")
    return ArrayMembers(members, layout, like), str(like.dtype)
