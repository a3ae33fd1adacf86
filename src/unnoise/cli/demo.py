"""`unnoise demo`: the whole main job on real digits, reusing what is there."""

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
    """Train on 4,000 real digits, sample, measure: under seven minutes on two cores."""
    from ..artifacts import load
    from ..artifacts.model import CONFIG
    from ..pipelines.measure import measure
    from ..recipes import load_recipe
    from ..training.run import RECIPE
    from ..training.run import train as run
    from .output import write_samples

    overrides = [] if budget is None else [f"train.budget={budget}"]
    overrides += [] if seed is None else [f"train.seed={seed}"]
    recipe = load_recipe("mnist5k", overrides)
    if (out / CONFIG).is_file():
        typer.echo(
            f"{out} holds a trained model: it is used again (remove the folder to train anew)"
        )
    else:
        run(recipe, out, resume=(out / RECIPE).is_file())
    began = time.perf_counter()
    model = load(out)
    if (out / "samples.png").is_file() and (out / "card.json").is_file():
        typer.echo("samples.png and card.json are there already")
    else:
        made = model.sample(condition={"class": [c for c in range(10) for _ in range(16)]}, seed=1)
        write_samples(model, made, out / "samples.png")
        measure(out).save(out)
        typer.echo(f"sampled and measured in {time.perf_counter() - began:.0f} s")
    typer.echo((out / "card.md").read_text("utf-8"))
    typer.echo(
        f"""model, samples, card and log are in {out}: samples.png, card.md, README.md, log.jsonl

try next:
  unnoise sample {out} --class 7 --n 16 --guidance 2 --out sevens.png
  unnoise sample {out} --n 40 --steps 5 --solver unipc --seed 1 --out fast.png
  unnoise train --data PICTURES/ --budget 10m --out runs/mine     (a folder of your own pictures)"""
    )
