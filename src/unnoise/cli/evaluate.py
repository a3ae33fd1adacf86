"""`unnoise evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .request import takes_request

if TYPE_CHECKING:
    from ..sampling import SampleRequest


@takes_request(
    without=("classes", "condition"),
    n="How many samples.  [as the recipe says]",
    seed="Seed of the samples.",
)
def evaluate(
    request: SampleRequest,
    model: Annotated[
        Path | None, typer.Argument(help="Folder of a trained model, such as runs/demo.")
    ] = None,
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
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for card.json, card.md and flawed.png.  [the model's; with --samples .]"
        ),
    ] = None,
) -> None:
    """Measure a model's samples against held-out data: card.json and card.md."""
    from ..errors import InvalidArgument
    from .output import check_folder

    if samples is not None:
        drawing = request.options() | {"part": part}
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
        card = measure(model, request=request, part=part, features=features, fetch=fetch)
    folder.mkdir(parents=True, exist_ok=True)
    card.save(folder)
    typer.echo((folder / "card.md").read_text("utf-8"))
