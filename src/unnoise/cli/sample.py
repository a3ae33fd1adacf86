"""`unnoise sample`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def sample(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/demo.")],
    n: Annotated[int | None, typer.Option("--n", "-n", help="How many samples.  [40]")] = None,
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
    seed: Annotated[
        int | None, typer.Option(help="Sample i of a seed is always the same noise.  [0]")
    ] = None,
    first: Annotated[
        int | None, typer.Option(help="The index of the first sample of the seed.  [0]")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="How many at once.  [250]")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.  [auto]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
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
    from ..errors import InvalidArgument, need_count
    from ..solvers import names
    from .output import Meter, check_place

    check_place(out)
    options: dict[str, Any] = {
        "n": n, "solver": solver, "steps": steps, "grid": grid, "guidance": guidance,
        "seed": seed, "first": first, "batch": batch, "precision": precision,
    }  # fmt: skip
    if n is not None:
        need_count("n", n)
    if out.suffix == ".png":
        alone = {"--resume": resume, "--processes": processes not in (None, 1)}
        alone["several processes"] = int(os.environ.get("WORLD_SIZE", "1")) > 1
        for what, asked in alone.items():
            if asked:
                raise InvalidArgument(
                    f"a grid of samples is drawn at once, by one process, and {what} was asked "
                    "for; give --out samples.npy or a folder, or leave it out"
                )
        typer.echo(_grid(model, device, class_ or [], out, options))
    else:
        from ..pipelines.sample_many import sample_many

        meter = Meter()
        try:
            made = sample_many(
                model, out, **options, classes=class_, device=device,
                processes="auto" if processes is None else processes,
                resume=resume, progress=meter,
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
    if solver is not None and solver != "tuned" and (note := names.ask(solver).note):
        typer.echo(f"note: {solver}: {note}", err=True)


def _grid(folder: Path, device: str, classes: list[str], out: Path, options: dict[str, Any]) -> str:
    """What was done: samples drawn at once into one picture."""
    from ..artifacts import load
    from ..pipelines.sample_state import Asked
    from .output import check_output, write_grid

    asked = Asked.of({**options, "classes": classes or None})
    model = load(folder, asked.precision, device)
    check_output(model, out)
    model.facts.check_affordable(asked.n)
    made = asked.stream(model).whole()
    there = write_grid(model, made, out)
    return f"{asked.n} samples, {made.nfe} network passes each: {there}"
