"""Parquet files as one table: row groups are read whole and a few of them cached."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .encoded import files_key
from .faults import Faults
from .order import WINDOW_BYTES

GROUP_BYTES = 2**30  # unpacked bytes of one column of one row group; larger ones are refused


class Tables:
    """Parquet files of one schema as one table; its rows by index, its row groups by number.

    names: the columns. features: the notes of Hugging Face's `datasets` on each. Raises DataError,
    naming the file, for unsound parquet files and for schemas that differ.
    """

    def __init__(self, files: list[Path], faults: Faults) -> None:
        self.files: list[Path] = []
        self.groups: list[tuple[int, int]] = []  # (file, row group in it)
        starts = [0]
        self._opened: tuple[int, dict[int, Any]] = (-1, {})
        self._held: OrderedDict[tuple[int, str], tuple[int, Any]] = OrderedDict()
        self.schema: Any = None
        for file in files:
            try:
                reader = _open(file)
                schema = reader.schema_arrow
                if self.schema is not None and not schema.equals(self.schema):
                    raise DataError(
                        f"{file} has the columns {_written(schema)}, and {self.files[0]} "
                        f"{_written(self.schema)}; all must be alike"
                    )
            except DataError as error:
                faults.add("damaged shard", error)
                continue
            self.schema = self.schema or schema
            number = len(self.files)
            self.files.append(file)
            for group in range(reader.metadata.num_row_groups):
                rows = reader.metadata.row_group(group).num_rows
                if rows:
                    self.groups.append((number, group))
                    starts.append(starts[-1] + rows)
        self.starts = np.array(starts, dtype=np.int64)
        self.names: list[str] = [] if self.schema is None else list(self.schema.names)
        self.features = _features(self.schema)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (-1, {}), "_held": OrderedDict()}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def kind(self, column: str) -> Any:
        """Return the Arrow type of a column, without the name that an extension gives it."""
        kind = self.schema.field(column).type
        return getattr(kind, "storage_type", kind)

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the row group of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def place(self, row: int) -> str:
        """Return file and row of a row."""
        group = int(self.group_of(np.array([row]))[0])
        file = self.groups[group][0]
        first = next(i for i, (number, _) in enumerate(self.groups) if number == file)
        return f"{self.files[file]} row {row - int(self.starts[first])}"

    def sizes(self, column: str) -> tuple[int, ...]:
        """Return the unpacked bytes of a column in each row group."""
        return tuple(self.size(group, column) for group in range(len(self.groups)))

    def size(self, group: int, column: str) -> int:
        """Return the unpacked bytes of a column in one row group."""
        file, inside = self.groups[group]
        meta = self._reader(file).metadata.row_group(inside)
        parts = (meta.column(i) for i in range(meta.num_columns))
        mine = (p for p in parts if p.path_in_schema.split(".")[0] == column)
        return sum(p.total_uncompressed_size for p in mine)

    def column(self, column: str) -> list[Any]:
        """Return a whole column, as plain values."""
        found: list[Any] = []
        for file in range(len(self.files)):
            try:
                read = self._reader(file).read([column], use_threads=False)
            except Exception as error:
                raise _damaged(self.files[file], error) from error
            found += read.column(0).to_pylist()
        return found

    def group(self, group: int, column: str) -> Any:
        """Return one column of one row group, from the cache or read now: an Arrow array."""
        key = (group, column)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][1]
        file, inside = self.groups[group]
        declared = self.size(group, column)
        if declared > GROUP_BYTES:
            raise DataError(
                f"{self.files[file]} row group {inside} takes {declared / 2**30:.1f} GiB, and at "
                f"most {GROUP_BYTES / 2**30:.0f} are read at once; write it again with smaller "
                "row groups (row_group_size=1000)"
            )
        try:
            table = self._reader(file).read_row_group(inside, [column], use_threads=False)
            array = table.column(0).combine_chunks()
            array = array.chunk(0) if hasattr(array, "chunk") else array
            array = getattr(array, "storage", array)
        except Exception as error:  # pyarrow raises OSError, ArrowInvalid, …
            raise _damaged(self.files[file], error) from error
        expected = int(self.starts[group + 1] - self.starts[group])
        if len(array) != expected:
            raise DataError(f"{self.files[file]} row group {inside} has lost rows; fetch it again")
        self._held[key] = (array.nbytes, array)
        while len(self._held) > 1 and sum(size for size, _ in self._held.values()) > WINDOW_BYTES:
            self._held.popitem(last=False)
        return array

    def numbers(self, group: int, column: str, rows: slice | np.ndarray) -> np.ndarray:
        """Return some rows, counted within their group, of a column of lists, as one array."""
        array = self.group(group, column)
        if isinstance(rows, slice):
            array = array.slice(rows.start, rows.stop - rows.start)
        else:
            import pyarrow as pa

            array = array.take(pa.array(rows))
        shape = [len(array)]
        while hasattr(array, "flatten") and hasattr(array.type, "value_type"):
            if array.null_count:
                raise DataError("an absent value")
            inner = array.flatten()
            each, left = divmod(len(inner), max(1, len(array)))
            lengths = getattr(array.type, "list_size", None)
            if lengths is None and len(array):
                counts = array.value_lengths().to_numpy(zero_copy_only=False)
                left = int((counts != each).any())
            if left:
                raise DataError("lists of differing lengths")
            shape.append(each)
            array = inner
        if array.null_count:
            raise DataError("an absent value")
        return array.to_numpy(zero_copy_only=False).reshape(shape)

    def key(self) -> str:
        """Return a key that changes with the files."""
        return files_key(self.files)

    def _reader(self, file: int) -> Any:
        """Return the open file, of this process: a forked one opens its own."""
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), {})
        readers = self._opened[1]
        if file not in readers:
            if len(readers) >= 64:
                readers.pop(next(iter(readers)))
            readers[file] = _open(self.files[file])
        return readers[file]


def is_binary(tables: Tables, column: str) -> bool:
    """Return whether a column holds bytes, or structs with `bytes`."""
    import pyarrow.types as kinds

    kind = tables.kind(column)
    if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind)


def is_list(tables: Tables, column: str) -> bool:
    """Return whether a column holds lists, of lists …, of numbers."""
    import pyarrow.types as kinds

    kind = tables.kind(column)
    deep = 0
    while hasattr(kind, "value_type") and not kinds.is_dictionary(kind):
        kind, deep = kind.value_type, deep + 1
    return deep > 0 and (kinds.is_integer(kind) or kinds.is_floating(kind))


def _open(file: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            "reading parquet needs pyarrow, which is not installed; pip install 'unnoise[parquet]'"
        ) from error
    try:
        return pq.ParquetFile(file, memory_map=True, pre_buffer=False)
    except Exception as error:  # pyarrow raises OSError, ArrowInvalid, …
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())[:300]
    return DataError(f"{file} is no sound parquet file: {text}; fetch it again")


def _written(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)[:300]


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the notes of `datasets` on the columns in the schema; empty if there are none."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        found = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: kind for name, kind in found.items() if isinstance(kind, dict)}
    return {}
