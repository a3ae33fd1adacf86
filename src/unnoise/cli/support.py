"""`unnoise support`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def support(
    as_json: Annotated[
        bool, typer.Option("--json", help="Every cell as a JSON line: path, lens, solver, weight.")
    ] = False,
) -> None:
    """Show which paths, lenses, solvers and weights work together, and why others cannot."""
    from ..fields import LENSES
    from ..objectives import WEIGHTS
    from ..support import PATHS, SOLVERS, cells

    if as_json:
        for cell in cells():
            typer.echo(json.dumps(cell._asdict(), ensure_ascii=False))
        return
    refused: dict[str, dict[str, set[str]]] = {}
    total = working = 0
    for cell in cells():
        total += 1
        working += cell.reason is None
        if cell.reason is not None:
            what = refused.setdefault(cell.reason, {})
            what.setdefault(f"{cell.lens} with {cell.solver}", set()).add(cell.path)
    typer.echo(
        f"{len(PATHS)} paths × {len(SOLVERS)} solvers × {len(LENSES)} lenses × {len(WEIGHTS)} "
        f"weights, from t = 1 to 0: "
        f"{working} of {total} work.\nThe others, by reason:"
    )
    for reason, what in refused.items():
        solvers = sorted({name.split(" with ")[1] for name in what})
        lenses = sorted({name.split(" with ")[0] for name in what})
        paths = sorted(set().union(*what.values()))
        typer.echo(f"\n  {reason}")
        for name, some, every in (
            ("solvers", solvers, SOLVERS), ("lenses", lenses, LENSES), ("paths", paths, PATHS),
        ):  # fmt: skip
            typer.echo(f"    {name}: {'all' if len(some) == len(every) else ', '.join(some)}")
