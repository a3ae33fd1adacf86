"""The demo's recipe on a device: how good its samples are after some seconds of training."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from side_by_side import table

from unnoise import load_recipe
from unnoise.artifacts import Model
from unnoise.errors import DataError
from unnoise.pipelines.measure import measure
from unnoise.recipes import open_parts
from unnoise.training.run import train

BUDGETS = (8, 30)  # seconds
SHORT = ["train.budget=null", "train.steps=30", "network.widths=[8, 16]", "train.reports=1"]
FIGURES = ("frechet", "frechet_ratio", "c2st", "accuracy")


def recipe_name() -> tuple[str, str | None]:
    """Return the demo's recipe, or the digits' with the reason where its data cannot be had."""
    try:
        open_parts(load_recipe("mnist5k"))
    except DataError as error:
        return "digits", str(error)
    return "mnist5k", None


def quality(device: str, quick: bool) -> dict[str, Any]:
    """Return a row for each budget: updates, figures of the card, seconds of sampling."""
    name, why = ("digits", "quick") if quick else recipe_name()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for budget in (None,) if quick else BUDGETS:
            out = Path(folder) / f"{budget}s"
            length = [f"train.budget={budget}s"] if budget else SHORT
            began = time.perf_counter()
            train(load_recipe(name, length), out, tensorboard=False)
            trained = time.perf_counter() - began
            rows.append({"budget s": budget, **judged(out, device, quick)})
            rows[-1]["wall s of training"] = round(trained, 1)
            print(table(rows), flush=True)
    return {"recipe": name, "why not mnist5k": why, "rows": rows}


def judged(folder: Path, device: str, quick: bool) -> dict[str, Any]:
    """Return what a model's samples are worth, and the time they took."""
    model = Model.load(folder, device=device)
    count = 40 if quick else 1000
    model.sample(count, seed=5)  # warm
    began = time.perf_counter()
    model.sample(count, seed=6)
    sampling = time.perf_counter() - began
    if torch.device(device).type == "cuda":
        assert next(model.denoiser.parameters()).is_cuda
    began = time.perf_counter()
    features = "pca" if quick else None  # no classifier has to learn then
    card = measure(folder, n=count, device=device, features=features)
    row = {
        "updates": model.training["updates"],
        "precision": model.precision,
        "samples a second": round(count / sampling, 1),
        "seconds of measuring": round(time.perf_counter() - began, 1),
    }
    for figure in FIGURES:
        metric = card.metrics.get(figure)
        if metric is None:
            continue
        row[figure] = float(f"{metric.value:.4g}")
        row[f"{figure} floor"] = None if metric.floor is None else float(f"{metric.floor:.4g}")
    return row
