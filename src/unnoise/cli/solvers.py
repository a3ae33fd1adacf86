"""`unnoise solvers`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..solvers.names import Row

BUILT = {
    "solvers.DpmSolverV3(ems, points=2)": "DPM-Solver-v3, ems = solvers.empirical_statistics("
    "field, x0, noise, grid) of the same model",
    "solvers.Parallel(window=16, tolerance=0.1)": "ParaDiGMS, many DDIM steps at once, for a field "
    "without a condition for each sample",
}


def solvers(
    name: Annotated[
        str | None,
        typer.Argument(help="Describe one solver, given by our name or that of another program."),
    ] = None,
    names: Annotated[
        bool,
        typer.Option("--names", help="The names in diffusers, k-diffusion, ComfyUI and A1111."),
    ] = False,
) -> None:
    """List the solvers, or the names of other programs with ours for each."""
    from ..errors import InvalidArgument
    from ..solvers import PRESETS
    from ..solvers.names import GRIDS, ROWS

    if name is not None:
        if names:
            raise InvalidArgument(f"--names lists all; give {name!r} or --names, not both")
        typer.echo(_one(name))
        return
    if names:
        for row in ROWS:
            typer.echo(f"{row.peer:11}  {_called(row):60}  {_ours(row)}")
        typer.echo("\nGrids, which may follow a sampler's name:")
        for key, grid in GRIDS.items():
            typer.echo(f"  {key:42}  {'none here: ' * isinstance(grid, str)}{grid}")
        return
    width = max(map(len, PRESETS))
    for key, make in sorted(PRESETS.items()):
        typer.echo(f"{key:{width}}  {_line(make)}")
    typer.echo("\nFrom Python, as solver= of Model.sample or by .solve(field, x, grid):")
    for built, what in BUILT.items():
        typer.echo(f"  {built}: {what}")
    typer.echo("\nOptions of one: unnoise solvers NAME   Names of others: unnoise solvers --names")


def _line(make: Any) -> str:
    return " ".join((inspect.getdoc(make) or "").split("\n\n")[0].split())


def _called(row: Row) -> str:
    options = ",".join(f"{key}={value}" for key, value in row.options.items())
    return f"{row.name}:{options}" if options else row.name


def _ours(row: Row) -> str:
    if row.solver is None:
        return f"none here: {row.note}"
    grid = f" on {row.grid}" if row.grid else ""
    return f"{row.text}{grid}{f'; {row.note}' if row.note else ''}"


def _one(name: str) -> str:
    from ..solvers import PRESETS
    from ..solvers.names import ask

    meant = ask(name)
    ours = meant.text.partition(":")[0]
    make = PRESETS[ours]
    lines = [f"{ours}{inspect.signature(make).replace(return_annotation=inspect._empty)}"]
    if meant.row is not None:
        grid = "" if meant.grid is None else f" on {meant.grid}"
        lines.insert(0, f"{name} ({meant.row.peer}) is {meant.text}{grid}")
        if meant.note:
            lines.insert(1, f"note: {meant.note}")
    return "\n".join([*lines, "", inspect.getdoc(make) or ""])
