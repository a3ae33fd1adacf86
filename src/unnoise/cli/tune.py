"""`unnoise tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .request import OPTIONS, takes_request

if TYPE_CHECKING:
    from ..sampling import SampleRequest


@takes_request(
    without=tuple(OPTIONS.keys() - {"guidance", "interval", "rescale"}),
    guidance="Guidance scale to tune for.  [the recipe's]",
)
def tune(
    request: SampleRequest,
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/demo.")],
    steps: Annotated[
        int, typer.Option(help="Number of steps to tune for (network evaluations per sample).")
    ],
    starts: Annotated[
        int,
        typer.Option(help="Trajectories to learn from; a third of them is held out to measure."),
    ] = 96,
    tries: Annotated[
        int | None, typer.Option(help="Grids to try.  [60, fewer above 10 steps]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the trajectories' noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
) -> None:
    """Calibrate grid points and coefficients for one model; use them with --solver tuned."""
    from tqdm import tqdm

    from ..artifacts import load, write_tuned
    from ..errors import need_count
    from ..sampling import calibrate
    from .output import check_folder, program

    need_count("steps", steps)
    request = request.but(steps=steps)
    loaded = load(model, "fp32", device)
    check_folder(model)
    bar = tqdm(disable=None, leave=False, unit="grid")

    def progress(done: int, total: int) -> None:
        """Show the number of grids tried."""
        bar.total = total
        bar.update(done - bar.n)

    kept, found = calibrate(loaded.facts, request, starts, tries, seed, progress)
    bar.close()
    path = write_tuned(model, kept, loaded.weights_sha256)
    for name, (median, ninety) in (("auto", found.before), ("tuned", found.after)):
        typer.echo(f"{name:6}error of the median start {median:.3g}, of the 90th % {ninety:.3g}")
    if found.before == found.after:
        typer.echo("nothing better was found: the file holds auto's own numbers")
    typer.echo(f"{path}: use it with `{program()} sample {model} --solver tuned --steps {steps}`")
