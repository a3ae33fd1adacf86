"""`unnoise sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/demo.")],
    n: Annotated[int, typer.Option("--n", "-n", help="How many samples.")] = 40,
    steps: Annotated[int | None, typer.Option(help="Steps of the solver.")] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="Solver: dpmpp_2m, unipc, ddpm, ddim:eta=0.5, … (see `unnoise solvers`), "
            "or a name of others, such as 'DPM++ 2M Karras'."
        ),
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="Grid of times: karras, uniform, log_snr, quadratic, …")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale: 1 none, more follows the class more.")
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class by number or name; repeat for several. [all in turn]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Sample i of a seed is always the same noise.")] = 0,
    batch: Annotated[int, typer.Option(help="How many at once.")] = 250,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    out: Annotated[
        Path, typer.Option(help="samples.png (a grid), samples.npy, or a folder for PNG files.")
    ] = Path("samples.png"),
) -> None:
    """Draw samples from a trained model."""
    from ..artifacts import load
    from ..errors import InvalidArgument, need_count
    from ..solvers import names
    from .output import check_output, write_samples

    need_count("n", n)
    loaded = load(model, precision, device)
    check_output(loaded, out)
    condition = None
    if class_:
        if len(class_) > n:
            raise InvalidArgument(f"{len(class_)} classes for {n} samples; give --n {len(class_)}")
        named = [loaded.spec.class_index(c) for c in class_] if loaded.classes else class_
        loaded.check_affordable(n)
        condition = {
            "class": named[0] if len(named) == 1 else [named[i % len(named)] for i in range(n)]
        }
    made = loaded.sample(
        n,
        solver=solver,
        steps=steps,
        grid=grid,
        guidance=guidance,
        condition=condition,
        seed=seed,
        batch=batch,
    )
    write_samples(loaded, made, out)
    if solver is not None and solver != "tuned" and (note := names.ask(solver).note):
        typer.echo(f"note: {solver}: {note}", err=True)
    typer.echo(f"{n} samples, {made.passes} network passes each: {out}")
