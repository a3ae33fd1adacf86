"""`unnoise recipes`."""

from __future__ import annotations

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe in full.")] = None,
) -> None:
    """List the recipes that ship with unnoise, or print one."""
    from ..recipes import dump, load_recipe, shipped

    if name is not None:
        typer.echo(dump(load_recipe(name)), nl=False)
        return
    found = shipped()
    width = max(map(len, found))
    for key, about in found.items():
        typer.echo(f"{key:{width}}  {about}")
    typer.echo("\nTrain one: unnoise train NAME   Print one: unnoise recipes NAME")
