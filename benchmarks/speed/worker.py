"""One of the processes of a training run, as a launcher starts it: losses and their cost.

    torchrun --nproc_per_node 2 benchmarks/speed/worker.py OUT UPDATES MODEL override…

Trains the shipped digits recipe with the overrides. The first process writes OUT, a JSON file: the
losses, seconds of CPU and of the clock an update (the first three not counted), CPU time summed
over the processes; and saves the model to the folder MODEL unless that is "-".
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch

WARM = 3


def main() -> None:
    """Train, and write losses and times."""
    out, updates, folder, *overrides = sys.argv[1:]
    torch.set_num_threads(1)
    from unnoise.artifacts import Model
    from unnoise.recipes import build_denoiser, build_objective, load_recipe, open_parts
    from unnoise.training import Player, Training

    count = int(updates)
    recipe = load_recipe("digits", [*overrides, f"train.steps={count}"])
    data = open_parts(recipe)[1]["train"]
    denoiser = build_denoiser(
        recipe.path, recipe.network, recipe.model, data.spec, recipe.train.seed
    )
    player = Player.of(denoiser, build_objective(recipe.objective), recipe.train)
    training = Training(player, data, recipe.train, recipe.model.conditional)
    losses, spent, passed = [], [], []
    updating = training.updates()
    for _ in range(count):
        cpu, wall = time.process_time(), time.perf_counter()
        losses.append(float(next(updating).loss))
        spent.append(time.process_time() - cpu)
        passed.append(time.perf_counter() - wall)
    cpu = training.processes.sum(torch.tensor(statistics.median(spent[WARM:])))
    if training.processes.first:
        result = {
            "losses": losses,
            "cpu": float(cpu),
            "wall": statistics.median(passed[WARM:]),
            "processes": training.processes.count,
        }
        Path(out).write_text(json.dumps(result), encoding="utf-8")
        if folder != "-":
            modules = {"denoiser": denoiser.eval().requires_grad_(False)}
            Model(modules, recipe, data.spec, {"updates": count}).save(folder)


if __name__ == "__main__":
    main()
