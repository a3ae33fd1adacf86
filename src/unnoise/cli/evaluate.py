"""`unnoise evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    model: Annotated[
        Path | None, typer.Argument(help="Folder of a trained model, such as runs/demo.")
    ] = None,
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
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature space: classifier, efficientnet (colour images), pca, or the folder of a "
            "run that holds a classifier; with --samples also .npy files of features, of the "
            "samples and of the data, with a comma between.  [classifier where there are labels, "
            "else pca]"
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="EfficientNet's weights may be fetched (17 MB).")
    ] = False,
    samples: Annotated[
        Path | None,
        typer.Option(help="Measure these instead of a model's: a folder of pictures, .npy, .npz."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="With --samples: the data that they should look like.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="With --samples: data that their maker never saw.  [a fifth of --data, at most "
            "500]"
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for card.json and card.md.  [the model's; with --samples .]"),
    ] = None,
) -> None:
    """Measure a model's samples against held-out data: card.json and card.md."""
    from ..errors import InvalidArgument
    from .output import check_folder

    drawing: dict[str, Any] = {
        "n": n, "steps": steps, "solver": solver, "grid": grid, "guidance": guidance, "seed": seed,
        "part": part,
    }  # fmt: skip
    if samples is not None:
        run = {"precision": precision, "device": device}
        drawing |= {name: value for name, value in run.items() if value != "auto"}
        for name, value in {"a model": model, **drawing}.items():
            if value is not None:
                raise InvalidArgument(
                    f"--samples measures what is there already, and {name} was given too "
                    f"({value}); leave one out"
                )
        if data is None:
            raise InvalidArgument("--samples needs --data: a folder, a .npy, a .npz, or a name")
        from ..pipelines.measure_samples import measure_samples

        folder = out or Path()
        check_folder(folder)
        card = measure_samples(samples, data, reference=reference, features=features, fetch=fetch)
    else:
        from ..pipelines.measure import measure

        if model is None:
            raise InvalidArgument("nothing to measure: give the folder of a model, or --samples")
        for name, value in {"--data": data, "--reference": reference}.items():
            if value is not None:
                raise InvalidArgument(
                    f"{name} goes with --samples; a model is measured against the data of its "
                    "recipe"
                )
        folder = out or model
        check_folder(folder)
        card = measure(
            model, **drawing, features=features, fetch=fetch, precision=precision, device=device
        )
    folder.mkdir(parents=True, exist_ok=True)
    card.save(folder)
    typer.echo((folder / "card.md").read_text("utf-8"))
