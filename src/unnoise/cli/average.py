"""`unnoise average`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def average(
    run: Annotated[Path, typer.Argument(help="Folder of a run trained with train.averages={}.")],
    gamma: Annotated[
        float, typer.Option(help="Length: the average is over about 1/gamma of the run.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model.  [RUN-gamma-GAMMA]")
    ] = None,
) -> None:
    """Make a model with an average of another length, from those that its run stored."""
    from ..training.averages import average_of
    from .output import program

    named = run if run.name.strip(".") else run.resolve()  # "." has no name
    out = out or named.with_name(f"{named.name}-gamma-{gamma:g}")
    mixture = average_of(run, gamma, out)
    typer.echo(
        f"average of gamma {gamma:g} from {len(mixture.shares)} stored ones: "
        f"{mixture.misplaced:.2%} of it lies at other updates than it should"
    )
    typer.echo(f"model: {out}")
    typer.echo(f"next: {program()} evaluate {out}")
