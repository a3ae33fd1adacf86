"""The table of names, and the look-up among those of other programs, or among theirs and ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import resources
from typing import Any

from torch import Tensor

from ...errors import InvalidArgument, Unsupported, unknown
from ...paths import GaussianPath, grid_for
from ..registry import PRESETS, parse
from ..registry import get as build
from ..solver import Solver
from .row import PEERS, Row


@dataclass(frozen=True)
class Spacing:
    """One of our grids, by name and options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, path: GaussianPath, steps: int) -> Tensor:
        return grid_for(path, self.name, steps, **self.options)

    def __str__(self) -> str:
        """Return the name with the options, as in leading:offset=1."""
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


_TABLE = json.loads((resources.files(__package__) / "table.json").read_text("utf-8"))
ROWS = tuple(
    Row(peer, **row | {"note": _TABLE["notes"][row["note"]] if "note" in row else ""})
    for peer, rows in _TABLE["rows"].items()
    for row in rows
)
# our grid for each of their names; a text is the reason why there is none
GRIDS: dict[str, Spacing | str] = {
    name: Spacing(*parse(text)) for name, text in _TABLE["grids"].items()
} | _TABLE["no_grids"]


@dataclass(frozen=True)
class Named:
    """Our solver and grid for a name (grid None: the name implies none), the row and its note.

    text: our name of the solver with its options, as `solvers.get` reads it.
    """

    solver: Solver
    grid: Spacing | None
    note: str = ""
    row: Row | None = None
    text: str = ""


def find(name: str, peer: str | None = None, **options: Any) -> Row:
    """Return the row of a sampler's name, of `peer` or of all, with exactly these options.

    A leading "sample" may be left out. Where several rows fit, or none of a class is for no
    options, the first counts. Raises InvalidArgument, listing the nearest names, where none fits.
    """
    same = _rows(name, peer)
    if not same:
        theirs = sorted({row.name for row in ROWS if peer in (None, row.peer)})
        known = {_plain(way): way for way in theirs}
        close = [repr(known[c]) for c in get_close_matches(_plain(name), known, n=5, cutoff=0.4)]
        raise InvalidArgument(
            f"unknown sampler {name!r}{f' of {peer}' * (peer is not None)}; nearest: "
            f"{', '.join(close) or 'none comes near'}"
        )
    for row in same:
        if row.options == options:
            return row
    if not options:
        return same[0]
    known_options = "; ".join(str(row.options) for row in same)
    raise InvalidArgument(f"{name!r} with {options!r}; rows of the table have {known_options}")


def get(name: str, peer: str | None = None, **options: Any) -> Named:
    """Return our solver and grid for a name, which may end in a grid's: get("DPM++ 2M Karras").

    Raises InvalidArgument for unknown names, listing the nearest, and Unsupported, with the
    reason, for what is no solver here.
    """
    for head, tail in _splits(name):
        if not _rows(head, peer):
            continue
        row = find(head, peer, **options)
        grid: Spacing | str | None = Spacing(*parse(row.grid)) if row.grid else None
        if tail:
            grid = _PLAIN_GRIDS[tail]
        if isinstance(grid, str):
            raise Unsupported(f"the grid {tail!r} is none here: {grid}")
        return Named(row.build(), grid, row.note, row, row.text)
    find(name, peer, **options)  # raises, naming the nearest
    raise AssertionError(name)


def ask(solver: str | Solver) -> Named:
    """Return the meaning of one of our names with its options, or of another program's name.

    Ours ("ddim:eta=0.5") come first, as they are written: "heun" is ours, "sample_heun"
    k-diffusion's. A name of others may end in that of a grid ("DPM++ 2M Karras") and take a
    class's options ("DDIMScheduler:eta=0.5"). Raises InvalidArgument naming the nearest of all for
    unknown names, Unsupported for what is no solver here.
    """
    if isinstance(solver, Solver):
        return Named(solver, None)
    head, options = parse(solver)
    if head in PRESETS:
        return Named(build(solver), None, text=solver)
    if not any(_rows(some, None) for some, _ in _splits(head)):
        raise _unknown(head)
    return get(head, **options)


def _plain(name: str) -> str:
    """Return the name in lower case, with one space for each run of spaces, _, - and :."""
    return " ".join(name.replace("_", " ").replace("-", " ").replace(":", " ").lower().split())


_PLAIN_GRIDS = {_plain(name): grid for name, grid in GRIDS.items()}


def _rows(name: str, peer: str | None) -> list[Row]:
    if peer is not None and peer not in PEERS:
        raise unknown("peer", peer, PEERS)
    wanted = _plain(name)
    ways = ((row, _plain(row.name)) for row in ROWS if peer in (None, row.peer))
    return [row for row, plain in ways if wanted in (plain, plain.removeprefix("sample "))]


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield (name, ""), then (sampler, grid) where one, two or three last words name a grid."""
    words = _plain(name).split()
    yield name, ""
    for count in range(1, min(4, len(words))):
        tail = " ".join(words[-count:])
        if tail in _PLAIN_GRIDS:
            yield " ".join(words[:-count]), tail


def _unknown(name: str) -> InvalidArgument:
    """Return the error for an unknown name, with the nearest of ours and of theirs."""
    labels: dict[str, str] = {_plain(ours): repr(ours) for ours in PRESETS}
    for row in ROWS:
        labels.setdefault(_plain(row.name), f"{row.name!r} of {row.peer}")
    near = {
        labels[close]: None
        for head, _ in reversed(list(_splits(name)))
        for close in get_close_matches(_plain(head), labels, n=4, cutoff=0.6)
    }
    hint = f"; did you mean {' or '.join([*near][:4])}?" if near else ";"
    return InvalidArgument(
        f"unknown solver {name!r}{hint} known: {', '.join(sorted(PRESETS))}; and names of other "
        "programs: `unnoise solvers --names`"
    )
