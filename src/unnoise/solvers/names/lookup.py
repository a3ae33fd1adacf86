"""Looking a name up: among those of other programs, or among theirs and ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from ...errors import InvalidArgument, Unsupported, unknown
from ...paths import GaussianPath
from ..registry import PRESETS, parse
from ..registry import get as build
from ..solver import Solver
from .row import PEERS, Row
from .table import GRIDS, ROWS


@dataclass(frozen=True)
class Spacing:
    """One of our grids, by name and options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, path: GaussianPath, steps: int) -> Tensor:
        from ..sampling import grid_for

        return grid_for(path, self.name, steps, **dict(self.options))


@dataclass(frozen=True)
class Named:
    """What a name stands for: our solver, our grid (None: not said), the row's note, the row.

    text: our name of it with its options, as `solvers.get` reads it.
    """

    solver: Solver
    grid: Spacing | None
    note: str = ""
    row: Row | None = None
    text: str = ""


def find(name: str, peer: str | None = None, **options: Any) -> Row:
    """The row of a sampler's name, among those of `peer` or of all, with exactly these options.

    A leading "sample" may be left out. Where several rows fit, the first counts; for a class of
    diffusers without options the first of its rows. Raises InvalidArgument, listing the nearest
    names, where none fits.
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
        if dict(row.options) == options:
            return row
    if not options:
        return same[0]
    known_options = "; ".join(str(dict(row.options)) for row in same)
    raise InvalidArgument(f"{name!r} with {options!r}; rows of the table have {known_options}")


def get(name: str, peer: str | None = None, **options: Any) -> Named:
    """Our solver and grid of a name, which may end in that of a grid: get("DPM++ 2M Karras").

    Raises InvalidArgument for unknown names, listing the nearest, and Unsupported, with the
    reason, for what is no solver here.
    """
    for head, tail in _splits(name):
        if not _rows(head, peer) or not _known(tail):
            continue
        row = find(head, peer, **options)
        grid = _spacing(tail) if tail else None
        if grid is None and row.grid is not None:
            grid = Spacing(row.grid, row.grid_options)
        return Named(row.build(), grid, row.note, row, row.text)
    find(name, peer, **options)  # raises, naming the nearest
    raise AssertionError(name)


def ask(solver: str | Solver) -> Named:
    """What a user means: one of ours with its options ("ddim:eta=0.5"), or a name of others.

    Ours come first, as they are written: "heun" is ours, "sample_heun" k-diffusion's. A name of
    others may end in that of a grid ("DPM++ 2M Karras") and take a class's options
    ("DDIMScheduler:eta=0.5"). Raises InvalidArgument naming the nearest of all for unknown names,
    Unsupported for what is no solver here.
    """
    if isinstance(solver, Solver):
        return Named(solver, None)
    head, options = parse(solver)
    if head in PRESETS:
        return Named(build(solver), None, text=solver)
    if not any(_rows(some, None) for some, tail in _splits(head) if _known(tail)):
        raise _unknown(head)
    return get(head, **options)


def _plain(name: str) -> str:
    """Lower case, with one space for each run of spaces, _, - and :."""
    return " ".join(name.replace("_", " ").replace("-", " ").replace(":", " ").lower().split())


_PLAIN_GRIDS = {_plain(name): grid for name, grid in GRIDS.items()}


def _rows(name: str, peer: str | None) -> list[Row]:
    if peer is not None and peer not in PEERS:
        raise unknown("peer", peer, PEERS)
    wanted = _plain(name)
    ways = ((row, _plain(row.name)) for row in ROWS if peer in (None, row.peer))
    return [row for row, plain in ways if wanted in (plain, plain.removeprefix("sample "))]


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """(sampler, "") and then with one, two and three last words as the name of a grid."""
    words = _plain(name).split()
    yield name, ""
    for count in range(1, min(4, len(words))):
        yield " ".join(words[:-count]), " ".join(words[-count:])


def _known(tail: str) -> bool:
    return not tail or tail in _PLAIN_GRIDS


def _spacing(name: str) -> Spacing:
    found = _PLAIN_GRIDS[name]
    if isinstance(found, str):
        raise Unsupported(f"the grid {name!r} is none here: {found}")
    return Spacing(*found)


def _unknown(name: str) -> InvalidArgument:
    """The error for a name that nobody knows, with the nearest of ours and of theirs."""
    labels: dict[str, str] = {_plain(ours): repr(ours) for ours in PRESETS}
    for row in ROWS:
        labels.setdefault(_plain(row.name), f"{row.name!r} of {row.peer}")
    heads: Sequence[str] = [some for some, tail in _splits(name) if _known(tail)]
    near: list[str] = []
    for head in reversed(heads):
        for close in get_close_matches(_plain(head), labels, n=4, cutoff=0.6):
            if labels[close] not in near:
                near.append(labels[close])
    hint = f"; did you mean {' or '.join(near[:4])}?" if near else ";"
    return InvalidArgument(
        f"unknown solver {name!r}{hint} known: {', '.join(sorted(PRESETS))}; and names of other "
        "programs: `unnoise solvers --names`"
    )
