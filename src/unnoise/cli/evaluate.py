"""`unnoise evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/demo.")],
    n: Annotated[int | None, typer.Option("--n", "-n", help="How many samples.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the solver.")] = None,
    solver: Annotated[str | None, typer.Option(help="Solver.")] = None,
    grid: Annotated[str | None, typer.Option(help="Grid of times, such as uniform.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the samples.")] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Held-out data to compare with: test, or validation while choosing.  [test, where "
            "the recipe holds one out]"
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for card.json and card.md.  [the model's]")
    ] = None,
) -> None:
    """Measure a model's samples against held-out data: card.json and card.md."""
    from ..pipelines.measure import measure
    from .output import check_folder

    folder = out or model
    check_folder(folder)
    card = measure(
        model,
        n=n,
        steps=steps,
        solver=solver,
        grid=grid,
        guidance=guidance,
        seed=seed,
        part=part,
        precision=precision,
        device=device,
    )
    folder.mkdir(parents=True, exist_ok=True)
    card.save(folder)
    typer.echo((folder / "card.md").read_text("utf-8"))
