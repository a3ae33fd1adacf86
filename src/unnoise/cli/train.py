"""`unnoise train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..data import Dataset
    from ..recipes import Recipe


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe: a .yaml file or a shipped name (see `unnoise recipes`)."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as train.steps=2000."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Train on this (a folder of pictures, .npy, .npz, parquet or tar shards, or a "
            "name; see `unnoise data check`); a recipe is chosen and printed."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="With --data: crop and resize pictures to this side.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="How long to train: 90s, 5m, 1.5h. With --data the network's size is chosen for "
            "it on this machine."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.  [runs/NAME]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a model by a recipe, or on your own data."""
    from ..errors import RecipeError
    from ..recipes import choose_for, dump, load_recipe, read_tree
    from ..training.run import RECIPE
    from ..training.run import train as run
    from .output import program

    first = os.environ.get("RANK", "0") == "0"  # among a launcher's processes
    overrides = list(overrides or [])
    if recipe is not None and "=" in recipe:  # only overrides were given
        overrides.insert(0, recipe)
        recipe = None
    if budget is not None:
        overrides.append(f"train.budget={budget}")
    if recipe is not None and data is not None:
        raise RecipeError("both a recipe and --data were given; give one of them")
    if size is not None and data is None:
        raise RecipeError("--size goes with --data; with a recipe write data.size=…")
    if data is not None:
        resolved, opened = choose_for(data, size=size, overrides=overrides)
        out = out or Path("runs") / resolved.name
        resolved = _sized(resolved, opened, overrides, out if resume else None, quiet or not first)
        if not quiet and first:
            typer.echo(f"# the recipe chosen for {data}:\n{dump(resolved)}")
    elif recipe is not None:
        resolved = load_recipe(recipe, overrides)
    elif resume and out is not None and (out / RECIPE).is_file():
        resolved = load_recipe(read_tree(out / RECIPE), overrides)
    else:
        raise RecipeError(
            "nothing to train: give a recipe (see `unnoise recipes`), --data with your own data, "
            "or --resume with the --out of a run"
        )
    out = out or Path("runs") / resolved.name
    model = run(resolved, out, resume, quiet)
    if first:
        typer.echo(f"model: {out}")
        place = "samples.png" if model.spec.is_picture else "samples.npy"
        typer.echo(f"next: {program()} sample {out} --n 40 --out {place}")


def _sized(
    recipe: Recipe, data: Dataset | None, overrides: list[str], resumed: Path | None, quiet: bool
) -> Recipe:
    """Return the chosen recipe with a network fitted to its time, unless a network was given.

    A run that is resumed retains its own network, apart from new overrides.
    """
    from ..recipes import fits_time, load_recipe, open_parts, read_tree
    from ..recipes.load import parse_override
    from ..training import fit_to_time
    from ..training.run import RECIPE

    if resumed is not None and (resumed / RECIPE).is_file():
        tree = recipe.model_dump(mode="json")
        tree["network"] = read_tree(resumed / RECIPE).get("network")
        given = [text for text in overrides if parse_override(text)[0][0] == "network"]
        return load_recipe(tree, given)
    if not fits_time(recipe, data is not None, overrides):
        return recipe
    fit = fit_to_time(recipe, data or open_parts(recipe)[0])
    if not quiet:
        typer.echo("# tried here: " + "; ".join(fit.tried))
        typer.echo(f"# {recipe.train.budget:g} s hold about {fit.updates:,} updates of this:")
    return fit.recipe
