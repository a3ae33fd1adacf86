"""`unnoise sample`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .request import takes_request

if TYPE_CHECKING:
    from ..sampling import SampleRequest


@takes_request(n="How many samples.  [40]")
def sample(
    request: SampleRequest,
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/demo.")],
    processes: Annotated[
        int | None,
        typer.Option(
            help="How many share the work, here; for more machines or by hand see the guide.  [one "
            "a core or GPU, where there is work for more than a while]"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with what --out was begun with, options and all."),
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            help="samples.png (a grid, replaced if there), or, for any number, samples.npy or a "
            "folder for PNG files."
        ),
    ] = Path("samples.png"),
) -> None:
    """Draw samples from a trained model; an array or a folder can be stopped and gone on with."""
    from ..errors import InvalidArgument
    from ..solvers import names
    from .output import Meter, check_place

    check_place(out)
    if out.suffix == ".png":
        alone = {"--resume": resume, "--processes": processes not in (None, 1)}
        alone["several processes"] = int(os.environ.get("WORLD_SIZE", "1")) > 1
        for what, used in alone.items():
            if used:
                raise InvalidArgument(
                    f"a grid of samples is drawn at once, by one process, and {what} was asked "
                    "for; give --out samples.npy or a folder, or leave it out"
                )
        typer.echo(_grid(model, request, out))
    else:
        from ..pipelines.sample_many import sample_many

        meter = Meter()
        try:
            made = sample_many(
                model, out, request=request, resume=resume, progress=meter,
                processes="auto" if processes is None else processes,
            )  # fmt: skip
        finally:
            meter.close()
        for note in made.notes:
            typer.echo(f"note: {note}", err=True)
        if not made.finished:
            typer.echo(f"other processes are still at work on {out}; the last one finishes it")
            return
        there = f"{out} is there already" if made.before else str(out)
        typer.echo(f"{made.n} samples, {made.nfe} network passes each: {there}")
    solver = request.solver
    if solver not in (None, "tuned") and (note := names.ask(solver).note):
        typer.echo(f"note: {solver}: {note}", err=True)


def _grid(folder: Path, request: SampleRequest, out: Path) -> str:
    """Draw samples at once into one picture, and return a line about them."""
    from ..pipelines.sample_files import check_pictures
    from ..pipelines.sample_many import open_samples
    from .output import write_grid

    model, stream = open_samples(folder, request)
    check_pictures(model.spec)
    made = stream.whole()
    there = write_grid(model, made, out)
    return f"{stream.n} samples, {made.nfe} network passes each: {there}"
