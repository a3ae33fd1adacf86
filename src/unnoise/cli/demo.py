"""`unnoise demo`: train, sample and measure on real digits; finished parts are reused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    budget: Annotated[
        str | None, typer.Option(help="Training time, instead of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
) -> None:
    """Train on 4,000 real digits, sample, measure: under six minutes on two cores."""
    from ..artifacts import load
    from ..artifacts.artifact import CONFIG
    from ..errors import InvalidArgument
    from ..evaluation import load_card
    from ..pipelines.measure import measure
    from ..recipes import load_recipe
    from ..safe_files.files import read_json
    from ..training.run import RECIPE
    from ..training.run import train as run
    from .output import program, write_grid

    if (out / CONFIG).is_file():
        if budget is not None or seed is not None:
            raise InvalidArgument(
                f"{out} holds a trained model, which --budget and --seed cannot change; remove the "
                "folder, or give another --out"
            )
        typer.echo(
            f"{out} holds a trained model: it is used again (remove the folder to start anew)"
        )
    else:
        overrides = [] if budget is None else [f"train.budget={budget}"]
        overrides += [] if seed is None else [f"train.seed={seed}"]
        recipe = load_recipe("mnist5k", overrides)
        run(recipe, out, resume=(out / RECIPE).is_file())
    began = time.perf_counter()
    weights = read_json(out / CONFIG)["weights_sha256"]
    card = load_card(out / "card.json") if (out / "card.json").is_file() else None
    known = card is not None and card.provenance.model_hash == weights
    if known and (out / "samples.png").is_file():
        typer.echo("samples.png and card.json are there already")
    if not known or not (out / "samples.png").is_file():
        model = load(out)
        made = model.sample(condition={"class": [c for c in range(10) for _ in range(16)]}, seed=1)
        write_grid(model, made, out / "samples.png")
    if card is None or not known:
        card = measure(out)
        card.save(out)
        typer.echo(f"sampled and measured in {time.perf_counter() - began:.0f} s")
    typer.echo(card.to_markdown())
    name = program()
    typer.echo(
        f"""model, samples, card and log are in {out}: samples.png, card.md, README.md, log.jsonl

try next:
  {name} sample {out} --class 7 --n 16 --guidance 2 --out sevens.png
  {name} sample {out} --n 40 --steps 5 --solver unipc --seed 1 --out fast.png
  {name} train digits --out runs/digits    (or your own pictures: train --data FOLDER)"""
    )
