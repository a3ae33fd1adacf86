"""Each choice of a recipe, measured at equal CPU time.

    python benchmarks/recipe_search.py [--jobs 2] [--data digits] [--only NAME] [--keep]

Every row is the shipped recipe with one thing changed, trained from scratch on one thread for the
same CPU time, and measured as in time_to_quality.py: Fréchet distance over its floor and C2ST by
one fixed classifier, in 50 evaluations without guidance ("equal") and with the recipe's sampling
("own"). Digits at about 0.7 M parameters for 120 s, MNIST-5k for 300 s. One seed a row, and the
base with others: a difference smaller than that of its seeds is a tie. Finished runs are stored in
runs/recipe_search by a hash of their settings.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import side_by_side
import time_to_quality
import torch
from quality import ours
from quality.runs import Kept, Run, execute
from quality.task import SPLITS

from unnoise import load_recipe

ROOT = Path(__file__).parents[1]
NAME = "recipe_search"
SECONDS = {"digits": 120.0, "mnist5k": 300.0}
TIMES = "objective.times={kind: logit_normal, mean: 0.0, std: 1.0, stratified: true}"
VARIANTS: dict[str, dict[str, list[str]]] = {
    "digits": {
        "as shipped": [],
        "as shipped, seed 1": ["train.seed=1"],
        "batch 16": ["train.batch=16"],
        "cosine path": ["path.kind=cosine", "model.predicts=v"],
        "40 and 80 wide": ["network.widths=[40,80]"],
        "1.6 × fewer parameters": ["network.widths=[32,64]"],
        "batch 64": ["train.batch=64"],
        "Muon rate 0.02": ["train.optimizer.rate=0.02"],
        "logit-normal times": [TIMES],
        "AdamW alone": ["train.optimizer.kind=adamw", "train.optimizer.rate=2e-3"],
        "preconditioned": ["model.preconditioned=true"],
        "2.4 × the parameters": ["network.widths=[64,128]"],
        "cells of 2 × 2, 96 wide": ["network.patch=2", "network.widths=[96]", "network.blocks=3"],
        "linear schedule": ["train.schedule=linear"],
        "weight decay 0.1": ["train.optimizer.weight_decay=0.1"],
        "weight decay 0.3": ["train.optimizer.weight_decay=0.3"],
        "weight decay 0.3, seed 1": ["train.optimizer.weight_decay=0.3", "train.seed=1"],
        "condition left out 2 %": ["objective.condition_dropout=0.02"],
        "average γ = 16": ["train.ema.gamma=16"],
        "guided by 1.25, as many evaluations": ["sample.guidance=1.25", "sample.steps=8"],
    },
    "mnist5k": {
        "as shipped": [],
        "batch 64": ["train.batch=64"],
        "no patches, 1.1 M": [
            "network.patch=1", "network.widths=[32,64,128]", "network.blocks=1",
        ],
        "two blocks a level": ["network.blocks=2"],
        "patches of 4": ["network.patch=4", "network.widths=[160]", "network.blocks=4"],
        "half as wide again": ["network.widths=[96,192]"],
        "logit-normal times": [TIMES],
    },
}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Add this script's options to the parser."""
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--data", choices=tuple(VARIANTS), help="one of the data sets")
    parser.add_argument("--only", action="append", help="rows whose name has this in it")
    parser.add_argument("--keep", action="store_true", help="run nothing: tables of what is kept")
    parser.add_argument("--again", action="append", default=[], help="measure these rows anew")
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def runs_of(data: str, seconds: float) -> list[Run]:
    """Return the runs of a data set: the base with several seeds, then one run a choice."""
    runs = []
    for name, changed in VARIANTS[data].items():
        fixed = [f"train.budget={seconds}s", *SPLITS[data]]
        recipe = load_recipe(data, [*fixed, *changed])
        settings = {"peer": "unnoise", "recipe": ours.settings(recipe)}
        runs.append(Run(name, data, seconds, recipe.train.seed, settings))
    return runs


def row_of(found: dict[str, Any], floor: dict[str, float]) -> dict[str, Any]:
    """Return a run's row of the table."""
    equal, own = found["samplers"]["equal"], found["samplers"]["own"]
    return {
        "choice": found["name"],
        "parameters": found["parameters"],
        "updates": found["updates"],
        "× floor": round(equal["fd"] / floor["fd"], 3),
        "C2ST": round(equal["c2st"], 3),
        "accuracy": round(equal["accuracy"], 3),
        "own × floor": round(own["fd"] / floor["fd"], 3),
    }


def main() -> None:
    """Measure all runs, print the table, write the result."""
    args = side_by_side.arguments(__doc__, options)
    torch.set_num_threads(1)
    if args.worker:
        tree = json.loads(args.worker)
        run, folder = Run(**tree["run"]), Path(tree["folder"])
        task = time_to_quality.open_task(run.task, args, folder)
        return execute(run, task, folder, side_by_side.library())
    path = args.out / f"{NAME}.json"
    kept = Kept(args.out / "kept") if args.quick else Kept(ROOT / "runs" / NAME, path)
    data: dict[str, Any] = {}
    for name in [args.data] if args.data else ["digits"] if args.quick else list(VARIANTS):
        task = time_to_quality.open_task(name, args, kept.folder)
        bounds = task.bounds()
        planned = runs_of(name, 2.0 if args.quick else SECONDS[name])
        planned = planned[:2] if args.quick else planned
        time_to_quality.measure(planned, args, kept, __file__)
        found = [result for run in planned if (result := kept(run))]
        rows = [row_of(result, bounds["floor"]) for result in found]
        print(f"\n{name}, {SECONDS[name]:g} CPU seconds; floor {bounds['floor']['fd']:.3f}")
        print(side_by_side.table(rows))
        data[name] = {"bounds": bounds, "table": rows, "runs": found, "tries": []}
    if path.exists() and not args.quick:  # other data sets stay
        data = {**json.loads(path.read_text("utf-8"))["data"], **data}
    side_by_side.write(NAME, {"seconds": SECONDS, "data": data}, args.out)


if __name__ == "__main__":
    main()
